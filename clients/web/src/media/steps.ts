// Which value of each run stands at the step that is looked at.
import type { MediaEntry, MediaSeries } from "../api/media";

/** All steps that some run has a value at, ascending. */
export function unionSteps(series: readonly MediaSeries[]): number[] {
  return [...new Set(series.flatMap(({ entries }) => entries.map(({ step }) => step)))].sort((a, b) => a - b);
}

/** Place in `steps` of the last one at or before `at`; null stands for the last. The first where all lie behind. */
export function placeOf(steps: readonly number[], at: number | null): number {
  if (at === null) return steps.length - 1;
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((steps[middle] as number) <= at) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}

/** What a run has at its last step at or before `at` (else at its first): one entry for each writer that logged there. */
export function entriesAt(series: MediaSeries, at: number | null): readonly MediaEntry[] {
  const steps = unionSteps([series]);
  const step = steps[placeOf(steps, at)];
  return series.entries.filter((entry) => entry.step === step);
}
