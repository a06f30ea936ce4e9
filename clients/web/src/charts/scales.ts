// What the axes of a line chart are of, and how their values are said: steps of a run here; times and units in system/.
import { formatCount, formatExact, tickLabels } from "./format";
import type { BucketColumns } from "./series";
import { STEP_INCREMENTS, VALUE_INCREMENTS } from "./ticks";

export interface PlotScales {
  readonly xIncrements: readonly number[];
  readonly xLabels: (ticks: readonly number[]) => string[];
  readonly valueIncrements: readonly number[];
  readonly valueLabels: (ticks: readonly number[]) => string[];
  /** The extent of the value axis, from the padded one; `values` is what the lines hold, null if nothing. */
  readonly fitValues: (padded: [number, number], values: [number, number] | null) => [number, number];
  /** A value in the box beside the pointer: a stored one, or a mean. */
  readonly valueText: (value: number, isStored: boolean) => string;
  readonly rangeText: (low: number, high: number) => string;
  /** Title of that box: where bucket i lies. */
  readonly title: (series: BucketColumns, i: number) => string;
  /** What many lines are called. */
  readonly lineWord: string;
}

/** Steps of runs, plain numbers. */
export const STEP_SCALES: PlotScales = {
  xIncrements: STEP_INCREMENTS,
  xLabels: tickLabels,
  valueIncrements: VALUE_INCREMENTS,
  valueLabels: tickLabels,
  fitValues: (padded) => padded,
  valueText: (value, isStored) => formatExact(isStored ? value : Number(value.toPrecision(7))),
  rangeText: (low, high) => `${formatExact(Number(low.toPrecision(4)))} … ${formatExact(Number(high.toPrecision(4)))}`,
  title: stepTitle,
  lineWord: "runs",
};

const TIME_FORMAT: Intl.DateTimeFormatOptions = {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
};

/** Day and time to the second, short. */
export function formatMoment(timeMs: number): string {
  return new Date(timeMs).toLocaleString(undefined, TIME_FORMAT);
}

function stepTitle(series: BucketColumns, i: number): string {
  const first = series.firstSteps[i] as number;
  const last = series.lastSteps[i] as number;
  const timeMs = series.timesMs[i] as number;
  const steps = first === last ? `step ${formatCount(first)}` : `steps ${formatCount(first)} – ${formatCount(last)}`;
  return Number.isNaN(timeMs) ? steps : `${steps}  ·  ${formatMoment(timeMs)}`;
}
