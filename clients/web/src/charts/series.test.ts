import { describe, expect, it } from "vitest";
import {
  bucketX,
  type BucketColumns,
  countNonFinite,
  isFlattened,
  nearestBucket,
  padded,
  stepExtent,
  valueExtent,
  visibleSlice,
} from "./series";

export function series(steps: number[], values: number[], more: Partial<BucketColumns> = {}): BucketColumns {
  const column = Float64Array.from(values);
  const none = new Float64Array(0);
  return {
    runPath: "e/p/r",
    metric: "loss",
    width: 1,
    isRaw: true,
    firstSteps: Float64Array.from(steps),
    lastSteps: Float64Array.from(steps),
    timesMs: Float64Array.from(steps),
    lows: column,
    highs: column,
    means: column,
    lasts: column,
    counts: Float64Array.from(steps.map(() => 1)),
    nanCounts: none,
    positiveInfinityCounts: none,
    negativeInfinityCounts: none,
    pointCount: steps.length,
    ...more,
  };
}

const ALL = { first: -1e9, last: 1e9, isLog: false, isClipped: false };

describe("buckets on the x axis", () => {
  it("stand in the middle of their steps", () => {
    expect(bucketX(series([8], [1], { lastSteps: Float64Array.of(15) }), 0)).toBe(11.5);
  });

  it("are cut to the view with one beyond each end", () => {
    const ten = series([0, 10, 20, 30, 40, 50], [0, 1, 2, 3, 4, 5]);
    expect(visibleSlice(ten, 20, 30)).toEqual([1, 5]);
    expect(visibleSlice(ten, -5, 100)).toEqual([0, 6]);
    expect(visibleSlice(ten, 200, 300)).toEqual([5, 6]);
    expect(visibleSlice(series([], []), 0, 1)).toEqual([0, 0]);
  });

  it("are found by the nearest step", () => {
    const some = series([0, 10, 40], [0, 1, 2]);
    expect(nearestBucket(some, 4)).toBe(0);
    expect(nearestBucket(some, 6)).toBe(1);
    expect(nearestBucket(some, 26)).toBe(2);
    expect(nearestBucket(some, 999)).toBe(2);
    expect(nearestBucket(some, -999)).toBe(0);
    expect(nearestBucket(series([], []), 1)).toBe(-1);
  });

  it("span from the first to the last step of all series", () => {
    expect(stepExtent([series([5, 9], [1, 1]), series([-2, 3], [1, 1]), series([], [])])).toEqual([-2, 9]);
    expect(stepExtent([series([], [])])).toBeNull();
  });
});

describe("the y range", () => {
  it("holds every extreme in view and none outside it", () => {
    const one = series([0, 10, 20], [1, 5, 100], { lows: Float64Array.of(0, 4, 90), highs: Float64Array.of(2, 6, 200) });
    expect(valueExtent([one], ALL)).toEqual([0, 200]);
    expect(valueExtent([one], { ...ALL, first: 0, last: 10 })).toEqual([0, 6]);
  });

  it("passes over NaN, and is null if nothing is finite", () => {
    expect(valueExtent([series([0, 1], [Number.NaN, 3])], ALL)).toEqual([3, 3]);
    expect(valueExtent([series([0], [Number.NaN])], ALL)).toBeNull();
  });

  it("takes only what a logarithm can draw", () => {
    expect(valueExtent([series([0, 1, 2], [-1, 0.01, 10])], { ...ALL, isLog: true })).toEqual([0.01, 10]);
    expect(valueExtent([series([0], [0])], { ...ALL, isLog: true })).toBeNull();
  });

  it("leaves a spike out when clipped, and offers that only if the spike flattens the rest", () => {
    const steps = Array.from({ length: 200 }, (_, i) => i);
    const flat = steps.map((step) => step / 200);
    const spiked = flat.map((value, i) => (i === 50 ? 1000 : value));
    expect(valueExtent([series(steps, spiked)], { ...ALL, isClipped: true })?.[1]).toBeLessThan(1);
    expect(isFlattened([series(steps, spiked)], ALL)).toBe(true);
    expect(isFlattened([series(steps, flat)], ALL)).toBe(false);
  });

  it("gets air, also around a flat line", () => {
    expect(padded([0, 100], false)).toEqual([-6, 106]);
    expect(padded([0, 0], false)).toEqual([-1, 1]);
    expect(padded([5, 5], false)).toEqual([4.5, 5.5]);
    expect(padded([1, 1], true)).toEqual([0.5, 2]);
  });
});

it("counts non-finite points by kind", () => {
  const odd = series([0, 1], [1, 1], {
    nanCounts: Float64Array.of(2, 1),
    positiveInfinityCounts: Float64Array.of(0, 1),
    negativeInfinityCounts: Float64Array.of(0, 0),
  });
  expect(countNonFinite(odd)).toEqual({ nan: 3, positiveInfinity: 1, negativeInfinity: 0 });
});
