// Histograms of many steps on common bins, so that they draw side by side.
import type { Bins } from "../api/media";

export interface HeatMap {
  readonly low: number;
  readonly high: number;
  readonly binCount: number;
  /** Share of its column that lies in each bin: column after column, the lowest bin first. */
  readonly shares: Float64Array;
  readonly mostShare: number;
}

/** Least and greatest edge of all that hold something; null if none does. */
export function extentOf(all: readonly Bins[]): [number, number] | null {
  let low = Infinity;
  let high = -Infinity;
  for (const { edges, counts } of all) {
    const first = counts.findIndex((count) => count > 0);
    if (first < 0) continue;
    let last = counts.length - 1;
    while ((counts[last] as number) <= 0) last--;
    low = Math.min(low, edges[first] as number);
    high = Math.max(high, edges[last + 1] as number);
  }
  return low <= high ? [low, high] : null;
}

/**
 * Counts of `bins` on equal bins from low to high. A bin's values count as spread evenly over it; what all lies on one
 * value (an empty bin width) goes where that value is.
 */
export function rebin({ edges, counts }: Bins, low: number, high: number, binCount: number): Float64Array {
  const into = new Float64Array(binCount);
  const width = (high - low) / binCount;
  if (!(width > 0)) {
    into[0] = counts.reduce((sum, count) => sum + count, 0);
    return into;
  }
  const place = (value: number): number => Math.min(binCount - 1, Math.max(0, Math.floor((value - low) / width)));
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i] as number;
    if (!(count > 0)) continue;
    const left = edges[i] as number;
    const right = edges[i + 1] as number;
    const first = place(left);
    // A bin does not hold its upper edge.
    const last = Math.max(first, Math.min(binCount - 1, Math.ceil((right - low) / width) - 1));
    if (first === last || !(right > left)) {
      into[first] = (into[first] as number) + count;
      continue;
    }
    for (let k = first; k <= last; k++) {
      const from = Math.max(left, low + k * width);
      const to = Math.min(right, low + (k + 1) * width);
      into[k] = (into[k] as number) + (count * Math.max(0, to - from)) / (right - left);
    }
  }
  return into;
}

/** The shares of all columns on common bins; null if no column has a value. */
export function heatMap(columns: readonly Bins[], binCount: number): HeatMap | null {
  const extent = extentOf(columns);
  if (extent === null) return null;
  const [low, high] = widened(extent);
  const shares = new Float64Array(columns.length * binCount);
  let mostShare = 0;
  columns.forEach((bins, column) => {
    const counts = rebin(bins, low, high, binCount);
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (total <= 0) return;
    for (let k = 0; k < binCount; k++) {
      const share = (counts[k] as number) / total;
      shares[column * binCount + k] = share;
      mostShare = Math.max(mostShare, share);
    }
  });
  return { low, high, binCount, shares, mostShare };
}

/** A range that can be drawn: of one value only, a little around it. */
export function widened([low, high]: readonly [number, number]): [number, number] {
  if (high > low) return [low, high];
  const margin = Math.abs(low) / 1_000 || 0.5;
  return [low - margin, high + margin];
}

/** Left and right edge of each column on the x axis: half way to its neighbours. */
export function columnEdges(steps: readonly number[]): Float64Array {
  const edges = new Float64Array(steps.length + 1);
  for (let i = 1; i < steps.length; i++) edges[i] = ((steps[i - 1] as number) + (steps[i] as number)) / 2;
  if (steps.length === 0) return edges;
  const first = steps[0] as number;
  const last = steps[steps.length - 1] as number;
  edges[0] = steps.length > 1 ? first - ((edges[1] as number) - first) : first - 0.5;
  edges[steps.length] = steps.length > 1 ? last + (last - (edges[steps.length - 1] as number)) : last + 0.5;
  return edges;
}
