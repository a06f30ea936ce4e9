// Downloads a log as text: the whole, or what one writer printed; says how far it is, and can be given up.
import { useEffect, useRef } from "react";
import { isGivenUp, type LineFilter } from "../api/console";
import { describeError } from "../api/errors";
import { formatBytes, formatCount } from "../charts/format";
import { Button, IconButton, Menu } from "../ui/controls";
import { CloseIcon, DownloadIcon } from "../ui/icons";
import { BLOB_BYTES_MAX, type DownloadProgress, openSink, writeLog } from "./download";

interface DownloadProps {
  readonly runPath: string;
  readonly lineCount: number;
  /** Names of the writers, if there is more than one. */
  readonly labels: ReadonlyMap<number, string> | null;
  readonly onState: (state: DownloadState | null) => void;
}

export interface DownloadState {
  readonly words: string;
  readonly isFailed: boolean;
  /** Ends the download; null: it has ended. */
  readonly cancel: (() => void) | null;
}

const WRITERS_MAX = 40;
const ALL: LineFilter = { writers: [], streams: [], contains: "", matches: "", isCaseSensitive: false, contextLineCount: 0 };

export function DownloadMenu({ runPath, lineCount, labels, onState }: DownloadProps) {
  const running = useRef<AbortController | null>(null);
  useEffect(
    () => () => {
      running.current?.abort();
    },
    [],
  );
  const begin = async (writer: number | null, hasTimes: boolean): Promise<void> => {
    running.current?.abort();
    const runId = runPath.split("/").at(-1) ?? "run";
    const label = writer === null ? "" : `-${labels?.get(writer) ?? writer}`;
    const sink = await openSink(`${runId}${label}.log`.replace(/[^\w.-]+/g, "_"));
    if (sink === null) return;
    const control = new AbortController();
    running.current = control;
    const cancel = (): void => {
      control.abort();
    };
    const tell = ({ lineCount: done, bytes }: DownloadProgress): void => {
      const of = writer === null ? ` of ${formatCount(lineCount)}` : "";
      onState({ words: `Downloading: ${formatCount(done)}${of} lines, ${formatBytes(bytes)}`, isFailed: false, cancel });
    };
    tell({ lineCount: 0, bytes: 0 });
    try {
      const ask = { runPath, filter: { ...ALL, writers: writer === null ? [] : [writer] }, hasTimes, labels: writer === null ? labels : null };
      const isCut = await writeLog(ask, sink, tell, control.signal);
      onState(isCut ? { words: `Cut at ${formatBytes(BLOB_BYTES_MAX)}: this browser cannot write files piece by piece.`, isFailed: true, cancel: null } : null);
    } catch (error) {
      onState(control.signal.aborted || isGivenUp(error) ? null : { words: `Download failed: ${describeError(error).detail}`, isFailed: true, cancel: null });
    }
  };
  const writers = labels === null ? [] : [...labels].slice(0, WRITERS_MAX);
  return (
    <Menu
      trigger={
        <IconButton label="Download as text">
          <DownloadIcon />
        </IconButton>
      }
      items={[
        { label: "Whole log", onSelect: () => void begin(null, false) },
        { label: "Whole log with times", onSelect: () => void begin(null, true) },
        ...writers.map(([writer, label]) => ({ label: `Only ${label}`, onSelect: () => void begin(writer, false) })),
      ]}
    />
  );
}

export function DownloadStrip({ state, onClose }: { state: DownloadState; onClose: () => void }) {
  return (
    <p className={`log-strip ${state.isFailed ? "failed" : ""}`} role="status">
      {state.words}
      {state.cancel === null ? (
        <IconButton label="Close" onClick={onClose}>
          <CloseIcon size={12} />
        </IconButton>
      ) : (
        <Button className="small" onClick={state.cancel}>
          Cancel
        </Button>
      )}
    </p>
  );
}

