// Which runs a media panel asks for, and which of their points.
import type { Selection } from "../api/bucketLoader";
import type { MediaRun } from "./types";

/** Runs side by side; more are said, not shown. */
export const COLUMNS_MAX = 6;
/** Histograms and lines of so many runs lie in one drawing. */
export const OVERLAID_MAX = 20;

/** Each run once, in order. */
export function distinctRuns(lines: readonly MediaRun[]): MediaRun[] {
  return [...new Map(lines.map((line) => [line.path, line])).values()];
}

/** Of a run that is shown in parts: all writers of the parts together. Null: the whole of each run. */
export function selectionOf(lines: readonly MediaRun[]): Selection | null {
  const parts = lines.flatMap(({ part }) => (part === undefined ? [] : [part.selection]));
  if (parts.length === 0 || parts.length < lines.length) return null;
  const isAllWriters = parts.some(({ writers }) => writers.length === 0);
  return {
    writers: isAllWriters ? [] : [...new Set(parts.flatMap(({ writers }) => writers))],
    isAllAttempts: parts.some(({ isAllAttempts }) => isAllAttempts),
  };
}
