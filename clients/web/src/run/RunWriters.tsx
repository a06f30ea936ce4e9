// The writers of a run: who they are, whether each is alive, how far each is, and which lag behind.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useMemo, useState } from "react";
import { Link } from "react-router";
import { useRunWriters, useWriterLiveness } from "../api/lifeQueries";
import { useReceipt } from "../api/queries";
import { isLive, stateName } from "../api/runState";
import { type Run, type RunWriter, timestampMs, type WriterLiveness, type WriterReceipt } from "../api/types";
import { formatCount } from "../charts/format";
import { Button } from "../ui/controls";
import { SkeletonRows } from "../ui/feedback";
import { StateBadge } from "../ui/StateIcon";
import { formatAgo, formatTime, useNow } from "../ui/time";
import { useView } from "../ui/view";

interface RunWritersProps {
  readonly run: Run;
  /** Address of the charts of the writer with that label. */
  readonly chartsOf: (label: string) => string;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

interface Row {
  readonly writer: RunWriter;
  readonly life: WriterLiveness | undefined;
  readonly receipt: WriterReceipt | undefined;
}

const ROW_HEIGHT = 30;
const FILTERS = [
  ["all", "All"],
  ["lagging", "Lagging"],
  ["silent", "Silent"],
  ["ended", "Ended"],
] as const;
type Filter = (typeof FILTERS)[number][0];

export function RunWriters({ run, chartsOf, renderError }: RunWritersProps) {
  const isRunning = isLive(run.state);
  const writers = useRunWriters(run.path, isRunning);
  const liveness = useWriterLiveness(run.path, isRunning);
  const receipt = useReceipt(run.path, isRunning);
  const [view, change] = useView();
  const filter = (view.get("writers") ?? "all") as Filter;
  const rows = useMemo((): Row[] | null => {
    if (writers.data === undefined) return null;
    const lives = new Map(liveness.data?.writers.map((life) => [life.writer, life]));
    const receipts = new Map(receipt.data?.writers.map((one) => [one.writer, one]));
    return writers.data.map((writer) => ({ writer, life: lives.get(writer.writer), receipt: receipts.get(writer.writer) }));
  }, [writers.data, liveness.data, receipt.data]);
  if (writers.error !== null && rows === null) return renderError(writers.error, () => void writers.refetch());
  const median = liveness.data?.medianStep;
  const shown = rows?.filter((row) => isWanted(row, filter)) ?? [];
  return (
    <div className="writers">
      <div className="writers-bar">
        <span className="writers-filters" role="group" aria-label="Which writers">
          {FILTERS.map(([key, label]) => (
            <Button
              key={key}
              className={`small ${filter === key ? "primary" : ""}`}
              aria-pressed={filter === key}
              onClick={() => {
                change({ writers: key === "all" ? "" : key });
              }}
            >
              {label} <span className="number">{rows === null ? "…" : formatCount(rows.filter((row) => isWanted(row, key)).length)}</span>
            </Button>
          ))}
        </span>
        <span className="muted">
          {median === undefined
            ? ""
            : `median step ${formatCount(median)}; lagging from ${formatCount(liveness.data?.stragglerSteps ?? 0n)} steps behind`}
        </span>
      </div>
      {rows === null ? (
        <SkeletonRows count={8} height={ROW_HEIGHT} />
      ) : shown.length === 0 ? (
        <p className="nothing">No writer is {filter}.</p>
      ) : (
        <Rows rows={shown} median={median} isRunning={isRunning} chartsOf={chartsOf} />
      )}
    </div>
  );
}

function isWanted({ writer, life }: Row, filter: Filter): boolean {
  if (filter === "lagging") return life?.isStraggler === true;
  if (filter === "silent") return life?.isSilent === true;
  if (filter === "ended") return writer.endTime !== undefined;
  return true;
}

interface RowsProps extends Pick<RunWritersProps, "chartsOf"> {
  readonly rows: readonly Row[];
  readonly median: bigint | undefined;
  readonly isRunning: boolean;
}

function Rows({ rows, median, isRunning, chartsOf }: RowsProps) {
  const [scroll, setScroll] = useState<HTMLDivElement | null>(null);
  const now = useNow(1_000);
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => scroll, estimateSize: () => ROW_HEIGHT, overscan: 16 });
  return (
    <div className="writers-scroll" ref={setScroll} role="table" aria-label="Writers" aria-rowcount={rows.length}>
      <div className="writer-row head" role="row">
        {["Writer", "Rank", "Node", "State", "Step", "Behind", "Records durable", "Last heartbeat", "Attempt"].map((name) => (
          <span key={name} role="columnheader" className={NUMERIC.has(name) ? "number" : ""}>
            {name}
          </span>
        ))}
      </div>
      <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map(({ index, start }) => {
          const row = rows[index];
          return row === undefined ? null : (
            <div key={row.writer.writer} className="writer-row" role="row" style={{ transform: `translateY(${start}px)`, height: ROW_HEIGHT }}>
              <WriterCells row={row} median={median} isRunning={isRunning} chartsOf={chartsOf} now={now} />
            </div>
          );
        })}
      </div>
    </div>
  );
}

const NUMERIC = new Set(["Rank", "Step", "Behind", "Records durable", "Attempt"]);

interface CellsProps extends Pick<RunWritersProps, "chartsOf"> {
  readonly row: Row;
  readonly median: bigint | undefined;
  readonly isRunning: boolean;
  readonly now: number;
}

function WriterCells({ row: { writer, life, receipt }, median, isRunning, chartsOf, now }: CellsProps) {
  const identity = writer.identity;
  const node = identity?.node === undefined || identity.node === "" ? writer.hostname : identity.node;
  const step = life?.lastStep;
  const behind = step === undefined || median === undefined ? null : median - step;
  const beatMs = life?.lastBeatTime === undefined ? null : timestampMs(life.lastBeatTime);
  const written = life !== undefined && life.recordsWritten > 0n ? life.recordsWritten : (receipt?.recordsWritten ?? receipt?.lastSequence);
  const durable = receipt?.recordsDurable;
  return (
    <>
      <span role="cell" className="cut" title={writer.label}>
        <Link to={chartsOf(writer.label)} className="link" title={`Charts of ${writer.label} alone`}>
          {writer.label}
        </Link>
      </span>
      <span role="cell" className="number">
        {identity?.rank ?? "–"}
      </span>
      <span role="cell" className="cut" title={[node, ...(identity?.gpus ?? []).map((gpu) => `GPU ${gpu}`)].join(" · ")}>
        {node === "" ? "–" : node}
      </span>
      <span role="cell" className="writer-state">
        {/* A writer that was never heard to end, of a run that has, ended with it. */}
        {writer.endTime === undefined && !isRunning ? <span className="muted">no end told</span> : <StateBadge state={stateName(writer.state)} />}
        {life?.isSilent === true ? <span className="flag bad">silent</span> : null}
      </span>
      <span role="cell" className="number">
        {step === undefined ? "–" : formatCount(step)}
      </span>
      <span role="cell" className={`number ${life?.isStraggler === true ? "lagging" : ""}`}>
        {behind === null ? "–" : behind > 0n ? formatCount(behind) : "0"}
      </span>
      <span role="cell" className="number">
        {durable === undefined ? "–" : written === undefined ? formatCount(durable) : `${formatCount(durable)} of ${formatCount(written)}`}
      </span>
      <span role="cell" title={beatMs === null ? "" : formatTime(beatMs)}>
        {beatMs === null ? (writer.endTime === undefined ? "–" : `ended ${formatAgo(timestampMs(writer.endTime), now)}`) : formatAgo(beatMs, now)}
      </span>
      <span role="cell" className="number">
        {writer.attempt}
      </span>
    </>
  );
}
