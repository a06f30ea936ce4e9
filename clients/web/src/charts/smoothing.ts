// Smoothing of a series by an exponential moving average that does not depend on how densely the points lie.

/** Steps of the view that one unit of the average's memory is made of: the same slider, the same look, at every zoom. */
const VIEW_SCALE = 1000;

/**
 * Debiased exponential moving average, weighted by the distance between points relative to the view's width.
 * Non-finite values stay as they are and do not enter the average. weight 0 returns the values, 0.99 is very smooth.
 */
export function smooth(xs: Float64Array, ys: Float64Array, weight: number, viewWidth: number): Float64Array {
  if (weight <= 0) return ys;
  const out = new Float64Array(ys.length);
  const scale = viewWidth > 0 ? VIEW_SCALE / viewWidth : 1;
  let average = 0;
  let debias = 0;
  let previousX = Number.NaN;
  for (let i = 0; i < ys.length; i++) {
    const y = ys[i] as number;
    const x = xs[i] as number;
    if (!Number.isFinite(y)) {
      out[i] = y;
      continue;
    }
    const distance = Number.isNaN(previousX) ? 1 : Math.max(x - previousX, 0) * scale;
    const kept = Math.pow(Math.min(weight, 0.999), Math.max(distance, 1e-9));
    average = average * kept + y * (1 - kept);
    debias = debias * kept + (1 - kept);
    out[i] = debias > 0 ? average / debias : y;
    previousX = x;
  }
  return out;
}
