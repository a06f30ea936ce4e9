// Times of lines as text, and what a person types to go to one. Pure but for the zone of this browser.

const DAY_MS = 86_400_000;

/** hh:mm:ss.mmm of this browser's zone. */
export function formatClock(timeMs: number): string {
  const time = new Date(timeMs);
  return `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}.${pad(time.getMilliseconds(), 3)}`;
}

/** The whole date and time to the millisecond: 2026-11-27 09:30:12.345. */
export function formatStamp(timeMs: number): string {
  const time = new Date(timeMs);
  return `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())} ${formatClock(timeMs)}`;
}

/** A time for a field or a label: without the date if it is of the same day as the run's first line, without zeros at the end. */
export function formatShortStamp(timeMs: number, firstMs: number): string {
  const full = new Date(timeMs).toDateString() === new Date(firstMs).toDateString() ? formatClock(timeMs) : formatStamp(timeMs);
  return full.replace(/\.000$/, "");
}

/**
 * Reads hh:mm, hh:mm:ss, a date, or a date with a time, in this browser's zone. A time alone is the first one of that
 * name from the first line on; if that is behind the last line, the one of the first line's day. Null: not to be read.
 */
export function readTyped(text: string, firstMs: number, lastMs: number): number | null {
  const found = /^\s*(?:(\d{4})-(\d{1,2})-(\d{1,2}))?[ T]*(?:(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?)?(Z)?\s*$/.exec(text);
  if (found === null || text.trim() === "") return null;
  const [year, month, day, hours, minutes, seconds] = found.slice(1, 7).map((part: string | undefined) => Number(part ?? 0));
  const milliseconds = Number((found[7] ?? "0").padEnd(3, "0"));
  if ((hours ?? 0) > 23 || (minutes ?? 0) > 59 || (seconds ?? 0) > 59) return null;
  if (found[1] !== undefined) {
    const parts = [year ?? 0, (month ?? 1) - 1, day ?? 1, hours ?? 0, minutes ?? 0, seconds ?? 0, milliseconds] as const;
    const date = new Date(...parts);
    if (date.getMonth() !== parts[1] || date.getDate() !== parts[2]) return null;
    return found[8] === undefined ? date.getTime() : Date.UTC(...parts);
  }
  if (found[4] === undefined || found[8] !== undefined) return null;
  const onFirstDay = new Date(firstMs).setHours(hours ?? 0, minutes ?? 0, seconds ?? 0, milliseconds);
  // The first line of 09:30:12.400 is what 09:30 means, too.
  if (onFirstDay >= firstMs - 60_000) return onFirstDay;
  return onFirstDay + DAY_MS <= lastMs ? onFirstDay + DAY_MS : onFirstDay;
}

function pad(value: number, width = 2): string {
  return String(value).padStart(width, "0");
}
