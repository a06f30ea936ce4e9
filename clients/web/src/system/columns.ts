// Turns what the store gave of one line into the columns that charts draw: one series, in order, with gaps where nothing came. Pure.
import type { SystemColumns } from "../api/system";
import type { BucketColumns } from "../charts/series";

/** So many usual distances without a sample are a gap. */
const GAP_FACTOR = 3.5;
/** Below it there is no usual distance: the first samples of a run come faster than the later ones. */
const GAP_SAMPLES_MIN = 5;

/**
 * The parts are of the writers that told of one node or process, mostly one after the other. x is milliseconds since the
 * origin; values are multiplied by the factor.
 */
export function toLine(parts: readonly SystemColumns[], originMs: number, factor: number): BucketColumns {
  const [first] = parts;
  const rows = parts
    .flatMap((part) => Array.from(part.timesMs, (timeMs, i) => ({ part, i, timeMs })))
    .sort((a, b) => a.timeMs - b.timeMs);
  const width = Math.max(1, ...parts.map(({ widthMs }) => widthMs));
  const gapMs = gapOf(rows.map(({ timeMs }) => timeMs), width);
  const isRaw = parts.every(({ counts }) => counts.every((count) => count <= 1));
  const out = new Rows(rows.length * 2);
  let before = NaN;
  for (const { part, i, timeMs } of rows) {
    if (timeMs - before > gapMs) out.add((before + timeMs) / 2 - originMs, NaN, NaN, NaN, NaN, 0);
    const at = (column: Float64Array): number => (column[i] as number) * factor;
    out.add(timeMs - originMs, at(part.lows), at(part.highs), at(part.means), at(part.lasts), part.counts[i] as number);
    before = timeMs;
  }
  return out.columns(first?.metric ?? "", width, isRaw, originMs);
}

/** Beyond which distance two samples are not joined. */
export function gapOf(timesMs: readonly number[], widthMs: number): number {
  if (timesMs.length < GAP_SAMPLES_MIN) return Infinity;
  const distances: number[] = [];
  for (let i = 1; i < timesMs.length; i++) distances.push((timesMs[i] as number) - (timesMs[i - 1] as number));
  distances.sort((a, b) => a - b);
  return GAP_FACTOR * Math.max(distances[distances.length >> 1] as number, widthMs);
}

/** Columns that grow. */
class Rows {
  private readonly data: readonly Float64Array[];
  private length = 0;

  constructor(capacity: number) {
    this.data = Array.from({ length: 6 }, () => new Float64Array(capacity));
  }

  add(...values: readonly number[]): void {
    values.forEach((value, column) => {
      (this.data[column] as Float64Array)[this.length] = value;
    });
    this.length++;
  }

  columns(metric: string, width: number, isRaw: boolean, originMs: number): BucketColumns {
    const [xs, lows, highs, means, lasts, counts] = this.data.map((column) => column.subarray(0, this.length)) as [
      Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array,
    ];
    const isMarked = lasts.some((value, i) => counts[i] !== 0 && !Number.isFinite(value));
    const marks = (fits: (value: number) => boolean): Float64Array =>
      isMarked ? lasts.map((value, i) => (counts[i] !== 0 && fits(value) ? 1 : 0)) : new Float64Array(0);
    return {
      runPath: "",
      metric,
      width,
      isRaw,
      firstSteps: xs,
      lastSteps: xs,
      timesMs: xs.map((x) => x + originMs),
      lows,
      highs,
      means,
      lasts,
      counts,
      nanCounts: marks(Number.isNaN),
      positiveInfinityCounts: marks((value) => value === Infinity),
      negativeInfinityCounts: marks((value) => value === -Infinity),
      pointCount: counts.reduce((sum, count) => sum + count, 0),
    };
  }
}
