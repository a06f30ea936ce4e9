// One chart of what machines did: title, last value, canvas, legend, and what the drawing leaves out.
import { memo, useEffect, useMemo, useRef, useState } from "react";
import { describeError } from "../api/errors";
import { type SystemColumns, useSystemSeries } from "../api/system";
import { lineStyleAt } from "../charts/colour";
import type { Crosshair } from "../charts/crosshair";
import { formatCount } from "../charts/format";
import { LinePlot, type PlotLine, type PlotView } from "../charts/linePlot";
import type { PlotScales } from "../charts/scales";
import { Button, Hint, IconButton } from "../ui/controls";
import { ExpandIcon } from "../ui/icons";
import { formatDuration } from "../ui/time";
import type { SystemChart } from "./charts";
import { toLine } from "./columns";
import { type ChartPlan, type Choice, LINES_MAX, planLines, type Tellers } from "./tellers";
import { momentTitle, originOf, TIME_INCREMENTS, timeLabels, type TimeMode } from "./times";
import { factorOf, formatDrawn, titleUnit, valueAxis } from "./units";

export interface SystemPanelProps {
  readonly runPath: string;
  readonly chart: SystemChart;
  readonly tellers: Tellers;
  readonly choice: Choice;
  readonly mode: TimeMode;
  readonly startMs: number;
  /** Unix milliseconds that all charts show. */
  readonly extent: readonly [number, number];
  /** What was zoomed to; null: all. */
  readonly zoom: readonly [number, number] | null;
  readonly isGrowing: boolean;
  readonly isLarge: boolean;
  readonly crosshair: Crosshair;
  readonly onZoom: (range: readonly [number, number] | null) => void;
  readonly onLarge: (key: string | null) => void;
}

const PLOT_HEIGHT = { usual: 156, large: 380 };
const BUCKET_STEP = 512;
const LEGEND_MAX = { usual: 8, large: LINES_MAX };
/** A little more than what is shown, so that lines run out of the view. */
const RANGE_MARGIN = 0.05;

export const SystemPanel = memo(function SystemPanel(props: SystemPanelProps) {
  const { chart, tellers, choice, mode, startMs, extent, zoom, isLarge } = props;
  const [box, setBox] = useState<HTMLElement | null>(null);
  const width = useWidth(box);
  const isNear = useNearView(box);
  const plan = useMemo(() => planLines(chart, tellers, choice), [chart, tellers, choice]);
  const answer = usePlannedSeries(props, plan, width, isNear && width > 0);
  const originMs = originOf(mode, startMs);
  const lines = useMemo(() => toLines(plan, answer.data ?? [], originMs), [plan, answer.data, originMs]);
  const range = zoom ?? extent;
  const [first, last] = range;
  const view = useMemo(
    (): PlotView => ({ lines, range: [first - originMs, last - originMs], smoothing: 0, isLog: false, isClipped: false, emphasis: null }),
    [lines, first, last, originMs],
  );
  const height = isLarge ? PLOT_HEIGHT.large : PLOT_HEIGHT.usual;
  return (
    <section ref={setBox} className={`system-panel card ${isLarge ? "large" : ""}`} aria-label={chart.key}>
      <PanelHead {...props} lines={lines} />
      <div className="system-plot" style={{ height }}>
        {isNear && width > 0 ? <PlotCanvas {...props} view={view} width={width} height={height} originMs={originMs} /> : null}
        {answer.isPending ? <div className="system-cover loading" aria-hidden="true" /> : null}
        {answer.error !== null && lines.length === 0 ? (
          <div className="system-cover" role="alert">
            <p>{describeError(answer.error).title}</p>
            <Button className="small" onClick={() => void answer.refetch()}>
              Try again
            </Button>
          </div>
        ) : lines.length === 0 && !answer.isPending ? (
          <div className="system-cover muted">{plan.lines.length === 0 ? "not sampled on this node" : "nothing sampled in this span"}</div>
        ) : null}
      </div>
      <PanelFoot plan={plan} lines={lines} chart={chart} error={answer.error} isOther={answer.isPlaceholderData} isLarge={isLarge} />
    </section>
  );
});

function usePlannedSeries({ runPath, zoom, isGrowing }: SystemPanelProps, plan: ChartPlan, width: number, isWanted: boolean) {
  const ask = useMemo(
    () => ({
      runPath,
      metrics: [...new Set(plan.lines.map(({ metric }) => metric))],
      writers: plan.isTogether ? [] : [...new Set(plan.lines.flatMap(({ writers }) => writers))],
      isByWriter: !plan.isTogether,
      range: withMargin(zoom),
      bucketCountMax: Math.max(1, Math.ceil(width / BUCKET_STEP)) * BUCKET_STEP,
    }),
    [runPath, plan, zoom, width],
  );
  return useSystemSeries(ask, isGrowing, isWanted && ask.metrics.length > 0);
}

function PanelHead({ chart, isLarge, onLarge, lines }: SystemPanelProps & { lines: readonly PlotLine[] }) {
  const only = lines.length === 1 ? lines[0] : undefined;
  const last = only === undefined ? undefined : lastValue(only);
  return (
    <header className="system-head">
      <Hint text={chart.descriptions.join("; ")} side="top">
        <h3 className="cut">
          {chart.title}
          <span className="system-unit"> {titleUnit(chart.unit)}</span>
        </h3>
      </Hint>
      {last === undefined ? null : <span className="system-last number">{formatDrawn(last, chart.unit)}</span>}
      <IconButton
        label={isLarge ? "Make small" : "Enlarge"}
        isOn={isLarge}
        onClick={() => {
          onLarge(isLarge ? null : chart.key);
        }}
      >
        <ExpandIcon size={13} />
      </IconButton>
    </header>
  );
}

interface CanvasProps extends SystemPanelProps {
  readonly view: PlotView;
  readonly width: number;
  readonly height: number;
  readonly originMs: number;
}

function PlotCanvas({ chart, mode, startMs, originMs, view, width, height, crosshair, isLarge, onZoom }: CanvasProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<LinePlot | null>(null);
  const current = useRef({ view, width, height, onZoom });
  useEffect(() => {
    current.current = { view, width, height, onZoom };
  });
  const { unit } = chart;
  useEffect(() => {
    if (host.current === null) return;
    const { width: atFirst, height: tall, view: shown } = current.current;
    const events = {
      onZoom: (from: number, to: number) => {
        current.current.onZoom([from + originMs, to + originMs]);
      },
      onReset: () => {
        current.current.onZoom(null);
      },
    };
    const made = new LinePlot(host.current, atFirst, tall, false, crosshair, events, isLarge, scalesFor(unit, mode, originMs, startMs));
    made.update(shown);
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
  }, [unit, mode, originMs, startMs, crosshair, isLarge]);
  useEffect(() => {
    plot.current?.resize(width, height);
  }, [width, height]);
  useEffect(() => {
    plot.current?.update(view);
  }, [view]);
  return <div ref={host} role="img" aria-label={describe(chart, view)} />;
}

interface FootProps {
  readonly plan: ChartPlan;
  readonly lines: readonly PlotLine[];
  readonly chart: SystemChart;
  readonly error: unknown;
  readonly isOther: boolean;
  readonly isLarge: boolean;
}

/** Which line is which, and what the drawing does not show by itself. */
function PanelFoot({ plan, lines, chart, error, isOther, isLarge }: FootProps) {
  const word = chart.isOfProcess ? "processes" : "nodes";
  const parts: string[] = [];
  if (plan.isTogether) parts.push(`mean and range of ${formatCount(plan.tellerCount)} ${word}`);
  if (plan.lineCount > plan.lines.length) parts.push(`${formatCount(LINES_MAX)} of ${formatCount(plan.lineCount)} lines are shown`);
  if (error !== null && lines.length > 0) parts.push("not up to date");
  if (isOther) parts.push("loading …");
  else if (lines.length > 0) parts.push(bucketText(lines));
  const labels = lines.length > 1 ? lines : [];
  const most = isLarge ? LEGEND_MAX.large : LEGEND_MAX.usual;
  return (
    <footer className="system-foot">
      {labels.length === 0 ? null : (
        <ul className="system-legend">
          {labels.slice(0, most).map((line) => (
            <li key={line.label}>
              <i style={{ background: `var(--run-${line.colourIndex})` }} />
              {line.label}
            </li>
          ))}
          {labels.length > most ? <li>+{labels.length - most}</li> : null}
        </ul>
      )}
      <span className="system-notes cut">{parts.join(" · ")}</span>
    </footer>
  );
}

function bucketText(lines: readonly PlotLine[]): string {
  if (lines.every(({ series }) => series.isRaw)) return "every sample";
  return `${formatDuration(Math.max(...lines.map(({ series }) => series.width)))} a bucket`;
}

function toLines(plan: ChartPlan, answer: readonly SystemColumns[], originMs: number): PlotLine[] {
  return plan.lines.flatMap(({ label, metric, unit, writers }, i) => {
    const parts = answer.filter((one) => one.metric === metric && (plan.isTogether ? one.writer === 0 : writers.includes(one.writer)));
    if (parts.length === 0) return [];
    return [{ label, ...lineStyleAt(i), series: toLine(parts, originMs, factorOf(unit)) }];
  });
}

function scalesFor(unit: string, mode: TimeMode, originMs: number, startMs: number): PlotScales {
  const axis = valueAxis(unit);
  return {
    xIncrements: TIME_INCREMENTS,
    xLabels: (ticks) => timeLabels(mode, originMs, ticks),
    valueIncrements: axis.increments,
    valueLabels: axis.labels,
    fitValues: axis.fit,
    valueText: (value) => formatDrawn(value, unit),
    rangeText: (low, high) => `${formatDrawn(low, unit)} … ${formatDrawn(high, unit)}`,
    title: (series, i) => momentTitle(series.timesMs[i] as number, startMs),
    lineWord: "lines",
  };
}

function lastValue({ series }: PlotLine): number | undefined {
  return series.isRaw ? series.lasts.at(-1) : series.means.at(-1);
}

function describe(chart: SystemChart, { lines }: PlotView): string {
  const ends = lines.slice(0, 3).map((line) => `${line.label} last ${formatDrawn(lastValue(line) ?? NaN, chart.unit)}`);
  return `Line chart of ${chart.title}: ${ends.join("; ")}${lines.length > 3 ? `; ${lines.length} lines` : ""}`;
}

function withMargin(range: readonly [number, number] | null): readonly [number, number] | null {
  if (range === null) return null;
  const margin = Math.max(1, Math.round((range[1] - range[0]) * RANGE_MARGIN));
  return [range[0] - margin, range[1] + margin];
}

/** Width of the inside of an element, followed as it changes. */
function useWidth(element: HTMLElement | null): number {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (element === null) return;
    const observer = new ResizeObserver(() => {
      setWidth(element.clientWidth);
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
    };
  }, [element]);
  return width;
}

/** Whether an element is in or near the view: charts elsewhere ask for nothing. */
function useNearView(element: HTMLElement | null): boolean {
  const [isNear, setNear] = useState(false);
  useEffect(() => {
    if (element === null) return;
    const observer = new IntersectionObserver(
      (entries) => {
        setNear(entries.at(-1)?.isIntersecting ?? false);
      },
      { rootMargin: "300px" },
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
    };
  }, [element]);
  return isNear;
}
