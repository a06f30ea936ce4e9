// The list of runs beside the charts: which are shown, in which colour, in which state.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, type PointerEvent, useEffect, useRef, useState } from "react";
import { Link } from "react-router";
import { stateName } from "../api/runState";
import type { Run } from "../api/types";
import { lineStyles } from "../charts/colour";
import { formatCount } from "../charts/format";
import { Button, IconButton, SearchInput } from "../ui/controls";
import { SkeletonRows } from "../ui/feedback";
import { EyeIcon, EyeOffIcon, PanelLeftIcon } from "../ui/icons";
import { StateIcon } from "../ui/StateIcon";
import { useDelayed } from "../ui/view";
import { SHOWN_DEFAULT, SHOWN_MAX, type ShownRuns } from "./shownRuns";
import "./runs.css";

const ROW_HEIGHT = 28;
const WIDTH = { least: 180, usual: 264, most: 560 };

export function RunSelector({ shown, runAddress }: { shown: ShownRuns; runAddress: (runId: string) => string }) {
  const [width, setWidth] = useState(WIDTH.usual);
  const [isOpen, setOpen] = useState(true);
  const [text, setText] = useDelayed(shown.filter, shown.setFilter, 200);
  if (!isOpen) {
    return (
      <aside className="selector closed">
        <IconButton
          label="Show the list of runs"
          onClick={() => {
            setOpen(true);
          }}
        >
          <PanelLeftIcon />
        </IconButton>
      </aside>
    );
  }
  return (
    <aside className="selector" style={{ width }} aria-label="Runs">
      <div className="selector-head">
        <SearchInput label="Filter runs by name" text={text} onText={setText} />
        <IconButton
          label="Hide the list of runs"
          onClick={() => {
            setOpen(false);
          }}
        >
          <PanelLeftIcon />
        </IconButton>
      </div>
      <SelectorCounts shown={shown} />
      <SelectorRows shown={shown} runAddress={runAddress} />
      <ResizeHandle width={width} onWidth={setWidth} />
    </aside>
  );
}

function SelectorCounts({ shown }: { shown: ShownRuns }) {
  const total = formatCount(shown.totalCount);
  const word = shown.filter === "" ? "runs" : "matching runs";
  return (
    <div className="selector-counts">
      <span>
        {formatCount(shown.runs.length)} of {total} {word} shown
      </span>
      {shown.isDefault ? (
        shown.runs.length > 0 ? (
          <Button className="bare" onClick={shown.hideAll}>
            Hide all
          </Button>
        ) : null
      ) : (
        <Button className="bare" onClick={shown.showNewest}>
          Newest {SHOWN_DEFAULT}
        </Button>
      )}
      {shown.shownIds.size >= SHOWN_MAX ? <p>A chart shows at most {SHOWN_MAX} runs.</p> : null}
    </div>
  );
}

function SelectorRows({ shown, runAddress }: { shown: ShownRuns; runAddress: (runId: string) => string }) {
  const scroll = useRef<HTMLDivElement>(null);
  const { rows, hasMore, loadMore } = shown;
  const styles = lineStyles(shown.runs.map(({ runId }) => runId));
   
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 10,
  });
  const items = virtual.getVirtualItems();
  const lastIndex = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasMore && lastIndex >= rows.length - 20) loadMore();
  }, [hasMore, lastIndex, rows.length, loadMore]);
  if (shown.isPending) return <SkeletonRows count={10} />;
  return (
    <div className="selector-rows" ref={scroll}>
      <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {items.map(({ index, start }) => {
          const run = rows[index]?.run;
          return run === undefined ? null : (
            <SelectorRow
              key={run.runId}
              run={run}
              top={start}
              shown={shown}
              dash={styles.get(run.runId)?.dash ?? []}
              colourIndex={styles.get(run.runId)?.colourIndex}
              to={runAddress(run.runId)}
            />
          );
        })}
      </div>
      {rows.length === 0 ? <p className="nothing">No run's name contains “{shown.filter}”.</p> : null}
    </div>
  );
}

interface SelectorRowProps {
  readonly run: Run;
  readonly top: number;
  readonly shown: ShownRuns;
  readonly dash: readonly number[];
  /** Undefined: not shown. */
  readonly colourIndex: number | undefined;
  readonly to: string;
}

function SelectorRow({ run, top, shown, dash, colourIndex, to }: SelectorRowProps) {
  const isShown = shown.shownIds.has(run.runId);
  const eye = isShown ? "Hide" : "Show";
  return (
    <div
      className={`selector-row ${isShown ? "" : "off"}`}
      style={{ transform: `translateY(${top}px)` }}
      onPointerEnter={() => {
        if (isShown) shown.setEmphasis(run.path);
      }}
      onPointerLeave={() => {
        shown.setEmphasis(null);
      }}
    >
      <button
        type="button"
        className="eye"
        aria-label={`${eye} ${run.displayName}`}
        aria-pressed={isShown}
        title={`${eye} in the charts (Alt: this one only)`}
        onClick={(event) => {
          if (event.altKey) shown.showOnly(run.runId);
          else shown.toggle(run.runId);
        }}
      >
        {isShown ? <EyeIcon /> : <EyeOffIcon />}
      </button>
      <LineSample colourIndex={colourIndex} dash={dash} />
      <StateIcon state={stateName(run.state)} />
      <Link to={to} className="cut" title={`${run.displayName}\n${run.path}`}>
        {run.displayName}
      </Link>
    </div>
  );
}

/** How the run's line looks: colour, and dashes where a colour is used twice. */
function LineSample({ colourIndex, dash }: { colourIndex: number | undefined; dash: readonly number[] }) {
  return (
    <svg width="16" height="10" aria-hidden="true" className="line-sample">
      <line
        x1="1"
        x2="15"
        y1="5"
        y2="5"
        strokeWidth="3"
        strokeLinecap={dash.length === 0 ? "round" : "butt"}
        stroke={colourIndex === undefined ? "var(--line-strong)" : `var(--run-${colourIndex})`}
        strokeDasharray={dash.length === 0 ? undefined : dash.map((length) => length * 0.8).join(" ")}
      />
    </svg>
  );
}

function ResizeHandle({ width, onWidth }: { width: number; onWidth: (width: number) => void }) {
  const start = useRef<{ x: number; width: number } | null>(null);
  const set = (wanted: number): void => {
    onWidth(Math.min(WIDTH.most, Math.max(WIDTH.least, wanted)));
  };
  return (
    <div
      className="resize-handle"
      role="separator"
      aria-orientation="vertical"
      aria-label="Width of the list of runs"
      aria-valuenow={width}
      aria-valuemin={WIDTH.least}
      aria-valuemax={WIDTH.most}
      tabIndex={0}
      onPointerDown={(event: PointerEvent<HTMLDivElement>) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        start.current = { x: event.clientX, width };
      }}
      onPointerMove={(event) => {
        if (start.current !== null) set(start.current.width + event.clientX - start.current.x);
      }}
      onPointerUp={() => {
        start.current = null;
      }}
      onDoubleClick={() => {
        set(WIDTH.usual);
      }}
      onKeyDown={(event: KeyboardEvent) => {
        if (event.key === "ArrowLeft") set(width - 16);
        if (event.key === "ArrowRight") set(width + 16);
      }}
    />
  );
}
