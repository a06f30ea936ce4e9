// A line chart on a canvas: uPlot for axes, scales and the pointer, draw.ts for what the store's buckets are made of.
import uPlot from "uplot";
import type { Crosshair, CrosshairMember } from "./crosshair";
import { drawMarks, drawSeries, type Frame, type Stroke } from "./draw";
import { formatCount, logTickLabel } from "./format";
import { type PlotScales, STEP_SCALES } from "./scales";
import { bucketX, type BucketColumns, nearestBucket, padded, stepExtent, valueExtent } from "./series";
import { hideTip, showTip, type TipRow } from "./tip";

export interface PlotLine {
  readonly label: string;
  readonly colourIndex: number;
  readonly dash: readonly number[];
  readonly series: BucketColumns;
}

export interface PlotView {
  readonly lines: readonly PlotLine[];
  /** Of x, what is shown; null: all. */
  readonly range: readonly [number, number] | null;
  /** 0 … 0.999. */
  readonly smoothing: number;
  readonly isLog: boolean;
  readonly isClipped: boolean;
  /** Run whose line stands out; null: none. */
  readonly emphasis: string | null;
}

export interface PlotEvents {
  onZoom(first: number, last: number): void;
  onReset(): void;
}

const TIP_ROWS_MAX = 14;
const NOTED_MAX = 3;
const FONT = '11px "Inter Variable", system-ui, sans-serif';
const DRAG_MIN_PX = 6;
const DOT_MARGIN_PX = 3;
const DECADES_WITH_LINES_MAX = 2;

interface Theme {
  readonly text: string;
  readonly grid: string;
  readonly colours: readonly string[];
}

/** One panel's chart. update() redraws; nothing here waits for a request. */
export class LinePlot implements CrosshairMember {
  private readonly plot: uPlot;
  private readonly leave: () => void;
  private theme: Theme;
  private view: PlotView = { lines: [], range: null, smoothing: 0, isLog: false, isClipped: false, emphasis: null };
  private isPointerHere = false;
  private extent: [number, number] = [0, 1];

  constructor(
    private readonly host: HTMLElement,
    width: number,
    height: number,
    isLog: boolean,
    private readonly crosshair: Crosshair,
    private readonly events: PlotEvents,
    private readonly isLarge = false,
    private readonly scales: PlotScales = STEP_SCALES,
  ) {
    this.theme = readTheme(host);
    this.plot = new uPlot(this.options(width, height, isLog), [[0, 1], [null, null]], host);
    const leave = crosshair.join(this);
    const themes = new MutationObserver(() => { this.restyle(); });
    themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    this.leave = () => {
      leave();
      themes.disconnect();
    };
  }

  update(view: PlotView): void {
    this.view = view;
    const all = view.lines.map(({ series }) => series);
    const extent = view.range ?? stepExtent(all) ?? [0, 1];
    // A single step still wants a width.
    this.extent = extent[0] === extent[1] ? [extent[0] - 0.5, extent[1] + 0.5] : [extent[0], extent[1]];
    const [first, last] = this.extent;
    const values = valueExtent(all, { first, last, isLog: view.isLog, isClipped: view.isClipped });
    const [low, high] = this.scales.fitValues(padded(values ?? (view.isLog ? [1, 10] : [0, 1]), view.isLog), values);
    this.plot.batch(() => {
      this.plot.setScale("x", { min: first, max: last });
      this.plot.setScale("y", { min: low, max: high });
    });
    this.plot.redraw(false, true);
    if (this.isPointerHere) this.showPointer();
  }

  resize(width: number, height: number): void {
    this.plot.setSize({ width, height });
  }

  /** Reads the colours again after the theme has changed. */
  private restyle(): void {
    this.theme = readTheme(this.host);
    this.plot.redraw(false, true);
  }

  showCrosshair(x: number | null): void {
    const left = x === null ? -10 : this.plot.valToPos(x, "x");
    this.plot.setCursor({ left: left < 0 || left > this.plot.over.clientWidth ? -10 : left, top: -10 }, false);
  }

  destroy(): void {
    this.leave();
    if (this.isPointerHere) {
      hideTip();
      this.crosshair.publish(this, null);
    }
    this.plot.destroy();
  }

  private options(width: number, height: number, isLog: boolean): uPlot.Options {
    return {
      width,
      height,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: {
        x: true,
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false, dist: DRAG_MIN_PX },
        bind: {
          dblclick: () => () => {
            this.events.onReset();
            return null;
          },
        },
      },
      scales: {
        x: { time: false, auto: false, range: (_, min, max) => [min, max] },
        y: { auto: false, range: (_, min, max) => [min, max], distr: isLog ? 3 : 1 },
      },
      series: [{}, { scale: "y", show: false }],
      axes: [this.xAxis(), this.yAxis(isLog)],
      hooks: {
        draw: [() => { this.draw(); }],
        setSelect: [() => { this.zoom(); }],
        ready: [(plot) => { this.listen(plot); }],
      },
    };
  }

  private xAxis(): uPlot.Axis {
    return {
      ...this.axisLook(),
      size: 26,
      gap: 4,
      space: this.isLarge ? 90 : 64,
      incrs: [...this.scales.xIncrements],
      values: (_, ticks) => this.scales.xLabels(ticks),
      grid: { show: false },
      ticks: { stroke: () => this.theme.grid, width: 1, size: 4 },
      border: { show: true, stroke: () => this.theme.grid, width: 1 },
    };
  }

  private yAxis(isLog: boolean): uPlot.Axis {
    return {
      ...this.axisLook(),
      size: (_, labels) => 14 + 6.4 * Math.max(2, ...(labels ?? []).map((label) => (label as string | null)?.length ?? 0)),
      gap: 6,
      space: 27,
      ...(isLog ? {} : { incrs: [...this.scales.valueIncrements] }),
      values: (_, ticks) =>
        isLog ? ticks.map((tick) => ((tick as number | null) === null ? "" : logTickLabel(tick))) : this.scales.valueLabels(ticks),
      grid: {
        stroke: () => this.theme.grid,
        width: 1,
        // Over many decades the lines between them would be a grey wall.
        ...(isLog ? { filter: (_: uPlot, ticks: number[]) => decadesIfMany(ticks) } : {}),
      },
      ticks: { show: false },
    };
  }

  private axisLook(): Pick<uPlot.Axis, "stroke" | "font"> {
    return { stroke: () => this.theme.text, font: FONT };
  }

  private frame(): Frame {
    const { plot } = this;
    const { left, top, width, height } = plot.bbox;
    return {
      context: plot.ctx,
      left,
      top,
      width,
      height,
      ratio: uPlot.pxRatio,
      first: this.extent[0],
      last: this.extent[1],
      x: (step) => plot.valToPos(step, "x", true),
      y: (value) => plot.valToPos(value, "y", true),
      isLog: this.view.isLog,
    };
  }

  private draw(): void {
    const frame = this.frame();
    const { context } = frame;
    context.save();
    context.beginPath();
    // A little wider than the axes: a point on the first or last step is a whole dot.
    const margin = DOT_MARGIN_PX * frame.ratio;
    context.rect(frame.left - margin, frame.top, frame.width + 2 * margin, frame.height);
    context.clip();
    const strokes = this.strokes();
    for (const stroke of strokes) drawSeries(frame, stroke);
    for (const stroke of strokes) drawMarks(frame, stroke);
    context.restore();
  }

  private strokes(): Stroke[] {
    const { lines, emphasis, smoothing } = this.view;
    const bandAlpha = lines.length > 12 ? 0.06 : lines.length > 3 ? 0.1 : 0.16;
    const strokes = lines.map((line): Stroke => {
      const isBold = line.series.runPath === emphasis;
      return {
        series: line.series,
        colour: this.theme.colours[line.colourIndex] ?? this.theme.text,
        dash: line.dash,
        smoothing,
        lineWidth: isBold ? 2.4 : 1.5,
        bandAlpha,
        isFaded: emphasis !== null && !isBold && lines.some(({ series }) => series.runPath === emphasis),
      };
    });
    // What stands out lies on top.
    return strokes.sort((a, b) => a.lineWidth - b.lineWidth);
  }

  private zoom(): void {
    const { left, width } = this.plot.select;
    if (width < DRAG_MIN_PX) return;
    // Steps and milliseconds alike are whole.
    const first = Math.round(this.plot.posToVal(left, "x"));
    const last = Math.round(this.plot.posToVal(left + width, "x"));
    this.plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.events.onZoom(first, Math.max(last, first + 1));
  }

  private listen(plot: uPlot): void {
    plot.over.addEventListener("pointermove", () => {
      this.isPointerHere = true;
      // After uPlot has moved its own cursor.
      requestAnimationFrame(() => {
        if (this.isPointerHere) this.showPointer();
      });
    });
    plot.over.addEventListener("pointerleave", () => {
      this.isPointerHere = false;
      hideTip();
      this.crosshair.publish(this, null);
    });
  }

  private showPointer(): void {
    const { left, top } = this.plot.cursor;
    if (left === undefined || left < 0 || top === undefined) return;
    const x = this.plot.posToVal(left, "x");
    this.crosshair.publish(this, x);
    const rows = this.tipRows(x, top);
    const bounds = this.plot.over.getBoundingClientRect();
    const nearest = rows.find(({ row }) => row.isNearest);
    if (nearest === undefined) {
      hideTip();
      return;
    }
    const shown = rows.length > TIP_ROWS_MAX ? around(rows, rows.indexOf(nearest)) : rows;
    const more = rows.length - shown.length;
    showTip(
      {
        title: nearest.title,
        rows: shown.map(({ row }) => row),
        more: more > 0 ? `and ${formatCount(more)} more ${this.scales.lineWord}` : "",
      },
      bounds.left + left,
      bounds.top + top,
    );
  }

  /** The lines at x by value, highest first; the one nearest to the pointer is marked. */
  private tipRows(x: number, top: number): { row: TipRow; title: string }[] {
    const [first, last] = this.extent;
    const found = this.view.lines.flatMap((line) => {
      const i = nearestBucket(line.series, x);
      if (i < 0 || bucketX(line.series, i) < first || bucketX(line.series, i) > last) return [];
      // Stands for a time in which nothing came.
      if (line.series.counts[i] === 0) return [];
      // A run that ended long before x has nothing to say here.
      const reach = Math.max(line.series.width, (last - first) / 50);
      if (Math.abs(bucketX(line.series, i) - x) > reach && this.view.lines.length > 1) return [];
      const mean = line.series.means[i] as number;
      const value = line.series.isRaw ? (line.series.lasts[i] as number) : mean;
      const distance = Number.isFinite(value) ? Math.abs(this.plot.valToPos(value, "y") - top) : Infinity;
      return [{ line, i, value, distance }];
    });
    const least = Math.min(...found.map(({ distance }) => distance));
    const nearest = found.find(({ distance }) => distance === least);
    found.sort((a, b) => sortable(b.value) - sortable(a.value));
    return found.map((one) => ({
      row: {
        label: one.line.label,
        colour: this.theme.colours[one.line.colourIndex] ?? this.theme.text,
        value: this.scales.valueText(one.value, one.line.series.isRaw),
        // What lies behind a mean: of a few lines for each, of many for the nearest only.
        note: found.length <= NOTED_MAX || one === nearest ? bucketNote(one.line.series, one.i, this.scales) : "",
        isNearest: one === nearest,
      },
      title: this.scales.title(one.line.series, one.i),
    }));
  }
}

function decadesIfMany(ticks: number[]): (number | null)[] {
  const isDecade = (tick: number): boolean => Math.abs(Math.log10(tick) - Math.round(Math.log10(tick))) < 1e-9;
  return ticks.filter(isDecade).length > DECADES_WITH_LINES_MAX ? ticks.map((tick) => (isDecade(tick) ? tick : null)) : ticks;
}

/** What a bucket hides behind its mean. */
function bucketNote(series: BucketColumns, i: number, scales: PlotScales): string {
  const parts: string[] = [];
  if (!series.isRaw && (series.counts[i] as number) > 1) {
    const [low, high] = [series.lows[i] as number, series.highs[i] as number];
    parts.push(`${scales.rangeText(low, high)}, n=${formatCount(series.counts[i] as number)}`);
  }
  if (series.nanCounts.length > 0 && !series.isRaw) {
    const kinds: [number, string][] = [
      [series.nanCounts[i] as number, "NaN"],
      [series.positiveInfinityCounts[i] as number, "∞"],
      [series.negativeInfinityCounts[i] as number, "−∞"],
    ];
    for (const [count, name] of kinds) if (count > 0) parts.push(`${formatCount(count)} ${name}`);
  }
  return parts.join(", ");
}

function around<T>(rows: readonly T[], index: number): T[] {
  const start = Math.max(0, Math.min(index - Math.floor(TIP_ROWS_MAX / 2), rows.length - TIP_ROWS_MAX));
  return rows.slice(start, start + TIP_ROWS_MAX);
}

function sortable(value: number): number {
  return Number.isNaN(value) ? -Infinity : value;
}

function readTheme(host: HTMLElement): Theme {
  const style = getComputedStyle(host);
  const colours: string[] = [];
  for (let i = 0; ; i++) {
    const colour = style.getPropertyValue(`--run-${String(i)}`).trim();
    if (colour === "") break;
    colours.push(colour);
  }
  return {
    text: style.getPropertyValue("--text-3").trim(),
    grid: style.getPropertyValue("--line").trim(),
    colours,
  };
}
