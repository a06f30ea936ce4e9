// Draws a plot value: lines, points, bars, bins, a confusion matrix.
import { type PointerEvent, useMemo } from "react";
import { lineStyleAt } from "../charts/colour";
import { formatCount, formatShort, tickLabels } from "../charts/format";
import { hideTip, showTip } from "../charts/tip";
import type { Bar, Bin, LineSeries, Matrix, PlotShape } from "./plotModel";
import { widened } from "./rebin";
import { ticksOf } from "./ticks";

const RIGHT = 10;
const TOP = 8;
const TICK_SPACE_X = 76;
const TICK_SPACE_Y = 36;
const LEGEND_MAX = 12;

interface PlotViewProps {
  readonly shape: PlotShape;
  readonly width: number;
  readonly height: number;
  readonly xTitle: string;
  readonly yTitle: string;
  readonly label: string;
  /** Put before the names of lines: the run, where several are drawn together. */
  readonly colours?: readonly string[];
}

export function PlotView({ shape, ...props }: PlotViewProps) {
  switch (shape.kind) {
    case "lines":
      return shape.series.length === 0 ? <p className="panel-cover muted">nothing to draw</p> : <Lines {...props} series={shape.series} hasDiagonal={shape.hasDiagonal} isPoints={shape.isPoints} />;
    case "bars":
      return <Bars {...props} bars={shape.bars} />;
    case "bins":
      return <Bins {...props} bins={shape.bins} />;
    case "matrix":
      return <MatrixView {...props} matrix={shape.matrix} />;
    case "none":
      return <p className="panel-cover muted">{shape.reason}</p>;
  }
}

type Sizes = Omit<PlotViewProps, "shape">;

export function colourAt(index: number): string {
  return `var(--run-${String(lineStyleAt(index).colourIndex)})`;
}

function extent(values: Iterable<number>): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}

function* all(series: readonly LineSeries[], axis: "xs" | "ys"): Iterable<number> {
  for (const one of series) yield* one[axis];
}

function Lines({ series, hasDiagonal, isPoints, width, height, xTitle, yTitle, label, colours }: Sizes & { series: readonly LineSeries[]; hasDiagonal: boolean; isPoints: boolean }) {
  const [xLow, xHigh] = useMemo(() => (hasDiagonal ? [0, 1] : widened(extent(all(series, "xs")))), [series, hasDiagonal]);
  const [yLow, yHigh] = useMemo(() => (hasDiagonal ? [0, 1] : widened(extent(all(series, "ys")))), [series, hasDiagonal]);
  const hasLegend = series.length > 1;
  const left = 50;
  const bottom = xTitle === "" ? 22 : 36;
  const top = TOP + (hasLegend ? 18 : 0);
  const plotWidth = Math.max(20, width - left - RIGHT);
  const plotHeight = Math.max(20, height - top - bottom);
  const x = (value: number): number => left + ((value - xLow) / (xHigh - xLow)) * plotWidth;
  const y = (value: number): number => top + plotHeight * (1 - (value - yLow) / (yHigh - yLow));
  const colour = (i: number): string => colours?.[i] ?? colourAt(i);
  const paths = useMemo(
    () =>
      series.map(({ xs, ys }) => {
        const at = (i: number): string =>
          `${(left + (((xs[i] as number) - xLow) / (xHigh - xLow)) * plotWidth).toFixed(1)} ${(top + plotHeight * (1 - ((ys[i] as number) - yLow) / (yHigh - yLow))).toFixed(1)}`;
        // A line of no length with round ends is a dot: many of them are one element.
        return xs.map((_, i) => (isPoints || xs.length === 1 ? `M${at(i)}h0` : `${i === 0 ? "M" : "L"}${at(i)}`)).join("");
      }),
    [series, isPoints, xLow, xHigh, yLow, yHigh, plotWidth, plotHeight, top],
  );
  const onMove = (event: PointerEvent): void => {
    const box = event.currentTarget.getBoundingClientRect();
    const px = event.clientX - box.left;
    const py = event.clientY - box.top;
    let best = { distance: Infinity, line: 0, i: 0 };
    series.forEach(({ xs, ys }, line) => {
      for (let i = 0; i < xs.length; i++) {
        const distance = Math.hypot(x(xs[i] as number) - px, y(ys[i] as number) - py);
        if (distance < best.distance) best = { distance, line, i };
      }
    });
    const found = series[best.line];
    if (found === undefined || best.distance > 60) {
      hideTip();
      return;
    }
    showTip(
      {
        title: `${xTitle === "" ? "x" : xTitle} ${formatShort(found.xs[best.i] ?? 0)}`,
        rows: [{ label: found.name === "" ? (yTitle === "" ? "y" : yTitle) : found.name, colour: colour(best.line), value: formatShort(found.ys[best.i] ?? 0), note: "", isNearest: true }],
        more: "",
      },
      event.clientX,
      event.clientY,
    );
  };
  return (
    <svg className="axes" width={width} height={height} role="img" aria-label={label} onPointerMove={onMove} onPointerLeave={hideTip}>
      <Axes left={left} top={top} width={plotWidth} height={plotHeight} x={[xLow, xHigh]} y={[yLow, yHigh]} xTitle={xTitle} yTitle={yTitle} />
      {hasDiagonal ? <line x1={x(0)} y1={y(0)} x2={x(1)} y2={y(1)} className="diagonal" /> : null}
      {paths.map((path, i) => (
        <path key={i} d={path} fill="none" stroke={colour(i)} strokeWidth={isPoints ? 5 : series[i]?.xs.length === 1 ? 6 : 1.5} strokeLinecap="round" strokeLinejoin="round" opacity={isPoints ? 0.7 : 1} />
      ))}
      {hasLegend ? <Legend names={series.map(({ name }) => name)} colour={colour} left={left} width={plotWidth} /> : null}
    </svg>
  );
}

function Legend({ names, colour, left, width }: { names: readonly string[]; colour: (i: number) => string; left: number; width: number }) {
  const shown = names.slice(0, LEGEND_MAX);
  const space = width / Math.max(1, Math.min(shown.length, Math.floor(width / 70)));
  const fitting = Math.max(1, Math.floor(width / space));
  return (
    <g>
      {shown.slice(0, fitting).map((name, i) => (
        <g key={i} transform={`translate(${String(left + i * space)} 12)`}>
          <line x1="0" x2="12" y1="-3" y2="-3" stroke={colour(i)} strokeWidth="2.5" />
          <text x="16" y="0">
            {i === fitting - 1 && names.length > fitting ? `+ ${String(names.length - fitting + 1)} more` : cut(name, space / 6.4 - 3)}
          </text>
        </g>
      ))}
    </g>
  );
}

function cut(text: string, length: number): string {
  const most = Math.max(3, Math.floor(length));
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

interface AxesProps {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly x: readonly [number, number];
  readonly y: readonly [number, number];
  readonly xTitle: string;
  readonly yTitle: string;
}

function Axes({ left, top, width, height, x: [xLow, xHigh], y: [yLow, yHigh], xTitle, yTitle }: AxesProps) {
  const xTicks = ticksOf(xLow, xHigh, Math.max(2, width / TICK_SPACE_X));
  const yTicks = ticksOf(yLow, yHigh, Math.max(2, height / TICK_SPACE_Y));
  const xLabels = tickLabels(xTicks);
  const yLabels = tickLabels(yTicks);
  return (
    <g>
      {yTicks.map((tick, i) => {
        const place = top + height * (1 - (tick - yLow) / (yHigh - yLow));
        return (
          <g key={tick}>
            <line x1={left} x2={left + width} y1={place} y2={place} className="grid" />
            <text x={left - 6} y={place} dy="0.32em" textAnchor="end">
              {yLabels[i]}
            </text>
          </g>
        );
      })}
      {xTicks.map((tick, i) => (
        <text key={tick} x={left + ((tick - xLow) / (xHigh - xLow)) * width} y={top + height + 15} textAnchor="middle">
          {xLabels[i]}
        </text>
      ))}
      {xTitle === "" ? null : (
        <text x={left + width / 2} y={top + height + 30} textAnchor="middle" className="axis-title">
          {xTitle}
        </text>
      )}
      {yTitle === "" ? null : (
        <text transform={`translate(10 ${String(top + height / 2)}) rotate(-90)`} textAnchor="middle" className="axis-title">
          {yTitle}
        </text>
      )}
    </g>
  );
}

const BAR_ROW = 20;

function Bars({ bars, width, height, label }: Sizes & { bars: readonly Bar[] }) {
  const labelWidth = Math.min(width * 0.4, 12 + 6.6 * Math.max(1, ...bars.map(({ label: name }) => name.length)));
  const valueWidth = 56;
  const [low, high] = extent([0, ...bars.map(({ value }) => value)]);
  const scale = (width - labelWidth - valueWidth) / Math.max(1e-300, high - low);
  const row = Math.max(BAR_ROW, Math.min(34, (height - 8) / Math.max(1, bars.length)));
  return (
    <div className="scrolled" style={{ width, height }}>
      <svg className="axes" width={width} height={Math.max(height, bars.length * row + 8)} role="img" aria-label={label}>
        {bars.map(({ label: name, value }, i) => {
          const start = labelWidth + (Math.min(0, value) - low) * scale;
          const length = Math.abs(value) * scale;
          return (
            <g key={i} transform={`translate(0 ${String(4 + i * row)})`}>
              <text x={labelWidth - 8} y={row / 2} dy="0.32em" textAnchor="end">
                <title>{name}</title>
                {cut(name, labelWidth / 6.6)}
              </text>
              <rect x={start} y={row * 0.18} width={Math.max(1, length)} height={row * 0.64} fill={colourAt(0)} rx="1.5" />
              <text x={start + length + 6} y={row / 2} dy="0.32em">
                {formatShort(value)}
              </text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}

function Bins({ bins, width, height, xTitle, yTitle, label }: Sizes & { bins: readonly Bin[] }) {
  const left = 50;
  const bottom = xTitle === "" ? 22 : 36;
  const plotWidth = Math.max(20, width - left - RIGHT);
  const plotHeight = Math.max(20, height - TOP - bottom);
  const [low, high] = widened(extent(bins.flatMap((bin) => [bin.low, bin.high])));
  const most = Math.max(1e-300, ...bins.map(({ count }) => count));
  return (
    <svg className="axes" width={width} height={height} role="img" aria-label={label}>
      <Axes left={left} top={TOP} width={plotWidth} height={plotHeight} x={[low, high]} y={[0, most]} xTitle={xTitle} yTitle={yTitle} />
      {bins.map((bin, i) => {
        const start = left + ((bin.low - low) / (high - low)) * plotWidth;
        const size = (bin.count / most) * plotHeight;
        return (
          <rect key={i} x={start} y={TOP + plotHeight - size} width={Math.max(1, ((bin.high - bin.low) / (high - low)) * plotWidth - 1)} height={size} fill={colourAt(0)}>
            <title>{`${formatShort(bin.low)} to ${formatShort(bin.high)}: ${formatShort(bin.count)}`}</title>
          </rect>
        );
      })}
    </svg>
  );
}

const CELL_TEXT_MIN = 26;

function MatrixView({ matrix: { classes, counts }, width, height, label }: Sizes & { matrix: Matrix }) {
  const longest = Math.max(1, ...classes.map((name) => name.length));
  const names = Math.min(90, 10 + longest * 6.4);
  const size = Math.max(4, Math.min((width - names - 24) / classes.length, (height - names * 0.55 - 40) / classes.length));
  const left = Math.max(names + 22, (width - size * classes.length) / 2);
  const top = 6;
  const isAllNamed = size >= 11;
  const onMove = (event: PointerEvent): void => {
    const box = event.currentTarget.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - left) / size);
    const row = Math.floor((event.clientY - box.top - top) / size);
    const count = counts[row]?.[column];
    if (count === undefined) {
      hideTip();
      return;
    }
    const total = (counts[row] ?? []).reduce((sum, one) => sum + one, 0);
    showTip(
      {
        title: `${classes[row] ?? ""} as ${classes[column] ?? ""}`,
        rows: [{ label: "count", colour: "var(--accent)", value: formatCount(count), note: total > 0 ? `${((count / total) * 100).toPrecision(3)} % of ${classes[row] ?? ""}` : "", isNearest: true }],
        more: "",
      },
      event.clientX,
      event.clientY,
    );
  };
  const bottom = top + size * classes.length;
  return (
    <svg className="axes matrix" width={width} height={height} role="img" aria-label={label} onPointerMove={onMove} onPointerLeave={hideTip}>
      <text transform={`translate(${String(left - names - 12)} ${String(top + (size * classes.length) / 2)}) rotate(-90)`} textAnchor="middle" className="axis-title">
        actual
      </text>
      {counts.map((row, i) => {
        const total = row.reduce((sum, count) => sum + count, 0);
        return (
          <g key={i}>
            {isAllNamed ? (
              <text x={left - 5} y={top + (i + 0.5) * size} dy="0.32em" textAnchor="end">
                {cut(classes[i] ?? "", names / 6.4)}
              </text>
            ) : null}
            {row.map((count, k) => {
              const share = total > 0 ? count / total : 0;
              return (
                <g key={k}>
                  <rect x={left + k * size} y={top + i * size} width={size - 1} height={size - 1} className="cell" />
                  {count > 0 ? <rect x={left + k * size} y={top + i * size} width={size - 1} height={size - 1} fill={i === k ? "var(--accent)" : "var(--state-failed)"} opacity={Math.max(0.08, share)} /> : null}
                  {size >= CELL_TEXT_MIN && count > 0 ? (
                    <text x={left + (k + 0.5) * size} y={top + (i + 0.5) * size} dy="0.32em" textAnchor="middle" className={share > 0.6 ? "on-dark" : ""}>
                      {formatShort(count)}
                    </text>
                  ) : null}
                </g>
              );
            })}
          </g>
        );
      })}
      {isAllNamed
        ? classes.map((name, k) => (
            <text key={k} transform={size > longest * 6.4 ? `translate(${String(left + (k + 0.5) * size)} ${String(bottom + 13)})` : `translate(${String(left + (k + 0.5) * size + 3)} ${String(bottom + 8)}) rotate(-38)`} textAnchor={size > longest * 6.4 ? "middle" : "end"}>
              {cut(name, names / 6.4)}
            </text>
          ))
        : null}
      <text x={left + (size * classes.length) / 2} y={Math.min(height - 4, bottom + (size > longest * 6.4 ? 30 : names * 0.62 + 22))} textAnchor="middle" className="axis-title">
        predicted
      </text>
    </svg>
  );
}
