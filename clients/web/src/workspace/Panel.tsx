// One chart: title, canvas, and a line beneath it that says what the drawing leaves out.
import { memo, type ReactNode, useEffect, useMemo, useRef } from "react";
import { type SeriesSource, usePanelSeries } from "../api/buckets";
import { describeError } from "../api/errors";
import { lineStyles } from "../charts/colour";
import type { Crosshair } from "../charts/crosshair";
import { formatCount, formatShort } from "../charts/format";
import { LinePlot, type PlotLine, type PlotView } from "../charts/linePlot";
import { type BucketColumns, countNonFinite, countNotPositive, isFlattened, stepExtent } from "../charts/series";
import { Button, IconButton } from "../ui/controls";
import { ExpandIcon } from "../ui/icons";
import { panelTitle } from "./sections";
import type { ShownRun } from "./Workspace";

export const PANEL_HEAD = 30;
export const PANEL_FOOT = 20;
/** Buckets asked for: more than pixels, since the store halves until they fit; in steps, so that a small resize asks nothing. */
const BUCKET_STEP = 512;
const RANGE_MARGIN = 0.05;

export interface PanelProps {
  readonly metric: string;
  readonly runs: readonly ShownRun[];
  readonly width: number;
  readonly height: number;
  readonly range: readonly [number, number] | null;
  readonly smoothing: number;
  readonly isLog: boolean;
  readonly isClipped: boolean;
  readonly emphasis: string | null;
  readonly crosshair: Crosshair;
  /** Last value, where one run is shown. */
  readonly last?: number | undefined;
  readonly isLarge?: boolean;
  readonly onZoom: (range: readonly [number, number] | null) => void;
  readonly onClip: (metric: string) => void;
  readonly onEnlarge?: ((metric: string) => void) | undefined;
}

export const Panel = memo(function Panel(props: PanelProps) {
  const { metric, runs, width, height, range, smoothing, isLog, isClipped, emphasis } = props;
  const answer = usePanelSeries({
    metric,
    live: useMemo(() => runs.filter(({ isRunning }) => isRunning).map(sourceOf), [runs]),
    ended: useMemo(() => runs.filter(({ isRunning }) => !isRunning).map(sourceOf), [runs]),
    range: useMemo(() => withMargin(range), [range]),
    bucketCountMax: Math.max(1, Math.ceil((width * 1.3) / BUCKET_STEP)) * BUCKET_STEP,
  });
  const lines = useMemo(() => toLines(answer.series, runs), [answer.series, runs]);
  const view = useMemo(
    (): PlotView => ({ lines, range, smoothing, isLog, isClipped, emphasis }),
    [lines, range, smoothing, isLog, isClipped, emphasis],
  );
  const plotHeight = height - PANEL_HEAD - PANEL_FOOT;
  const isEmpty = !answer.isPending && lines.length === 0;
  return (
    <section className="panel card" style={{ width, height }} aria-label={metric}>
      <PanelHead {...props} />
      <div className="panel-body" style={{ height: plotHeight }}>
        <PlotCanvas {...props} view={view} plotHeight={plotHeight} />
        {answer.isPending ? <div className="panel-cover loading" aria-hidden="true" /> : null}
        {answer.error !== null && lines.length === 0 ? (
          <div className="panel-cover" role="alert">
            <p>{describeError(answer.error).title}</p>
            <Button className="small" onClick={answer.retry}>
              Try again
            </Button>
          </div>
        ) : isEmpty && !answer.isOther ? (
          <div className="panel-cover muted">
            {range === null ? "no points yet" : `no points between ${formatCount(range[0])} and ${formatCount(range[1])}`}
          </div>
        ) : null}
      </div>
      <footer className="panel-foot">
        <PanelNotes {...props} lines={lines} isOther={answer.isOther} error={answer.error} />
      </footer>
    </section>
  );
});

function PanelHead({ metric, last, isLarge, onEnlarge }: PanelProps) {
  return (
    <header className="panel-head">
      <h3 className="cut" title={metric}>
        {isLarge === true ? metric : panelTitle(metric)}
      </h3>
      {last === undefined ? null : (
        <span className="panel-last" title={`last value: ${String(last)}`}>
          {formatShort(last)}
        </span>
      )}
      {onEnlarge === undefined ? null : (
        <IconButton
          label="Enlarge"
          onClick={() => {
            onEnlarge(metric);
          }}
        >
          <ExpandIcon size={13} />
        </IconButton>
      )}
    </header>
  );
}

function PlotCanvas({ view, plotHeight, ...props }: PanelProps & { view: PlotView; plotHeight: number }) {
  const { width, isLog, crosshair, isLarge = false, onZoom, metric } = props;
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<LinePlot | null>(null);
  const zoom = useRef(onZoom);
  const size = useRef({ width, height: plotHeight });
  const current = useRef(view);
  useEffect(() => {
    zoom.current = onZoom;
    size.current = { width, height: plotHeight };
    current.current = view;
  });
  useEffect(() => {
    if (host.current === null) return;
    const made = new LinePlot(host.current, size.current.width, size.current.height, isLog, crosshair, {
      onZoom: (first, last) => {
        zoom.current([first, last]);
      },
      onReset: () => {
        zoom.current(null);
      },
    }, isLarge);
    made.update(current.current);
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
  }, [isLog, crosshair, isLarge]);
  useEffect(() => {
    plot.current?.resize(width, plotHeight);
  }, [width, plotHeight]);
  useEffect(() => {
    plot.current?.update(view);
  }, [view]);
  return <div ref={host} role="img" aria-label={describe(metric, view)} />;
}

interface NotesProps extends PanelProps {
  readonly lines: readonly PlotLine[];
  readonly isOther: boolean;
  readonly error: unknown;
}

/** What the drawing does not show by itself: buckets, non-finite values, what a logarithm cannot draw, a lost connection. */
function PanelNotes({ metric, runs, lines, range, isLog, isClipped, isOther, error, onClip }: NotesProps) {
  const all = lines.map(({ series }) => series);
  const parts: ReactNode[] = [];
  if (error !== null && lines.length > 0) parts.push(<em key="stale">not up to date: {describeError(error).title.toLowerCase()}</em>);
  if (isOther) parts.push("loading finer points …");
  else if (all.length > 0) parts.push(bucketText(all));
  if (runs.length > 1 && lines.length < runs.length) parts.push(`${lines.length} of ${runs.length} ${runs[0]?.part === undefined ? "runs" : "lines"} have it`);
  const { nan, infinite } = countAll(all);
  if (nan > 0) parts.push(`${formatCount(nan)} NaN`);
  if (infinite > 0) parts.push(`${formatCount(infinite)} ±∞`);
  const notPositive = isLog ? all.reduce((sum, series) => sum + countNotPositive(series), 0) : 0;
  if (notPositive > 0) parts.push(`${formatCount(notPositive)} not drawn (≤ 0)`);
  const extent = range ?? stepExtent(all);
  const canClip = extent !== null && isFlattened(all, { first: extent[0], last: extent[1], isLog });
  return (
    <>
      <span className="cut">
        {parts.map((part, i) => (
          <span key={i}>
            {i > 0 ? " · " : ""}
            {part}
          </span>
        ))}
      </span>
      {canClip || isClipped ? (
        <button
          type="button"
          className="clip"
          title={isClipped ? "The outermost 1 % at each side lie outside the view" : "A few values flatten the rest"}
          onClick={() => {
            onClip(metric);
          }}
        >
          {isClipped ? "show spikes" : "clip spikes"}
        </button>
      ) : null}
    </>
  );
}

function bucketText(all: readonly BucketColumns[]): string {
  const widths = all.filter(({ isRaw }) => !isRaw).map(({ width }) => width);
  if (widths.length === 0) return "every point";
  const least = Math.min(...widths);
  const most = Math.max(...widths);
  if (most === 1) return "every step";
  return least === most ? `${formatCount(most)} steps a bucket` : `${formatCount(least)}–${formatCount(most)} steps a bucket`;
}

function countAll(all: readonly BucketColumns[]): { nan: number; infinite: number } {
  let nan = 0;
  let infinite = 0;
  for (const series of all) {
    const counts = countNonFinite(series);
    nan += counts.nan;
    infinite += counts.positiveInfinity + counts.negativeInfinity;
  }
  return { nan, infinite };
}

function describe(metric: string, { lines }: PlotView): string {
  const ends = lines.slice(0, 3).map(({ label, series }) => `${label} last ${formatShort(series.lasts.at(-1) ?? Number.NaN)}`);
  return `Line chart of ${metric}: ${ends.join("; ")}${lines.length > 3 ? `; ${lines.length} lines` : ""}`;
}

function sourceOf({ path, part }: ShownRun): SeriesSource {
  return part === undefined ? { key: path, path, selection: null } : { key: `${path} ${part.key}`, path, selection: part.selection };
}

function toLines(series: readonly BucketColumns[], runs: readonly ShownRun[]): PlotLine[] {
  const byKey = new Map(series.map((one) => [one.runPath, one]));
  const styles = lineStyles(runs.map(({ runId }) => runId));
  return runs.flatMap((run) => {
    const found = byKey.get(sourceOf(run).key);
    const style = run.part?.style ?? styles.get(run.runId);
    if (found === undefined || style === undefined || found.lastSteps.length === 0) return [];
    return [{ label: run.name, colourIndex: style.colourIndex, dash: style.dash, series: found }];
  });
}

/** A little more than what is shown, so that lines run out of the view and a small move shows points at once. */
function withMargin(range: readonly [number, number] | null): readonly [number, number] | null {
  if (range === null) return null;
  const margin = Math.max(1, Math.round((range[1] - range[0]) * RANGE_MARGIN));
  return [range[0] - margin, range[1] + margin];
}
