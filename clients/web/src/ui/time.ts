// Times and durations as text, and a clock that components can follow.
import { useEffect, useState } from "react";

/** A duration in its two largest units: 12.4 s, 3 m 12 s, 1 h 02 m, 3 d 04 h. */
export function formatDuration(durationMs: number): string {
  const seconds = Math.max(0, durationMs) / 1000;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
  const whole = Math.floor(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${pad(whole % 60)} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86_400)} d ${pad(Math.floor((whole % 86_400) / 3600))} h`;
}

/** How long ago, in one unit: just now, 12 s ago, 3 min ago, 2 h ago, 5 days ago. A time ahead (clocks differ) is just now. */
export function formatAgo(timeMs: number, nowMs: number): string {
  const seconds = Math.floor((nowMs - timeMs) / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86_400);
  return days === 1 ? "yesterday" : `${days} days ago`;
}

const FULL: Intl.DateTimeFormatOptions = {
  year: "numeric",
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
  timeZoneName: "short",
};

/** The whole date and time, with the zone. */
export function formatTime(timeMs: number): string {
  return new Date(timeMs).toLocaleString(undefined, FULL);
}

/** The time now, renewed at the interval. */
export function useNow(intervalMs: number): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => {
      setNow(Date.now());
    }, intervalMs);
    return () => {
      clearInterval(timer);
    };
  }, [intervalMs]);
  return now;
}

/** True, and for that long after it became false. */
export function useLingering(isTrue: boolean, durationMs: number): boolean {
  const [isLingering, setLingering] = useState(isTrue);
  if (isTrue && !isLingering) setLingering(true);
  useEffect(() => {
    if (isTrue || !isLingering) return;
    const timer = setTimeout(() => {
      setLingering(false);
    }, durationMs);
    return () => {
      clearTimeout(timer);
    };
  }, [isTrue, isLingering, durationMs]);
  return isLingering;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}
