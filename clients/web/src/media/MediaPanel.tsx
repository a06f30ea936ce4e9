// One panel of media: title, what was logged at the step that is looked at, one column for each run, and a slider over the steps.
import { memo, type ReactNode, useMemo, useState } from "react";
import { describeError } from "../api/errors";
import { type MediaEntry, type MediaSeries, useMediaSeries } from "../api/media";
import { lineStyleAt, lineStyles } from "../charts/colour";
import { formatCount } from "../charts/format";
import { Button, IconButton } from "../ui/controls";
import { ExpandIcon } from "../ui/icons";
import { HistogramsAtStep, HistogramsOverSteps, type NamedBins } from "./Histograms";
import { ImageGrid, OverlayChips, setNames } from "./ImageGrid";
import "./media.css";
import type { Overlays } from "./Picture";
import { HtmlFrame, Players } from "./Players";
import { PlotValue } from "./PlotValue";
import { COLUMNS_MAX, distinctRuns, OVERLAID_MAX, selectionOf } from "./runs";
import { STEP_BAR, StepBar } from "./StepBar";
import { entriesAt, placeOf, unionSteps } from "./steps";
import { TableView } from "./TableView";
import type { MediaPanelProps, MediaRun } from "./types";

const HEAD = 30;
const FOOT = 20;
const COLUMN_HEAD = 20;
const GAP = 8;
const PADDING = 10;
/** Class 0 of a mask is the background, mostly. */
const NOTHING_HIDDEN: Overlays = { hiddenSets: new Set(), hiddenClasses: new Set([0]) };

interface Column {
  readonly run: MediaRun;
  readonly series: MediaSeries;
  readonly entries: readonly MediaEntry[];
}

export const MediaPanel = memo(function MediaPanel(props: MediaPanelProps) {
  const { name, kind, runs, width, height, range, at, version, isLarge = false, onStep, onEnlarge } = props;
  const asked = useMemo(() => distinctRuns(runs), [runs]);
  const most = kind === "histogram" ? OVERLAID_MAX : asked.length;
  const answer = useMediaSeries({
    kind,
    name,
    runPaths: useMemo(() => asked.slice(0, Math.min(100, most)).map(({ path }) => path), [asked, most]),
    selection: useMemo(() => selectionOf(runs), [runs]),
    range,
    version,
  });
  const series = useMemo(() => answer.data?.series ?? [], [answer.data]);
  const steps = useMemo(() => unionSteps(series), [series]);
  const place = placeOf(steps, at);
  const [overlays, setOverlays] = useState<Overlays>(NOTHING_HIDDEN);
  const [isOverSteps, setOverSteps] = useState(true);
  const columns = useMemo(() => columnsOf(asked, series, at), [asked, series, at]);
  const hasSteps = steps.length > 1;
  const isHeat = kind === "histogram" && columns.length === 1 && hasSteps && isOverSteps;
  const bodyHeight = height - HEAD - FOOT - (hasSteps ? STEP_BAR : 0);
  const sets = useMemo(() => (kind === "image" ? setNames(columns.flatMap(({ entries }) => entries)) : []), [kind, columns]);
  return (
    <section className="panel card media-panel" style={{ width, height }} aria-label={name}>
      <header className="panel-head">
        <h3 className="cut" title={name}>
          {isLarge ? name : titleOf(name)}
        </h3>
        {sets.length === 0 ? null : <OverlayChips names={sets} overlays={overlays} onOverlays={setOverlays} />}
        {kind === "histogram" && columns.length === 1 && hasSteps ? (
          <Button
            className={`small ${isOverSteps ? "on" : ""}`}
            aria-pressed={isOverSteps}
            onClick={() => {
              setOverSteps(!isOverSteps);
            }}
          >
            over steps
          </Button>
        ) : null}
        {onEnlarge === undefined ? null : (
          <IconButton label="Enlarge" onClick={onEnlarge}>
            <ExpandIcon size={13} />
          </IconButton>
        )}
      </header>
      <div className="panel-body" style={{ height: bodyHeight, padding: `0 ${String(PADDING)}px` }}>
        {answer.data === undefined ? (
          answer.error === null ? (
            <div className="panel-cover loading" aria-hidden="true" />
          ) : (
            <div className="panel-cover" role="alert">
              <p>{describeError(answer.error).title}</p>
              <Button className="small" onClick={() => void answer.refetch()}>
                Try again
              </Button>
            </div>
          )
        ) : columns.length === 0 ? (
          <div className="panel-cover muted">{range === null ? "nothing yet" : `nothing between ${formatCount(range[0])} and ${formatCount(range[1])}`}</div>
        ) : isHeat ? (
          <HistogramsOverSteps
            entries={columns[0]?.series.entries ?? []}
            width={width - 2 * PADDING}
            height={bodyHeight}
            at={at === null ? null : (columns[0]?.entries[0]?.step ?? null)}
            onStep={onStep}
            label={name}
          />
        ) : kind === "histogram" ? (
          <HistogramsAtStep all={namedBins(columns)} width={width - 2 * PADDING} height={bodyHeight} label={name} />
        ) : (
          <Columns {...props} columns={columns} width={width - 2 * PADDING} height={bodyHeight} overlays={overlays} onOverlays={setOverlays} />
        )}
      </div>
      {hasSteps ? <StepBar name={name} steps={steps} place={place} isLast={at === null} onStep={onStep} /> : null}
      <footer className="panel-foot">
        <span className="cut">{notes({ columns, series, steps, asked, kind, isCut: answer.data?.isCut === true, error: answer.error }).join(" · ")}</span>
      </footer>
    </section>
  );
});

/** Without the section; a name that is only that stands whole. */
function titleOf(name: string): string {
  const slash = name.indexOf("/");
  return slash <= 0 || slash === name.length - 1 ? name : name.slice(slash + 1);
}

function columnsOf(runs: readonly MediaRun[], series: readonly MediaSeries[], at: number | null): Column[] {
  const byPath = new Map(series.map((one) => [one.runPath, one]));
  return runs.flatMap((run) => {
    const found = byPath.get(run.path);
    if (found === undefined || found.entries.length === 0) return [];
    return [{ run, series: found, entries: entriesAt(found, at) }];
  });
}

function namedBins(columns: readonly Column[]): NamedBins[] {
  const styles = lineStyles(columns.map(({ run }) => run.runId));
  return columns.map(({ run, entries }) => {
    const { colourIndex, dash } = styles.get(run.runId) ?? lineStyleAt(0);
    return { label: run.name, colour: `var(--run-${String(colourIndex)})`, dash, entries };
  });
}

interface ColumnsProps extends MediaPanelProps {
  readonly columns: readonly Column[];
  readonly overlays: Overlays;
  readonly onOverlays: (overlays: Overlays) => void;
}

function Columns({ columns, width, height, name, overlays, onOverlays }: ColumnsProps) {
  const shown = columns.slice(0, COLUMNS_MAX);
  const styles = lineStyles(columns.map(({ run }) => run.runId));
  const isNamed = columns.length > 1;
  const columnWidth = Math.floor((width - GAP * (shown.length - 1)) / shown.length);
  const inner = height - (isNamed ? COLUMN_HEAD : 0);
  return (
    <div className="media-columns" style={{ gap: GAP }}>
      {shown.map(({ run, entries }) => (
        <div key={run.path} style={{ width: columnWidth }}>
          {isNamed ? (
            <p className="column-head cut" style={{ height: COLUMN_HEAD }} title={run.name}>
              <i style={{ background: `var(--run-${String(styles.get(run.runId)?.colourIndex ?? 0)})` }} />
              {run.name}
              <span className="muted"> step {formatCount(entries[0]?.step ?? 0)}</span>
            </p>
          ) : null}
          <Values entries={entries} width={columnWidth} height={inner} title={isNamed ? `${name}: ${run.name}` : name} overlays={overlays} onOverlays={onOverlays} />
        </div>
      ))}
    </div>
  );
}

interface ValuesProps {
  readonly entries: readonly MediaEntry[];
  readonly width: number;
  readonly height: number;
  readonly title: string;
  readonly overlays: Overlays;
  readonly onOverlays: (overlays: Overlays) => void;
}

function Values({ entries, width, height, title, overlays, onOverlays }: ValuesProps): ReactNode {
  const first = entries[0];
  if (first === undefined) return null;
  switch (first.kind) {
    case "image":
      return <ImageGrid entries={entries} width={width} height={height} overlays={overlays} onOverlays={onOverlays} title={`${title}, step ${formatCount(first.step)}`} />;
    case "audio":
    case "video":
      return <Players entries={entries} kind={first.kind} width={width} height={height} />;
    case "html":
      return <HtmlFrame entry={first} width={width} height={height} title={title} />;
    case "plot":
      return <PlotValue entry={first} width={width} height={height} label={title} />;
    case "table":
      return <TableView key={`${first.fileRunPath} ${String(first.step)}`} entry={first} width={width} height={height} label={title} />;
    case "histogram":
      return <HistogramsAtStep all={[{ label: title, colour: "var(--accent)", entries }]} width={width} height={height} label={title} />;
    case "other":
      return <p className="panel-cover muted">This page does not know what this is; it may be older than the server.</p>;
  }
}

interface NoteFacts {
  readonly columns: readonly Column[];
  readonly series: readonly MediaSeries[];
  readonly steps: readonly number[];
  readonly asked: readonly MediaRun[];
  readonly kind: string;
  readonly isCut: boolean;
  readonly error: unknown;
}

/** What the panel does not show by itself: sampled steps, runs without it, what was cut, a lost connection. */
function notes({ columns, series, steps, asked, kind, isCut, error }: NoteFacts): string[] {
  const parts: string[] = [];
  if (error !== null && series.length > 0) parts.push(`not up to date: ${describeError(error).title.toLowerCase()}`);
  const most = Math.max(0, ...series.map(({ stepCount }) => stepCount));
  const isSampled = series.some((one) => one.isSampled);
  if (isSampled) parts.push(`${formatCount(steps.length)} of ${formatCount(most)} steps; zoom a chart for others`);
  else if (steps.length > 1) parts.push(`${formatCount(steps.length)} steps`);
  if (isCut) parts.push("cut: the values are very large");
  if (asked.length > 1 && columns.length < asked.length) parts.push(`${String(columns.length)} of ${String(asked.length)} runs have it`);
  const drawn = kind === "histogram" ? OVERLAID_MAX : COLUMNS_MAX;
  if (columns.length > drawn || (kind === "histogram" && asked.length > drawn)) parts.push(`the first ${String(drawn)} are shown`);
  const entries = columns.flatMap((column) => column.entries);
  if (kind !== "histogram" && columns.length === 1 && entries.length > 1) parts.push(`by ${String(entries.length)} writers`);
  const nonFinite = kind === "histogram" && columns.length === 1 ? entries.reduce((sum, { bins }) => sum + (bins?.nonFiniteCount ?? 0), 0) : 0;
  if (nonFinite > 0) parts.push(`${formatCount(nonFinite)} NaN or ±∞`);
  return parts;
}
