// Draws lines, envelopes and the marks of non-finite values onto a canvas. All lengths in device pixels.
import { bucketX, type BucketColumns, visibleSlice } from "./series";
import { smooth } from "./smoothing";

export interface Frame {
  readonly context: CanvasRenderingContext2D;
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  /** Device pixels per CSS pixel. */
  readonly ratio: number;
  /** Steps shown. */
  readonly first: number;
  readonly last: number;
  readonly x: (step: number) => number;
  readonly y: (value: number) => number;
  readonly isLog: boolean;
}

export interface Stroke {
  readonly series: BucketColumns;
  readonly colour: string;
  readonly dash: readonly number[];
  readonly smoothing: number;
  readonly lineWidth: number;
  readonly bandAlpha: number;
  readonly isFaded: boolean;
}

const RAW_BEHIND_ALPHA = 0.28;
const DOT_SPACING_MIN = 14;
const MARK_SIZE = 3.5;

/** Draws one series: envelope, raw line behind a smoothed one, line, dots where points are few. */
export function drawSeries(frame: Frame, stroke: Stroke): void {
  const { series } = stroke;
  const [from, to] = visibleSlice(series, frame.first, frame.last);
  if (to <= from) return;
  const { context, ratio } = frame;
  const xs = new Float64Array(to - from);
  for (let i = from; i < to; i++) xs[i - from] = bucketX(series, i);
  const means = series.means.subarray(from, to);
  const alpha = stroke.isFaded ? 0.22 : 1;

  if (!series.isRaw && stroke.bandAlpha > 0) {
    context.globalAlpha = stroke.bandAlpha * alpha;
    context.fillStyle = stroke.colour;
    fillBand(frame, xs, series.lows.subarray(from, to), series.highs.subarray(from, to));
  }
  context.strokeStyle = stroke.colour;
  context.lineJoin = "round";
  context.lineCap = "round";
  if (stroke.smoothing > 0) {
    context.globalAlpha = RAW_BEHIND_ALPHA * alpha;
    context.lineWidth = ratio;
    context.setLineDash([]);
    strokeLine(frame, xs, means);
  }
  const line = smooth(xs, means, stroke.smoothing, frame.last - frame.first);
  context.globalAlpha = alpha;
  context.lineWidth = stroke.lineWidth * ratio;
  context.setLineDash(stroke.dash.map((length) => length * ratio));
  strokeLine(frame, xs, line);
  context.setLineDash([]);
  context.fillStyle = stroke.colour;
  const isSparse = (to - from) * DOT_SPACING_MIN * ratio < frame.width;
  drawDots(frame, xs, line, series.isRaw && isSparse && stroke.smoothing === 0, stroke.lineWidth);
  context.globalAlpha = 1;
}

/** Marks buckets with NaN by a cross on the lower edge, infinities by a triangle at the edge they lie beyond. */
export function drawMarks(frame: Frame, stroke: Stroke): void {
  const { series } = stroke;
  if (series.nanCounts.length === 0) return;
  const { context, ratio } = frame;
  const size = MARK_SIZE * ratio;
  const low = frame.top + frame.height - size - 2 * ratio;
  const high = frame.top + size + 2 * ratio;
  context.globalAlpha = stroke.isFaded ? 0.22 : 1;
  context.strokeStyle = stroke.colour;
  context.fillStyle = stroke.colour;
  context.lineWidth = 1.5 * ratio;
  // Marks that would lie on one another are drawn once.
  const lastAt = { nan: -Infinity, up: -Infinity, down: -Infinity };
  for (let i = 0; i < series.nanCounts.length; i++) {
    const step = bucketX(series, i);
    if (step < frame.first || step > frame.last) continue;
    const x = frame.x(step);
    if ((series.nanCounts[i] as number) > 0 && x - lastAt.nan > size) {
      lastAt.nan = x;
      context.beginPath();
      context.moveTo(x - size, low - size);
      context.lineTo(x + size, low + size);
      context.moveTo(x + size, low - size);
      context.lineTo(x - size, low + size);
      context.stroke();
    }
    if ((series.positiveInfinityCounts[i] as number) > 0 && x - lastAt.up > size) {
      lastAt.up = x;
      fillTriangle(context, x, high, size, -1);
    }
    if ((series.negativeInfinityCounts[i] as number) > 0 && x - lastAt.down > size) {
      lastAt.down = x;
      fillTriangle(context, x, low, size, 1);
    }
  }
  context.globalAlpha = 1;
}

function isDrawn(frame: Frame, value: number): boolean {
  return Number.isFinite(value) && (!frame.isLog || value > 0);
}

function strokeLine(frame: Frame, xs: Float64Array, ys: Float64Array): void {
  const { context } = frame;
  let isOpen = false;
  context.beginPath();
  for (let i = 0; i < xs.length; i++) {
    const value = ys[i] as number;
    if (!isDrawn(frame, value)) {
      isOpen = false;
      continue;
    }
    const x = frame.x(xs[i] as number);
    const y = frame.y(value);
    if (isOpen) context.lineTo(x, y);
    else context.moveTo(x, y);
    isOpen = true;
  }
  context.stroke();
}

/** A dot for every point, or only for those that no line reaches. */
function drawDots(frame: Frame, xs: Float64Array, ys: Float64Array, isEvery: boolean, lineWidth: number): void {
  const { context, ratio } = frame;
  for (let i = 0; i < xs.length; i++) {
    const value = ys[i] as number;
    if (!isDrawn(frame, value)) continue;
    const isAlone =
      (i === 0 || !isDrawn(frame, ys[i - 1] as number)) &&
      (i === xs.length - 1 || !isDrawn(frame, ys[i + 1] as number));
    if (!isEvery && !isAlone) continue;
    context.beginPath();
    context.arc(frame.x(xs[i] as number), frame.y(value), (lineWidth + 0.7) * ratio, 0, 2 * Math.PI);
    context.fill();
  }
}

function fillBand(frame: Frame, xs: Float64Array, lows: Float64Array, highs: Float64Array): void {
  const { context } = frame;
  const floor = frame.top + frame.height;
  let start = 0;
  while (start < xs.length) {
    if (!isDrawn(frame, highs[start] as number)) {
      start++;
      continue;
    }
    let end = start;
    while (end < xs.length && isDrawn(frame, highs[end] as number)) end++;
    context.beginPath();
    for (let i = start; i < end; i++) context.lineTo(frame.x(xs[i] as number), frame.y(highs[i] as number));
    for (let i = end - 1; i >= start; i--) {
      const low = lows[i] as number;
      context.lineTo(frame.x(xs[i] as number), isDrawn(frame, low) ? frame.y(low) : floor);
    }
    context.fill();
    start = end;
  }
}

function fillTriangle(context: CanvasRenderingContext2D, x: number, y: number, size: number, down: 1 | -1): void {
  context.beginPath();
  context.moveTo(x - size, y - down * size * 0.7);
  context.lineTo(x + size, y - down * size * 0.7);
  context.lineTo(x, y + down * size);
  context.fill();
}
