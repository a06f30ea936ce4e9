// Ticks of the small axes that media panels draw.
import { STEP_INCREMENTS, VALUE_INCREMENTS } from "../charts/ticks";

/** Round values from low to high, at most so many; of steps whole ones only. */
export function ticksOf(low: number, high: number, countMax: number, isSteps = false): number[] {
  if (!(high > low) || countMax < 1) return [low];
  const least = (high - low) / countMax;
  const gap = (isSteps ? STEP_INCREMENTS : VALUE_INCREMENTS).find((increment) => increment >= least) ?? high - low;
  const ticks: number[] = [];
  for (let k = Math.ceil(low / gap - 1e-9); k * gap <= high + gap * 1e-9; k++) ticks.push(Number((k * gap).toPrecision(12)));
  return ticks;
}
