// Values with their units, and the axes of charts that show them. Sizes are in binary units.
import { VALUE_INCREMENTS } from "../charts/ticks";
import { formatBytes, formatShort, tickLabels } from "../charts/format";

/** Units of size: how many bytes one is, and what stands behind it. */
const SIZES: Readonly<Record<string, readonly [number, string]>> = {
  bytes: [1, ""],
  MB: [1_048_576, ""],
  GB: [1_073_741_824, ""],
  "bytes/s": [1, "/s"],
};
const BYTE_NAMES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const BYTE_INCREMENTS = Array.from({ length: 60 }, (_, power) => Math.pow(2, power));
/** What can never be below zero, and is read best from there: all but temperatures and clocks. */
const NOT_FROM_ZERO = new Set(["°C", "MHz"]);
const PERCENT_TOP_MIN = 10;

export interface ValueAxis {
  readonly increments: readonly number[];
  readonly labels: (ticks: readonly number[]) => string[];
  readonly fit: (padded: [number, number], values: [number, number] | null) => [number, number];
}

/** By what a value is multiplied before it is drawn: sizes of all kinds are drawn as bytes. */
export function factorOf(unit: string): number {
  return SIZES[unit]?.[0] ?? 1;
}

/** A value as it was stored, with its unit: 1.5 GiB, 61 °C, 93.2 %. */
export function formatValue(value: number, unit: string): string {
  return formatDrawn(value * factorOf(unit), unit);
}

/** A value as it is drawn. */
export function formatDrawn(value: number, unit: string): string {
  const size = SIZES[unit];
  if (size !== undefined && Number.isFinite(value)) return `${formatBytes(value < 1 ? Number(value.toPrecision(3)) : value)}${size[1]}`;
  const text = formatShort(value);
  return unit === "" ? text : `${text} ${unit}`;
}

/** What stands behind a chart's title; the labels of sizes say it themselves. */
export function titleUnit(unit: string): string {
  return unit in SIZES ? "" : unit;
}

/** The value axis for a unit. */
export function valueAxis(unit: string): ValueAxis {
  const size = SIZES[unit];
  return {
    increments: size === undefined ? VALUE_INCREMENTS : BYTE_INCREMENTS,
    labels: size === undefined ? tickLabels : (ticks) => byteLabels(ticks, size[1]),
    fit: (padded, values) => fit(unit, padded, values),
  };
}

function fit(unit: string, [low, high]: [number, number], values: [number, number] | null): [number, number] {
  if (NOT_FROM_ZERO.has(unit) || (values !== null && values[0] < 0)) return [low, high];
  // From zero on, the air above is a share of the whole height.
  if (unit !== "%") return [0, Math.max(high, (values?.[1] ?? 0) * 1.08)];
  // A whole that is nearly full keeps its line beneath the frame.
  if (values !== null && values[1] <= 100) return [0, Math.max(PERCENT_TOP_MIN, Math.min(Math.max(high, values[1] * 1.08), 102))];
  return [0, Math.max(high, (values?.[1] ?? 0) * 1.08)];
}

/** Labels of one axis in one unit: 0, 512 MiB, 1,024 MiB would be harder to read than 0, 0.5 GiB, 1 GiB. */
function byteLabels(ticks: readonly number[], suffix: string): string[] {
  const largest = Math.max(0, ...ticks.filter(Number.isFinite).map(Math.abs));
  const power = largest < 1 ? 0 : Math.min(BYTE_NAMES.length - 1, Math.floor(Math.log2(largest) / 10));
  const divisor = Math.pow(1024, power);
  return ticks.map((tick) => (tick === 0 ? "0" : `${Number((tick / divisor).toPrecision(4))} ${BYTE_NAMES[power] ?? "B"}${suffix}`));
}
