// Distances between the ticks of an axis.

/** Whole steps only: 1, 2, 5, 10, 20 … */
export const STEP_INCREMENTS: readonly number[] = Array.from({ length: 17 }, (_, power) => [1, 2, 5].map((digit) => digit * Math.pow(10, power))).flat();

/** 1, 2, 5 at every power of ten that a double has use for. */
export const VALUE_INCREMENTS: readonly number[] = Array.from({ length: 600 }, (_, index) =>
  [1, 2, 5].map((digit) => Number(`${String(digit)}e${String(index - 300)}`)),
).flat();
