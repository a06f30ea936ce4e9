// Numbers as text: short on axes and in tables, exact on hover.

const SI = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
] as const;
const MINUS = "−";

/** Labels for the ticks of one axis: with SI suffixes, all with as many digits as tell them apart. */
export function tickLabels(ticks: readonly number[]): string[] {
  const finite = ticks.filter(Number.isFinite);
  if (finite.length === 1) return ticks.map((tick) => logTickLabel(tick, true));
  const largest = Math.max(0, ...finite.map(Math.abs));
  const gap = smallestGap(finite);
  if (largest !== 0 && (largest < 1e-4 || largest >= 1e15)) {
    const digits = gap > 0 ? clamp(Math.floor(Math.log10(largest)) - Math.floor(Math.log10(gap) + 1e-9), 0, 8) : 1;
    return ticks.map((tick) => (tick === 0 ? "0" : withMinus(trimExponent(tick.toExponential(digits)))));
  }
  const [divisor, suffix] = SI.find(([size]) => largest >= size) ?? [1, ""];
  const decimals = gap > 0 ? clamp(Math.ceil(-Math.log10(gap / divisor) - 1e-9), 0, 10) : 2;
  const wanted = gap > 0 && roundsAway(finite, divisor, decimals) ? decimals + 1 : decimals;
  return ticks.map((tick) => (tick === 0 ? "0" : withMinus((tick / divisor).toFixed(wanted)) + suffix));
}

/** Labels of a logarithmic axis: each by itself; empty for what is no whole multiple of a power of ten (the axis' end). */
export function logTickLabel(tick: number, isAny = false): string {
  const digit = tick / Math.pow(10, Math.floor(Math.log10(tick) + 1e-9));
  if (!isAny && Math.abs(digit - Math.round(digit)) > 1e-6) return "";
  const size = Math.abs(tick);
  if (size !== 0 && (size < 1e-3 || size >= 1e15)) return withMinus(trimExponent(tick.toExponential(0)));
  const [divisor, suffix] = SI.find(([least]) => size >= least) ?? [1, ""];
  return withMinus(String(Number((tick / divisor).toPrecision(3)))) + suffix;
}

/** Four significant digits: 0.0123, 1.235, 12,346, 1.235e-7; NaN and infinities in words. */
export function formatShort(value: number): string {
  const special = formatNonFinite(value);
  if (special !== null) return special;
  const size = Math.abs(value);
  if (value === 0) return Object.is(value, -0) ? `${MINUS}0` : "0";
  if (size < 1e-4 || size >= 1e12) return withMinus(trimExponent(value.toExponential(3)));
  if (Number.isInteger(value) && size < 1e7) return withMinus(grouped(String(value)));
  if (size >= 1e4) return withMinus(grouped(value.toFixed(0)));
  return withMinus(grouped(String(Number(value.toPrecision(4)))));
}

/** All digits that the number has. */
export function formatExact(value: number): string {
  const special = formatNonFinite(value);
  if (special !== null) return special;
  if (Object.is(value, -0)) return `${MINUS}0`;
  return withMinus(String(value));
}

/** A count with separators: 128,400. */
export function formatCount(value: number | bigint): string {
  return withMinus(grouped(String(value)));
}

/** Bytes with a binary unit: 1.5 MiB. */
export function formatBytes(bytes: number | bigint): string {
  let size = Number(bytes);
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${unit === 0 ? size : Number(size.toPrecision(3))} ${units[unit] ?? "B"}`;
}

function formatNonFinite(value: number): string | null {
  if (Number.isNaN(value)) return "NaN";
  if (value === Infinity) return "∞";
  if (value === -Infinity) return `${MINUS}∞`;
  return null;
}

function grouped(text: string): string {
  const [whole = "", fraction] = text.split(".");
  const spaced = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return fraction === undefined ? spaced : `${spaced}.${fraction}`;
}

function withMinus(text: string): string {
  return text.startsWith("-") ? MINUS + text.slice(1) : text;
}

function trimExponent(text: string): string {
  return text.replace(/(\.\d*?)0+e/, "$1e").replace(".e", "e").replace("e+", "e");
}

function smallestGap(values: readonly number[]): number {
  let gap = Infinity;
  for (let i = 1; i < values.length; i++) {
    const step = Math.abs((values[i] as number) - (values[i - 1] as number));
    if (step > 0 && step < gap) gap = step;
  }
  return Number.isFinite(gap) ? gap : 0;
}

/** True if so few decimals would show a tick at another place than it stands (2.5 as 3). */
function roundsAway(values: readonly number[], divisor: number, decimals: number): boolean {
  const unit = Math.pow(10, -decimals);
  return values.some((value) => {
    const shown = value / divisor;
    return Math.abs(Number(shown.toFixed(decimals)) - shown) > unit * 0.01;
  });
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
