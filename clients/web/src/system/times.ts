// The time axis: since the run's start, or by the clock of this browser's zone. x is milliseconds since an origin. Pure but for the zone.
import { formatMoment } from "../charts/scales";
import { formatDuration } from "../ui/time";

export type TimeMode = "start" | "clock";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Distances between ticks that read as whole times. */
export const TIME_INCREMENTS: readonly number[] = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30].map((count) => count * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((count) => count * MINUTE),
  ...[1, 2, 3, 6, 12].map((count) => count * HOUR),
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((count) => count * DAY),
];

/** Where x is 0: at the start; by the clock at the midnight before it, so that ticks fall on whole hours. */
export function originOf(mode: TimeMode, startMs: number): number {
  return mode === "start" ? startMs : new Date(startMs).setHours(0, 0, 0, 0);
}

/** Labels of ticks, all as exact as their distance asks. */
export function timeLabels(mode: TimeMode, originMs: number, ticks: readonly number[]): string[] {
  const gap = ticks.length > 1 ? (ticks[1] as number) - (ticks[0] as number) : MINUTE;
  return ticks.map((tick) => (mode === "start" ? sinceStart(tick, gap) : byClock(originMs + tick, gap)));
}

/** What the box beside the pointer says of a moment. */
export function momentTitle(timeMs: number, startMs: number): string {
  const offset = timeMs - startMs;
  const since = offset < 0 ? `${formatDuration(-offset)} before the start` : `${formatDuration(offset)} after the start`;
  return `${since}  ·  ${formatMoment(timeMs)}`;
}

function sinceStart(ms: number, gap: number): string {
  if (ms < 0) return `−${sinceStart(-ms, gap)}`;
  if (ms === 0) return "0";
  const [days, hours, minutes, seconds] = [Math.floor(ms / DAY), Math.floor((ms % DAY) / HOUR), Math.floor((ms % HOUR) / MINUTE), (ms % MINUTE) / SECOND];
  if (gap >= DAY) return `${days}d`;
  if (gap >= HOUR) return days > 0 ? (hours === 0 ? `${days}d` : `${days}d ${hours}h`) : `${hours}h`;
  const ofDay = days > 0 ? `${days}d ` : "";
  if (gap >= MINUTE) return days > 0 || hours > 0 ? `${ofDay}${hours}h${minutes === 0 ? "" : ` ${minutes}m`}` : `${minutes}m`;
  const shown = gap >= SECOND ? pad(Math.round(seconds)) : seconds.toFixed(gap >= 100 ? 1 : gap >= 10 ? 2 : 3).padStart(gap >= 100 ? 4 : gap >= 10 ? 5 : 6, "0");
  if (days > 0 || hours > 0) return `${ofDay}${hours}:${pad(minutes)}:${shown}`;
  return minutes > 0 ? `${minutes}:${shown}` : `${shown.replace(/^0(?=\d)/, "")}s`;
}

function byClock(timeMs: number, gap: number): string {
  const time = new Date(timeMs);
  const [hours, minutes, seconds] = [time.getHours(), time.getMinutes(), time.getSeconds()];
  if (gap >= DAY || (gap >= MINUTE && hours === 0 && minutes === 0)) return time.toLocaleDateString(undefined, { month: "short", day: "numeric" });
  const ofMinute = `${pad(hours)}:${pad(minutes)}`;
  if (gap >= MINUTE) return ofMinute;
  const fraction = gap >= SECOND ? "" : `.${String(time.getMilliseconds()).padStart(3, "0").slice(0, gap >= 100 ? 1 : gap >= 10 ? 2 : 3)}`;
  return `${ofMinute}:${pad(seconds)}${fraction}`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}
