// All charts of the shown runs: sections of panels, of which only those near the view exist.
import { useVirtualizer } from "@tanstack/react-virtual";
import { Fragment, type ReactNode, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useLiveBeat } from "../api/buckets";
import type { Selection } from "../api/bucketLoader";
import { type MediaKindName, useMediaNames } from "../api/media";
import { METRIC_COUNT_MAX, useMetrics } from "../api/queries";
import type { MetricDefinition } from "../api/types";
import type { LineStyle } from "../charts/colour";
import { Crosshair } from "../charts/crosshair";
import { formatCount } from "../charts/format";
import { ChevronDown, ChevronRight } from "../ui/icons";
import { EnlargedPanel } from "./EnlargedPanel";
import { Panel, type PanelProps } from "./Panel";
import { mediaPanels, type MediaPanels, NO_MEDIA } from "./mediaPanels";
import { groupIntoSections, isHidden, type LayoutRow, layoutRows, matchesSearch, type Section } from "./sections";
import { Toolbar } from "./Toolbar";
import { useWorkspaceView } from "./viewState";
import "./workspace.css";

export interface ShownRun {
  readonly path: string;
  readonly runId: string;
  readonly name: string;
  readonly isRunning: boolean;
  readonly definitions: readonly MetricDefinition[];
  /** Absent: the whole run. */
  readonly part?: RunPart;
}

/** Some of a run's points, drawn as a line of their own. */
export interface RunPart {
  /** Its own within the run. */
  readonly key: string;
  /** Absent: it is drawn in the run's colour. */
  readonly style?: LineStyle | undefined;
  readonly selection: Selection;
}

/** What a panel of media is drawn from; who holds the workspace draws it. */
export interface MediaSlot {
  readonly name: string;
  readonly kind: MediaKindName;
  readonly runs: readonly ShownRun[];
  readonly width: number;
  readonly height: number;
  readonly range: readonly [number, number] | null;
  readonly at: number | null;
  readonly version: string;
  readonly isLarge: boolean;
  readonly onStep: (step: number | null) => void;
  readonly onEnlarge: (() => void) | undefined;
}

interface WorkspaceProps {
  readonly runs: readonly ShownRun[];
  /** Runs that could be shown; more than are shown is said. */
  readonly totalRunCount: number;
  readonly isPending: boolean;
  readonly emphasis: string | null;
  /** Further controls of the bar. */
  readonly controls?: ReactNode;
  /** Stands above the charts. */
  readonly note?: ReactNode;
  /** Shown when there is nothing to draw. */
  readonly empty: ReactNode;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
  readonly renderMedia: (slot: MediaSlot) => ReactNode;
}

const GAP = 10;
const PADDING = 12;
const HEAD_HEIGHT = 36;
const PANEL_WIDTH_MIN = 330;
const PANEL_HEIGHT = { usual: 232, few: 340 };
const COLUMNS_MAX = 6;
const MEDIA_HEIGHT = 336;
const MEDIA_WIDTH_MIN = 420;
const MEDIA_COLUMNS_MAX = 4;
const OVERSCAN_ROWS = 2;

export function Workspace({ runs, totalRunCount, isPending, emphasis, controls, note, empty, renderError, renderMedia }: WorkspaceProps) {
  const [view, actions] = useWorkspaceView();
  const [clipped, setClipped] = useState<ReadonlySet<string>>(new Set());
  const [crosshair] = useState(() => new Crosshair());
  const { metrics, sections, media, lasts, isCut, isListPending, error, refetch } = useSections(runs, view.search);
  useLiveBeat(runs.some(({ isRunning }) => isRunning));
  const onClip = useCallback((metric: string) => {
    setClipped((before) => {
      const after = new Set(before);
      if (!after.delete(metric)) after.add(metric);
      return after;
    });
  }, []);
  const panel = useCallback(
    (metric: string, width: number, height: number): PanelProps => ({
      metric,
      runs,
      width,
      height,
      range: view.range,
      smoothing: view.smoothing,
      isLog: view.isLog,
      isClipped: clipped.has(metric),
      emphasis,
      crosshair,
      last: lasts.get(metric),
      onZoom: actions.zoom,
      onClip,
      onEnlarge: actions.enlarge,
    }),
    [runs, view, clipped, emphasis, crosshair, lasts, actions, onClip],
  );
  const mediaPanel = useCallback(
    (id: string, width: number, height: number, isLarge: boolean): ReactNode => {
      const found = media.get(id);
      if (found === undefined) return null;
      return renderMedia({
        name: found.name,
        kind: found.kind,
        runs,
        width,
        height,
        range: view.range,
        at: view.at,
        version: found.version,
        isLarge,
        onStep: actions.setAt,
        onEnlarge: isLarge
          ? undefined
          : () => {
              actions.enlarge(id);
            },
      });
    },
    [media, renderMedia, runs, view.range, view.at, actions],
  );
  const isWaiting = isPending || isListPending;
  const count = sections.reduce((sum, section) => sum + section.metrics.length, 0);
  return (
    <div className="workspace">
      <Toolbar
        view={view}
        actions={actions}
        sections={sections}
        controls={controls}
        counts={isWaiting ? "" : countText(count, metrics, media.size, runs.length, totalRunCount)}
      />
      {note}
      {isCut ? (
        <p className="workspace-note">
          A run here has more than {formatCount(METRIC_COUNT_MAX)} metrics; the first {formatCount(METRIC_COUNT_MAX)} by name are
          listed. Search for others by name.
        </p>
      ) : null}
      {error !== null && metrics === 0 ? (
        renderError(error, refetch)
      ) : isWaiting ? (
        <PanelSkeletons />
      ) : metrics === 0 && view.search === "" ? (
        empty
      ) : count === 0 ? (
        <p className="workspace-none">No metric's name contains “{view.search}”.</p>
      ) : (
        <PanelGrid sections={sections} media={media} shut={view.shut} onToggle={actions.toggleSection} panel={panel} mediaPanel={mediaPanel} />
      )}
      {view.enlarged === null ? null : (
        <EnlargedPanel
          title={view.enlarged}
          render={(width, height) =>
            media.has(view.enlarged ?? "") ? (
              mediaPanel(view.enlarged ?? "", width, height, true)
            ) : (
              <Panel {...panel(view.enlarged ?? "", width, height)} isLarge onEnlarge={undefined} />
            )
          }
          onClose={() => {
            actions.enlarge(null);
          }}
        />
      )}
    </div>
  );
}

function countText(shown: number, all: number, media: number, runs: number, totalRuns: number): string {
  const word = media > 0 ? "metrics and media" : all === 1 ? "metric" : "metrics";
  const metrics = shown === all ? `${formatCount(all)} ${word}` : `${formatCount(shown)} of ${formatCount(all)} ${word}`;
  return totalRuns > 1 ? `${metrics} · ${formatCount(runs)} of ${formatCount(totalRuns)} runs` : metrics;
}

/** The metrics of all shown runs, as sections. */
function useSections(lines: readonly ShownRun[], search: string) {
  const runs = useMemo(() => [...new Map(lines.map((line) => [line.path, line])).values()], [lines]);
  // Names are searched here, but where a run has more than are listed, on the server.
  const [hugeRuns, setHugeRuns] = useState("");
  const runKey = runs.map(({ path }) => path).join("\n");
  const isHuge = hugeRuns !== "" && hugeRuns === runKey;
  const answer = useMetrics(runs, isHuge ? longestWord(search) : "");
  const mediaAnswer = useMediaNames(runs);
  const lists = answer.metrics;
  const isCut = lists.some((list) => list !== null && list.totalCount > list.metrics.length);
  useEffect(() => {
    if (isCut) setHugeRuns(runKey);
  }, [isCut, runKey]);
  const names = useMemo(() => {
    const shown = new Set<string>();
    lists.forEach((list, i) => {
      const definitions = runs[i]?.definitions ?? [];
      for (const { name } of list?.metrics ?? []) if (!isHidden(name, definitions)) shown.add(name);
    });
    return [...shown];
  }, [lists, runs]);
  // The list tells the last value of the whole run.
  const isWhole = lines[0]?.part === undefined;
  const lasts = useMemo(
    () => new Map(lists.length === 1 && isWhole ? lists[0]?.metrics.map(({ name, last }) => [name, last]) : []),
    [lists, isWhole],
  );
  const media = useMemo((): MediaPanels => {
    const found = mediaPanels(mediaAnswer.lists, new Set(names));
    return found.size === 0 ? NO_MEDIA : found;
  }, [mediaAnswer.lists, names]);
  const sections = useMemo(
    () => groupIntoSections([...names, ...media.keys()].filter((name) => matchesSearch(name, search))),
    [names, media, search],
  );
  return {
    metrics: names.length + media.size,
    sections,
    media,
    lasts,
    isCut,
    isListPending: (answer.isPending || mediaAnswer.isPending) && names.length + media.size === 0,
    error: answer.error ?? mediaAnswer.error,
    refetch: () => {
      answer.refetch();
      mediaAnswer.refetch();
    },
  };
}

/** The server searches for one text; the other words are looked for in what it finds. */
function longestWord(search: string): string {
  return search.split(/\s+/).reduce((longest, word) => (word.length > longest.length ? word : longest), "");
}

interface GridProps {
  readonly sections: readonly Section[];
  readonly shut: ReadonlySet<string>;
  readonly onToggle: (name: string) => void;
  readonly media: MediaPanels;
  readonly panel: (metric: string, width: number, height: number) => PanelProps;
  readonly mediaPanel: (id: string, width: number, height: number, isLarge: boolean) => ReactNode;
}

function PanelGrid({ sections, media, shut, onToggle, panel, mediaPanel }: GridProps) {
  const [scroll, setScroll] = useState<HTMLDivElement | null>(null);
  const width = useWidth(scroll);
  const most = Math.max(...sections.map(({ metrics }) => metrics.reduce((count, id) => count + (media.has(id) ? 0 : 1), 0)));
  const fitting = Math.max(1, Math.floor((width - 2 * PADDING + GAP) / (PANEL_WIDTH_MIN + GAP)));
  const columns = Math.min(COLUMNS_MAX, fitting, Math.max(2, most));
  const height = most <= 2 ? PANEL_HEIGHT.few : PANEL_HEIGHT.usual;
  const panelWidth = Math.floor((width - 2 * PADDING - GAP * (columns - 1)) / columns);
  const mediaColumns = Math.min(MEDIA_COLUMNS_MAX, Math.max(1, Math.floor((width - 2 * PADDING + GAP) / (MEDIA_WIDTH_MIN + GAP))));
  const mediaWidth = Math.floor((width - 2 * PADDING - GAP * (mediaColumns - 1)) / mediaColumns);
  const rows = useMemo(
    () => layoutRows(sections, { charts: columns, media: mediaColumns }, shut, (id) => media.has(id)),
    [sections, columns, mediaColumns, shut, media],
  );
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll,
    estimateSize: (index) => rowHeight(rows[index], height),
    getItemKey: (index) => rowKey(rows[index]),
    overscan: OVERSCAN_ROWS,
  });
  useEffect(() => {
    virtual.measure();
  }, [virtual, rows, height]);
  return (
    <div className="panel-scroll" ref={setScroll}>
      {width === 0 ? null : (
        <div style={{ height: virtual.getTotalSize() + PADDING, position: "relative" }}>
          {virtual.getVirtualItems().map(({ index, start, key }) => {
            const row = rows[index];
            return row === undefined ? null : (
              <div key={key} className="panel-row" style={{ transform: `translateY(${start}px)`, gap: GAP }}>
                {row.kind === "head" ? (
                  <SectionHead section={row.section} isShut={row.isShut} onToggle={onToggle} />
                ) : (
                  row.metrics.map((id) =>
                    row.isMedia ? (
                      <Fragment key={id}>{mediaPanel(id, mediaWidth, MEDIA_HEIGHT, false)}</Fragment>
                    ) : (
                      <Panel key={id} {...panel(id, panelWidth, height)} />
                    ),
                  )
                )}
              </div>
            );
          })}
        </div>
      )}
    </div>
  );
}

function rowHeight(row: LayoutRow | undefined, chartHeight: number): number {
  if (row === undefined || row.kind === "head") return HEAD_HEIGHT;
  return (row.isMedia ? MEDIA_HEIGHT : chartHeight) + GAP;
}

function rowKey(row: LayoutRow | undefined): string {
  if (row === undefined) return "";
  return row.kind === "head" ? `head ${row.section.name}` : `panels ${row.section.name} ${row.metrics[0] ?? ""}`;
}

function SectionHead({ section, isShut, onToggle }: { section: Section; isShut: boolean; onToggle: (name: string) => void }) {
  return (
    <h2>
      <button
      type="button"
      className="section-head"
      aria-expanded={!isShut}
      onClick={() => {
        onToggle(section.name);
      }}
    >
      {isShut ? <ChevronRight /> : <ChevronDown />}
      {section.name}
      <span className="tab-count">{formatCount(section.metrics.length)}</span>
      </button>
    </h2>
  );
}

function PanelSkeletons() {
  return (
    <div className="panel-scroll" role="status" aria-label="Loading charts">
      <div className="panel-skeletons">
        {Array.from({ length: 6 }, (_, i) => (
          <div key={i} className="panel card">
            <div className="panel-cover loading" />
          </div>
        ))}
      </div>
    </div>
  );
}

/** Width of an element inside its scroll bar, followed as it changes. */
function useWidth(element: HTMLElement | null): number {
  const [width, setWidth] = useState(0);
  const frame = useRef(0);
  useEffect(() => {
    if (element === null) return;
    const observer = new ResizeObserver(() => {
      cancelAnimationFrame(frame.current);
      frame.current = requestAnimationFrame(() => {
        setWidth(element.clientWidth);
      });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
    };
  }, [element]);
  return width;
}
