// The columns that charts draw: one downsampled series of one run and metric, as the store gave it.

/** Columns of one length; bucket i holds the points with steps firstSteps[i] … lastSteps[i]. */
export interface BucketColumns {
  readonly runPath: string;
  readonly metric: string;
  /** Steps per bucket. */
  readonly width: number;
  /** True if each bucket is one stored point. */
  readonly isRaw: boolean;
  readonly firstSteps: Float64Array;
  readonly lastSteps: Float64Array;
  /** Unix milliseconds of the point at the largest step. */
  readonly timesMs: Float64Array;
  /** Smallest, largest and mean finite value; NaN if none is finite. */
  readonly lows: Float64Array;
  readonly highs: Float64Array;
  readonly means: Float64Array;
  /** Value at the largest step, whatever it is. */
  readonly lasts: Float64Array;
  readonly counts: Float64Array;
  /** Non-finite points; empty if there are none in the series. */
  readonly nanCounts: Float64Array;
  readonly positiveInfinityCounts: Float64Array;
  readonly negativeInfinityCounts: Float64Array;
  /** Points in the range, all buckets together. */
  readonly pointCount: number;
}

/** Where bucket i stands on the x axis: in its middle, a raw point on its step. */
export function bucketX(series: BucketColumns, i: number): number {
  return ((series.firstSteps[i] as number) + (series.lastSteps[i] as number)) / 2;
}

/** Index of the first bucket whose last step is at or after x; the length if there is none. */
export function firstAtOrAfter(series: BucketColumns, x: number): number {
  const ends = series.lastSteps;
  let low = 0;
  let high = ends.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ends[middle] as number) < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The buckets that a drawing of [first, last] needs: those inside, and one beyond each end so that the line leaves the view. */
export function visibleSlice(series: BucketColumns, first: number, last: number): [number, number] {
  const length = series.lastSteps.length;
  const from = Math.max(0, firstAtOrAfter(series, first) - 1);
  const to = Math.min(length, firstAtOrAfter(series, last) + 2);
  return [from, Math.max(from, to)];
}

/** Index of the bucket nearest to x; -1 if the series is empty. */
export function nearestBucket(series: BucketColumns, x: number): number {
  const length = series.lastSteps.length;
  if (length === 0) return -1;
  const right = Math.min(length - 1, firstAtOrAfter(series, x));
  if (right === 0) return 0;
  return Math.abs(bucketX(series, right - 1) - x) <= Math.abs(bucketX(series, right) - x) ? right - 1 : right;
}

/** Smallest and largest step of all series; null if none has a point. */
export function stepExtent(all: readonly BucketColumns[]): [number, number] | null {
  let first = Infinity;
  let last = -Infinity;
  for (const { firstSteps, lastSteps } of all) {
    const length = firstSteps.length;
    if (length === 0) continue;
    first = Math.min(first, firstSteps[0] as number);
    last = Math.max(last, lastSteps[length - 1] as number);
  }
  return first <= last ? [first, last] : null;
}

export interface ValueExtentOptions {
  readonly first: number;
  readonly last: number;
  /** Logarithmic axis: only values above zero count. */
  readonly isLog: boolean;
  /** Leave out the outermost 1 % of buckets at each side. */
  readonly isClipped: boolean;
}

/** Smallest and largest value to show between two steps; null if there is no finite one. */
export function valueExtent(all: readonly BucketColumns[], options: ValueExtentOptions): [number, number] | null {
  const { first, last, isLog, isClipped } = options;
  const lows: number[] = [];
  const highs: number[] = [];
  for (const series of all) {
    const [from, to] = visibleSlice(series, first, last);
    for (let i = from; i < to; i++) {
      if ((series.lastSteps[i] as number) < first || (series.firstSteps[i] as number) > last) continue;
      const low = series.lows[i] as number;
      const high = series.highs[i] as number;
      if (isLog) {
        if (high > 0) highs.push(high);
        const floor = low > 0 ? low : (series.means[i] as number);
        if (floor > 0) lows.push(floor);
        else if (high > 0) lows.push(high);
      } else if (low <= high) {
        lows.push(low);
        highs.push(high);
      }
    }
  }
  if (lows.length === 0) return null;
  if (!isClipped || lows.length < 20) return [minimum(lows), maximum(highs)];
  lows.sort((a, b) => a - b);
  highs.sort((a, b) => a - b);
  const cut = Math.max(1, Math.floor(lows.length * 0.01));
  return [lows[cut] as number, highs[highs.length - 1 - cut] as number];
}

/** True if a few outermost values take more than nine tenths of the height, so that the rest lies flat. */
export function isFlattened(all: readonly BucketColumns[], options: Omit<ValueExtentOptions, "isClipped">): boolean {
  const whole = valueExtent(all, { ...options, isClipped: false });
  const clipped = valueExtent(all, { ...options, isClipped: true });
  if (whole === null || clipped === null || options.isLog) return false;
  const height = whole[1] - whole[0];
  return height > 0 && (clipped[1] - clipped[0]) / height < 0.1;
}

export interface NonFinite {
  readonly nan: number;
  readonly positiveInfinity: number;
  readonly negativeInfinity: number;
}

/** Non-finite points of a series, by kind. */
export function countNonFinite(series: BucketColumns): NonFinite {
  return {
    nan: sum(series.nanCounts),
    positiveInfinity: sum(series.positiveInfinityCounts),
    negativeInfinity: sum(series.negativeInfinityCounts),
  };
}

/** Buckets of which nothing can be drawn on a logarithmic axis. */
export function countNotPositive(series: BucketColumns): number {
  let count = 0;
  for (const high of series.highs) if (high <= 0) count++;
  return count;
}

/** Extent with air around it; a flat line gets a window about it. */
export function padded([low, high]: [number, number], isLog: boolean): [number, number] {
  if (isLog) {
    const ratio = high / low;
    if (!(ratio > 1)) return [low / 2, high * 2];
    const air = Math.pow(ratio, 0.05);
    return [low / air, high * air];
  }
  if (low === high) {
    const air = low === 0 ? 1 : Math.abs(low) * 0.1;
    return [low - air, high + air];
  }
  const air = (high - low) * 0.06;
  return [low - air, high + air];
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function minimum(values: readonly number[]): number {
  let least = Infinity;
  for (const value of values) if (value < least) least = value;
  return least;
}

function maximum(values: readonly number[]): number {
  let most = -Infinity;
  for (const value of values) if (value > most) most = value;
  return most;
}
