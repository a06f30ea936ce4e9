// The lines that are here: a stretch of a run's log, which grows at both ends, takes changes in, and stays within a limit. Pure.
import type { ConsoleLine } from "../api/console";

/** Lines kept; what is farthest from the reader goes first. */
export const LINES_MAX = 50_000;

/**
 * Where to read on at one end of the stretch: the page behind `token`, which belongs to a request with that bound of
 * time, or the first page of such a request.
 */
export interface Cursor {
  readonly timeMs: number | null;
  readonly token: string;
}

/** A stretch of a log. Lines lie by (time, writer, line), each once. */
export interface LineWindow {
  readonly lines: readonly ConsoleLine[];
  /** Null: the first line of all is here. */
  readonly earlier: Cursor | null;
  /** Null: the last line of all is here. */
  readonly later: Cursor | null;
  /** Matches before the first line here that were here once. */
  readonly matchesBefore: number;
  /** Matches among the lines here. */
  readonly matchesHere: number;
}

export const EMPTY_WINDOW: LineWindow = { lines: [], earlier: null, later: null, matchesBefore: 0, matchesHere: 0 };

/** The order of a log: negative if a comes before b. */
export function compareLines(a: ConsoleLine, b: ConsoleLine): number {
  return a.timeMs - b.timeMs || a.writer - b.writer || a.line - b.line;
}

/** A window of those lines. */
export function windowOf(lines: readonly ConsoleLine[], earlier: Cursor | null, later: Cursor | null): LineWindow {
  return { lines, earlier, later, matchesBefore: 0, matchesHere: countMatches(lines) };
}

/** Joins two sorted lists; of a line that is in both the one of `newer` is taken, at the newer place. */
export function mergeLines(older: readonly ConsoleLine[], newer: readonly ConsoleLine[]): readonly ConsoleLine[] {
  const first = newer[0];
  if (first === undefined) return older;
  const last = older.at(-1);
  if (last === undefined) return newer;
  const replaced = new Map(newer.map((line) => [line.key, line]));
  const kept = older.filter((line) => !replaced.has(line.key));
  const lastKept = kept.at(-1);
  if (lastKept === undefined || compareLines(lastKept, first) < 0) return kept.concat(newer);
  const merged: ConsoleLine[] = [];
  let i = 0;
  for (const line of newer) {
    for (let one = kept[i]; one !== undefined && compareLines(one, line) < 0; one = kept[++i]) merged.push(one);
    merged.push(line);
  }
  for (; i < kept.length; i++) merged.push(kept[i] as ConsoleLine);
  return merged;
}

/** Takes in a page that lies before the window. A match that comes again as a neighbour stays a match. */
export function addEarlier(window: LineWindow, page: readonly ConsoleLine[], earlier: Cursor | null): LineWindow {
  const lines = mergeLines(page, keepMatches(window.lines, page));
  const matchesHere = countMatches(lines);
  return { ...window, lines, earlier, matchesHere, matchesBefore: Math.max(0, window.matchesBefore - (matchesHere - window.matchesHere)) };
}

/** Takes in a page that lies behind the window. */
export function addLater(window: LineWindow, page: readonly ConsoleLine[], later: Cursor | null): LineWindow {
  const lines = mergeLines(window.lines, keepMatches(page, window.lines));
  return { ...window, lines, later, matchesHere: countMatches(lines) };
}

export interface Changed {
  readonly window: LineWindow;
  /** Lines that were not here before and stand behind what was the last one. */
  readonly appended: number;
}

/**
 * Takes in what changed. Only a window that holds the end may take what lies behind its last line, and only one that
 * holds the beginning what lies before its first: anything else would hide a gap.
 */
export function applyChanges(window: LineWindow, changes: readonly ConsoleLine[]): Changed {
  const first = window.lines[0];
  const last = window.lines.at(-1);
  const here = new Map(window.lines.map((line) => [line.key, line]));
  const wanted = changes.filter((line) => {
    const known = here.get(line.key);
    if (known !== undefined) return known.text !== line.text || known.timeMs !== line.timeMs || known.stream !== line.stream;
    if (window.earlier !== null && first !== undefined && compareLines(line, first) < 0) return false;
    return window.later === null || (last !== undefined && compareLines(line, last) < 0);
  });
  if (wanted.length === 0) return { window, appended: 0 };
  const lines = mergeLines(window.lines, keepMatches(wanted, window.lines));
  const appended = wanted.filter((line) => !here.has(line.key) && (last === undefined || compareLines(line, last) > 0)).length;
  return { window: { ...window, lines, matchesHere: countMatches(lines) }, appended };
}

/** Drops what exceeds the limit, at the end that is farther from the reader. */
export function trimWindow(window: LineWindow, readerIndex: number, limit: number = LINES_MAX): LineWindow {
  const { lines } = window;
  const surplus = lines.length - limit;
  if (surplus <= 0) return window;
  if (readerIndex >= lines.length / 2) {
    const kept = lines.slice(surplus);
    const matchesHere = countMatches(kept);
    const matchesBefore = window.matchesBefore + window.matchesHere - matchesHere;
    return { ...window, lines: kept, earlier: { timeMs: kept[0]?.timeMs ?? null, token: "" }, matchesHere, matchesBefore };
  }
  const kept = lines.slice(0, limit);
  return { ...window, lines: kept, later: { timeMs: kept.at(-1)?.timeMs ?? null, token: "" }, matchesHere: countMatches(kept) };
}

/** Index of the first line at that place or behind it. */
export function placeIndex(lines: readonly ConsoleLine[], isBefore: (line: ConsoleLine) => boolean): number {
  let low = 0;
  let high = lines.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isBefore(lines[middle] as ConsoleLine)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Index of the line with that key; -1 if it is not here. */
export function indexOfKey(lines: readonly ConsoleLine[], key: string): number {
  return lines.findIndex((line) => line.key === key);
}

function countMatches(lines: readonly ConsoleLine[]): number {
  let count = 0;
  for (const { isMatch } of lines) if (isMatch) count++;
  return count;
}

/** The lines, where one that is a match among the others is one here, too. */
function keepMatches(lines: readonly ConsoleLine[], others: readonly ConsoleLine[]): readonly ConsoleLine[] {
  if (lines.every(({ isMatch }) => isMatch)) return lines;
  const matches = new Set(others.flatMap(({ key, isMatch }) => (isMatch ? [key] : [])));
  return lines.map((line) => (!line.isMatch && matches.has(line.key) ? { ...line, isMatch: true } : line));
}
