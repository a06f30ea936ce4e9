// Histograms: over the steps as a heat map, or at one step, of several runs over each other.
import { type PointerEvent, useEffect, useMemo, useRef } from "react";
import type { Bins, MediaEntry } from "../api/media";
import { formatCount, formatShort, tickLabels } from "../charts/format";
import { hideTip, showTip } from "../charts/tip";
import { binsTotal } from "./classes";
import { columnEdges, extentOf, heatMap, rebin, widened } from "./rebin";
import { ticksOf } from "./ticks";

const LEFT = 46;
const RIGHT = 8;
const TOP = 6;
const BOTTOM = 20;
const ROW_PIXELS = 3;
const TICK_SPACE_X = 80;
const TICK_SPACE_Y = 36;
const BINS_AT_STEP_MAX = 128;

interface HeatProps {
  readonly entries: readonly MediaEntry[];
  readonly width: number;
  readonly height: number;
  /** Step that is looked at, marked. */
  readonly at: number | null;
  readonly onStep: (step: number | null) => void;
  readonly label: string;
}

/** One column a step; colour is the share of the step's values that lie in a bin. */
export function HistogramsOverSteps({ entries, width, height, at, onStep, label }: HeatProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const plotHeight = Math.max(20, height - TOP - BOTTOM);
  const plotWidth = Math.max(20, width - LEFT - RIGHT);
  const columns = useMemo(() => joinedBySteps(entries), [entries]);
  const map = useMemo(() => heatMap(columns.map(({ bins }) => bins), Math.max(8, Math.floor(plotHeight / ROW_PIXELS))), [columns, plotHeight]);
  const edges = useMemo(() => columnEdges(columns.map(({ step }) => step)), [columns]);
  const first = edges[0] ?? 0;
  const last = edges[edges.length - 1] ?? 1;
  const x = (step: number): number => LEFT + ((step - first) / (last - first)) * plotWidth;
  useEffect(() => {
    const target = canvas.current;
    if (target === null || map === null) return;
    const ratio = window.devicePixelRatio || 1;
    target.width = Math.round(plotWidth * ratio);
    target.height = Math.round(plotHeight * ratio);
    const context = target.getContext("2d");
    if (context === null) return;
    const style = getComputedStyle(target);
    context.clearRect(0, 0, target.width, target.height);
    context.fillStyle = style.color;
    const rowHeight = target.height / map.binCount;
    for (let column = 0; column < columns.length; column++) {
      const left = Math.round((((edges[column] as number) - first) / (last - first)) * target.width);
      const right = Math.max(left + 1, Math.round((((edges[column + 1] as number) - first) / (last - first)) * target.width));
      for (let k = 0; k < map.binCount; k++) {
        const share = map.shares[column * map.binCount + k] as number;
        if (share <= 0) continue;
        // By its root, so that the tails are seen beside the peak.
        context.globalAlpha = Math.max(0.06, Math.sqrt(share / map.mostShare));
        const top = Math.round(target.height - (k + 1) * rowHeight);
        context.fillRect(left, top, right - left, Math.max(1, Math.round(target.height - k * rowHeight) - top));
      }
    }
    context.globalAlpha = 1;
  });
  if (map === null) return <p className="panel-cover muted">no finite values yet</p>;
  const yTicks = ticksOf(map.low, map.high, Math.max(2, plotHeight / TICK_SPACE_Y));
  const yLabels = tickLabels(yTicks);
  const xTicks = ticksOf(columns[0]?.step ?? 0, columns.at(-1)?.step ?? 0, Math.max(1, plotWidth / TICK_SPACE_X), true);
  const xLabels = tickLabels(xTicks);
  const y = (value: number): number => TOP + plotHeight * (1 - (value - map.low) / (map.high - map.low));
  const columnAt = (event: PointerEvent): number => {
    const box = event.currentTarget.getBoundingClientRect();
    const step = first + ((event.clientX - box.left) / box.width) * (last - first);
    let column = 0;
    while (column < columns.length - 1 && (edges[column + 1] as number) < step) column++;
    return column;
  };
  const onMove = (event: PointerEvent): void => {
    const column = columns[columnAt(event)];
    if (column === undefined) return;
    const box = event.currentTarget.getBoundingClientRect();
    const bin = Math.min(map.binCount - 1, Math.max(0, Math.floor((1 - (event.clientY - box.top) / box.height) * map.binCount)));
    const width = (map.high - map.low) / map.binCount;
    const share = map.shares[columnAt(event) * map.binCount + bin] ?? 0;
    const total = binsTotal(column.bins);
    showTip(
      {
        title: `step ${formatCount(column.step)}`,
        rows: [
          {
            label: `${formatShort(map.low + bin * width)} to ${formatShort(map.low + (bin + 1) * width)}`,
            colour: "var(--accent)",
            value: `${(share * 100).toPrecision(3)} %`,
            note: `${formatShort(share * total)} of ${formatShort(total)}`,
            isNearest: true,
          },
        ],
        more: column.bins.nonFiniteCount > 0 ? `${formatCount(column.bins.nonFiniteCount)} NaN or ±∞` : "",
      },
      event.clientX,
      event.clientY,
    );
  };
  return (
    <div className="heat" style={{ width, height }} role="img" aria-label={`Histograms of ${label} over ${String(columns.length)} steps, from ${formatShort(map.low)} to ${formatShort(map.high)}`}>
      <canvas
        ref={canvas}
        style={{ left: LEFT, top: TOP, width: plotWidth, height: plotHeight }}
        onPointerMove={onMove}
        onPointerLeave={hideTip}
        onClick={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          const step = first + ((event.clientX - box.left) / box.width) * (last - first);
          const nearest = columns.reduce((best, { step: one }) => (Math.abs(one - step) < Math.abs(best - step) ? one : best), columns[0]?.step ?? 0);
          onStep(nearest === columns.at(-1)?.step ? null : nearest);
        }}
      />
      <svg width={width} height={height} className="axes" aria-hidden="true">
        {yTicks.map((tick, i) => (
          <text key={tick} x={LEFT - 6} y={y(tick)} dy="0.32em" textAnchor="end">
            {yLabels[i]}
          </text>
        ))}
        {xTicks.map((tick, i) => (
          <text key={tick} x={x(tick)} y={height - 6} textAnchor="middle">
            {xLabels[i]}
          </text>
        ))}
        {at === null ? null : <line x1={x(at)} x2={x(at)} y1={TOP} y2={TOP + plotHeight} className="mark" />}
      </svg>
    </div>
  );
}

/** Histograms of one step, those of several writers joined. */
function joinedBySteps(entries: readonly MediaEntry[]): { step: number; bins: Bins }[] {
  const bySteps = new Map<number, Bins[]>();
  for (const { step, bins } of entries) {
    if (bins === null) continue;
    const list = bySteps.get(step);
    if (list === undefined) bySteps.set(step, [bins]);
    else list.push(bins);
  }
  return [...bySteps].sort((a, b) => a[0] - b[0]).map(([step, list]) => ({ step, bins: joined(list) }));
}

function joined(list: readonly Bins[]): Bins {
  const [only] = list;
  if (list.length === 1 && only !== undefined) return only;
  const nonFiniteCount = list.reduce((sum, bins) => sum + bins.nonFiniteCount, 0);
  const extent = extentOf(list);
  if (extent === null) return { edges: new Float64Array(), counts: new Float64Array(), nonFiniteCount };
  const [low, high] = widened(extent);
  const count = Math.max(...list.map(({ counts }) => counts.length));
  const counts = new Float64Array(count);
  for (const bins of list) rebin(bins, low, high, count).forEach((value, i) => (counts[i] = (counts[i] as number) + value));
  return { edges: Float64Array.from({ length: count + 1 }, (_, i) => low + ((high - low) * i) / count), counts, nonFiniteCount };
}

export interface NamedBins {
  readonly label: string;
  readonly colour: string;
  /** Tells runs of one colour apart. */
  readonly dash?: readonly number[];
  readonly entries: readonly MediaEntry[];
}

/** Histograms at one step: one as bars, several as outlines on common bins, each as shares of its own values. */
export function HistogramsAtStep({ all, width, height, label }: { all: readonly NamedBins[]; width: number; height: number; label: string }) {
  const plotHeight = Math.max(20, height - TOP - BOTTOM);
  const plotWidth = Math.max(20, width - LEFT - RIGHT);
  const drawn = useMemo(() => {
    const lists = all.map(({ label: name, colour, dash, entries }) => ({ name, colour, dash, bins: joined(entries.flatMap(({ bins }) => (bins === null ? [] : [bins]))) }));
    const extent = extentOf(lists.map(({ bins }) => bins));
    if (extent === null) return null;
    const [low, high] = widened(extent);
    const most = Math.max(...lists.map(({ bins }) => bins.counts.length));
    const count = Math.max(1, Math.min(BINS_AT_STEP_MAX, most));
    const series = lists.map(({ name, colour, dash, bins }) => {
      const total = binsTotal(bins);
      return { name, colour, dash, total, nonFinite: bins.nonFiniteCount, shares: rebin(bins, low, high, count).map((value) => (total > 0 ? value / total : 0)) };
    });
    return { low, high, count, series, most: Math.max(1e-12, ...series.map(({ shares }) => Math.max(...shares))) };
  }, [all]);
  if (drawn === null) return <p className="panel-cover muted">no finite values yet</p>;
  const { low, high, count, series, most } = drawn;
  const x = (k: number): number => LEFT + (k / count) * plotWidth;
  const y = (share: number): number => TOP + plotHeight * (1 - share / most);
  const xTicks = ticksOf(low, high, Math.max(2, plotWidth / TICK_SPACE_X));
  const xLabels = tickLabels(xTicks);
  const yTicks = ticksOf(0, most, Math.max(2, plotHeight / TICK_SPACE_Y));
  const onMove = (event: PointerEvent): void => {
    const box = event.currentTarget.getBoundingClientRect();
    const k = Math.min(count - 1, Math.max(0, Math.floor(((event.clientX - box.left - LEFT) / plotWidth) * count)));
    const size = (high - low) / count;
    showTip(
      {
        title: `${formatShort(low + k * size)} to ${formatShort(low + (k + 1) * size)}`,
        rows: series.map(({ name, colour, shares, total }) => ({
          label: name,
          colour,
          value: `${((shares[k] ?? 0) * 100).toPrecision(3)} %`,
          note: `${formatShort((shares[k] ?? 0) * total)} of ${formatShort(total)}`,
          isNearest: series.length === 1,
        })),
        more: "",
      },
      event.clientX,
      event.clientY,
    );
  };
  return (
    <svg className="axes" width={width} height={height} role="img" aria-label={`Histogram of ${label}`} onPointerMove={onMove} onPointerLeave={hideTip}>
      {yTicks.map((tick) => (
        <g key={tick}>
          <line x1={LEFT} x2={width - RIGHT} y1={y(tick)} y2={y(tick)} className="grid" />
          <text x={LEFT - 6} y={y(tick)} dy="0.32em" textAnchor="end">
            {Number((tick * 100).toPrecision(3))} %
          </text>
        </g>
      ))}
      {xTicks.map((tick, i) => (
        <text key={tick} x={LEFT + ((tick - low) / (high - low)) * plotWidth} y={height - 6} textAnchor="middle">
          {xLabels[i]}
        </text>
      ))}
      {series.map(({ name, colour, dash, shares }, i) =>
        series.length === 1 ? (
          <path key={i} d={barsPath(shares, x, y)} fill={colour} opacity="0.8" />
        ) : (
          <path key={`${String(i)} ${name}`} d={outlinePath(shares, x, y)} fill="none" stroke={colour} strokeWidth="1.5" strokeDasharray={dash?.join(" ")} />
        ),
      )}
    </svg>
  );
}

function barsPath(shares: Float64Array, x: (k: number) => number, y: (share: number) => number): string {
  return Array.from(shares, (share, k) => (share <= 0 ? "" : `M${x(k).toFixed(1)} ${y(0).toFixed(1)}V${y(share).toFixed(1)}H${x(k + 1).toFixed(1)}V${y(0).toFixed(1)}Z`)).join("");
}

function outlinePath(shares: Float64Array, x: (k: number) => number, y: (share: number) => number): string {
  return `M${x(0).toFixed(1)} ${y(0).toFixed(1)}${Array.from(shares, (share, k) => `V${y(share).toFixed(1)}H${x(k + 1).toFixed(1)}`).join("")}V${y(0).toFixed(1)}`;
}
