// What a run printed: the whole log, or the lines that a search finds; at its end and following it, or where the address says.
import { type MouseEvent, type ReactNode, useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { type ConsoleLine, useConsole } from "../api/console";
import { describeError } from "../api/errors";
import { useRunWriters } from "../api/lifeQueries";
import { isLive } from "../api/runState";
import type { Run } from "../api/types";
import { formatCount } from "../charts/format";
import { SkeletonRows } from "../ui/feedback";
import { useLingering } from "../ui/time";
import { useView } from "../ui/view";
import { addressPatch, filterOf, formatLinePlace, type LogsAddress, readAddress } from "./address";
import { DownloadMenu } from "./DownloadMenu";
import { EmptyLog, EmptySearch, UnreadableSearch } from "./empty";
import { LineList, plainText } from "./LineList";
import { LineStrip } from "./LineStrip";
import { LogToolbar } from "./LogToolbar";
import { makeMarker } from "./marks";
import { LogReader, type ReaderState, type Start } from "./reader";
import { compareLines, indexOfKey } from "./window";
import "./logs.css";

interface RunLogsProps {
  readonly run: Run;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

/** What was printed last may arrive after the run's end is known. */
const FOLLOW_AFTER_END_MS = 15_000;

export function RunLogs({ run, renderError }: RunLogsProps) {
  const [view, setView] = useView();
  const address = useMemo(() => readAddress(view), [view]);
  const change = useCallback(
    (wanted: Partial<LogsAddress>, isStep = false) => {
      setView(addressPatch(wanted), isStep);
    },
    [setView],
  );
  const isRunning = isLive(run.state);
  const isGrowing = useLingering(isRunning, FOLLOW_AFTER_END_MS);
  const [isFollowing, setFollowing] = useState(true);
  const isSearching = address.search !== "" && address.line === null;
  const whole = useWholeLog(run.path, address, isSearching, isGrowing && isFollowing);
  const found = useFoundLines(run.path, address, isSearching, isGrowing);
  const wholeState = useSyncExternalStore(whole.subscribe, whole.snapshot);
  const foundState = useSyncExternalStore(found.reader.subscribe, found.reader.snapshot);
  const { labels, writers, lineCount, missingCount, firstMs, lastMs } = useAmount(run, isGrowing);
  const chosen = useChosenLines(whole, address, change);
  const marker = useMemo(
    () => makeMarker(address.search, address.isExpression, address.isCaseSensitive),
    [address.search, address.isExpression, address.isCaseSensitive],
  );

  const goToEnd = useCallback(() => {
    if (isSearching) return;
    change({ timeMs: null, line: null });
    setFollowing(true);
    whole.show({ kind: "end" });
  }, [change, isSearching, whole]);
  useEndKey(goToEnd);

  const reader = isSearching ? found.reader : whole;
  const state = isSearching ? foundState : wholeState;
  const searchError = searchErrorOf(isSearching, foundState);
  const isFiltered = address.writer !== null || address.stream !== null;
  const showAll = useCallback(() => {
    change({ writer: null, stream: null }, true);
  }, [change]);
  return (
    <div className="logs">
      <LogToolbar
        address={address}
        change={change}
        searchError={searchError}
        found={address.search === "" ? null : searchError === "" ? found.words : ""}
        onMatch={(isBackward) => {
          if (isSearching) void found.goOn(isBackward);
          else if (address.search !== "") change({ line: null }, true);
        }}
        writers={writers}
        firstMs={firstMs}
        lastMs={lastMs}
        isFollowing={isGrowing ? isFollowing : null}
        onFollow={() => {
          if (isFollowing) setFollowing(false);
          else goToEnd();
        }}
      >
        <span className="log-count number">{lineCount === null ? "" : `${formatCount(lineCount)} lines`}</span>
        <DownloadMenu runPath={run.path} labels={labels} />
      </LogToolbar>
      {state.isLost ? (
        <p className="log-strip lost" role="status">
          The connection is lost; new lines come when it is back.
        </p>
      ) : null}
      {missingCount > 0 && !isGrowing ? (
        <p className="log-strip" role="status">
          {formatCount(missingCount)} {missingCount === 1 ? "line has" : "lines have"} not arrived: the machine that ran this may still hold them (<code>runyard sync</code>).
        </p>
      ) : null}
      {state.phase === "failed" && searchError === "" ? (
        renderError(state.error, reader.retry)
      ) : state.phase === "loading" ? (
        <div className="log-frame">
          <SkeletonRows count={24} height={20} />
        </div>
      ) : searchError !== "" ? (
        <UnreadableSearch isExpression={address.isExpression} onText={() => { change({ isExpression: false }); }} onClear={() => { change({ search: "" }); }} />
      ) : state.window.lines.length === 0 && state.window.later === null ? (
        isSearching ? (
          <EmptySearch address={address} onClear={() => { change({ search: "" }); }} onAll={isFiltered ? showAll : null} />
        ) : (
          <EmptyLog isGrowing={isGrowing} onAll={isFiltered ? showAll : null} />
        )
      ) : (
        <LineList
          key={isSearching ? "found" : "whole"}
          reader={reader}
          marker={marker}
          hasTimes={address.hasTimes}
          isWrapped={address.isWrapped}
          labels={labels}
          isSearch={isSearching}
          isWithContext={isSearching && address.contextLineCount > 0}
          isKeepingEnd={isGrowing && isFollowing && !isSearching}
          isChosen={isSearching ? isNone : chosen.isChosen}
          currentKey={isSearching ? found.currentKey : null}
          hrefOf={chosen.hrefOf}
          onLine={isSearching ? chosen.open : chosen.choose}
          onEnd={goToEnd}
        />
      )}
      {address.line !== null ? (
        <LineStrip
          place={address.line}
          label={labels?.get(address.line.writer) ?? null}
          isFound={wholeState.phase !== "ready" || wholeState.target.isFound}
          count={chosen.lines().length}
          hasResults={address.search !== ""}
          isLinkCopied={chosen.isLinkCopied}
          textOf={() => plainText(chosen.lines())}
          onResults={() => {
            change({ line: null }, true);
          }}
          onClose={() => {
            change({ line: null, search: "" });
          }}
        />
      ) : null}
    </div>
  );
}

function isNone(): boolean {
  return false;
}

/** What the server says of a search that cannot be; other failures are shown in the place of the lines. */
function searchErrorOf(isSearching: boolean, { phase, error }: ReaderState): string {
  if (!isSearching || phase !== "failed") return "";
  const { reason, detail } = describeError(error);
  return reason === "FIELD_INVALID" ? detail : "";
}

/** The reader of the whole log. It is at the end, or where the address says, and stays where it is while a search is shown. */
function useWholeLog(runPath: string, address: LogsAddress, isSearching: boolean, isFollowing: boolean): LogReader {
  const { writer, stream } = address;
  const reader = useMemo(
    () => new LogReader(runPath, filterOf({ ...readAddress(new URLSearchParams()), writer, stream }, false)),
    [runPath, writer, stream],
  );
  const shown = useRef<{ reader: LogReader; start: string } | null>(null);
  useEffect(
    () => () => {
      reader.close();
      shown.current = null;
    },
    [reader],
  );
  const start = address.line !== null ? `line ${formatLinePlace(address.line)}` : address.timeMs !== null ? `time ${address.timeMs}` : "end";
  useEffect(() => {
    if (isSearching) return;
    const before = shown.current;
    shown.current = { reader, start };
    // Without a place in the address one stays where one is.
    if (before?.reader === reader && (before.start === start || start === "end")) return;
    reader.show(startOf(address));
  }, [reader, start, isSearching, address]);
  useEffect(() => {
    reader.follow(isFollowing && !isSearching);
  }, [reader, isFollowing, isSearching]);
  return reader;
}

function startOf({ line, timeMs }: LogsAddress): Start {
  if (line !== null) return { kind: "line", place: line };
  return timeMs === null ? { kind: "end" } : { kind: "time", timeMs };
}

/** The reader of what the search finds, from the beginning on; it keeps its results while one of them is looked at. */
function useFoundLines(runPath: string, address: LogsAddress, isSearching: boolean, isGrowing: boolean) {
  const { search, isExpression, isCaseSensitive, contextLineCount, writer, stream, timeMs } = address;
  const reader = useMemo(() => {
    const wanted = { ...readAddress(new URLSearchParams()), search, isExpression, isCaseSensitive, contextLineCount, writer, stream, timeMs };
    return new LogReader(runPath, filterOf(wanted, true));
  }, [runPath, search, isExpression, isCaseSensitive, contextLineCount, writer, stream, timeMs]);
  const [current, setCurrent] = useState<{ reader: LogReader; key: string } | null>(null);
  const shown = useRef<LogReader | null>(null);
  useEffect(
    () => () => {
      reader.close();
      shown.current = null;
    },
    [reader],
  );
  useEffect(() => {
    if (!isSearching || shown.current === reader) return;
    shown.current = reader;
    reader.show({ kind: "beginning" });
  }, [reader, isSearching]);
  useEffect(() => {
    reader.follow(isGrowing && isSearching);
  }, [reader, isGrowing, isSearching]);
  const { window, phase } = useSyncExternalStore(reader.subscribe, reader.snapshot);
  const currentKey = current?.reader === reader ? current.key : null;
  const goOn = async (isBackward: boolean): Promise<void> => {
    const before = reader.snapshot().window;
    const matches = before.lines.filter(({ isMatch }) => isMatch);
    const at = currentKey === null ? -1 : indexOfKey(matches, currentKey);
    if (!isBackward && at === matches.length - 1 && before.later !== null) await reader.loadLater();
    if (isBackward && at === 0 && before.earlier !== null) await reader.loadEarlier();
    const now = reader.snapshot().window.lines.filter(({ isMatch }) => isMatch);
    const from = currentKey === null ? -1 : indexOfKey(now, currentKey);
    const next = now[isBackward ? (from <= 0 ? now.length - 1 : from - 1) : (from + 1) % Math.max(1, now.length)];
    if (next !== undefined) setCurrent({ reader, key: next.key });
  };
  const count = window.matchesBefore + window.matchesHere;
  const total = `${formatCount(count)}${window.later === null ? "" : "+"}`;
  const at = currentKey === null ? -1 : indexOfKey(window.lines, currentKey);
  const number = at < 0 ? 0 : window.matchesBefore + window.lines.slice(0, at + 1).filter(({ isMatch }) => isMatch).length;
  const words = phase === "loading" ? "searching …" : number > 0 ? `${formatCount(number)} of ${total}` : `${total} ${total === "1" ? "line" : "lines"} found`;
  return { reader, currentKey, goOn, words };
}

/** How much there is, and who printed it. */
function useAmount(run: Run, isGrowing: boolean) {
  const amount = useConsole(run.path, isGrowing).data;
  const isOfMany = (amount?.length ?? 0) > 1;
  const known = useRunWriters(run.path, isGrowing, isOfMany).data;
  return useMemo(() => {
    const names = new Map(known?.map(({ writer, label }) => [writer, label]));
    const writers = isOfMany ? (amount ?? []).map(({ writer }) => [writer, names.get(writer) || `writer ${writer}`] as const) : [];
    const times = amount?.flatMap(({ firstTimeUnixNs, lastTimeUnixNs }) => [firstTimeUnixNs, lastTimeUnixNs].map((time) => Number(time / 1_000_000n))) ?? [];
    const lineCount = amount === undefined ? null : Number(amount.reduce((sum, { linesDurable }) => sum + linesDurable, 0n));
    const missingCount = Number(amount?.reduce((sum, { linesDurable, lastLine }) => sum + lastLine - linesDurable, 0n) ?? 0n);
    const now = Date.now();
    return {
      writers,
      labels: isOfMany ? new Map(writers) : null,
      lineCount,
      missingCount,
      firstMs: times.length === 0 ? now : Math.min(...times),
      lastMs: times.length === 0 ? now : Math.max(...times),
    };
  }, [amount, known, isOfMany]);
}

/** The line of the address, and those up to one that was clicked with Shift. */
function useChosenLines(reader: LogReader, { line: place }: LogsAddress, change: (change: Partial<LogsAddress>, isStep?: boolean) => void) {
  const key = place === null ? null : formatLinePlace({ ...place, timeMs: null });
  const [range, setRange] = useState<{ key: string; first: ConsoleLine; last: ConsoleLine } | null>(null);
  const [copiedKey, setCopiedKey] = useState<string | null>(null);
  const marked = range?.key === key ? range : null;
  const isChosen = (line: ConsoleLine): boolean =>
    line.key === key || (marked !== null && compareLines(line, marked.first) >= 0 && compareLines(line, marked.last) <= 0);
  const placeOf = ({ writer, line, timeMs }: ConsoleLine) => ({ writer, line, timeMs });
  const hrefOf = (line: ConsoleLine): string => {
    const params = new URLSearchParams(window.location.search);
    params.set("line", formatLinePlace(placeOf(line)));
    return `${window.location.pathname}?${params.toString()}`;
  };
  return {
    isChosen,
    hrefOf,
    isLinkCopied: copiedKey === key,
    lines: () => (key === null ? [] : reader.snapshot().window.lines.filter(isChosen)),
    open: (line: ConsoleLine) => {
      change({ line: placeOf(line) }, true);
    },
    choose: (line: ConsoleLine, event: MouseEvent) => {
      const { lines } = reader.snapshot().window;
      const from = event.shiftKey && key !== null ? lines[indexOfKey(lines, key)] : undefined;
      if (from !== undefined && key !== null) {
        const [first = from, last = from] = [from, line].sort(compareLines);
        setRange({ key, first, last });
        return;
      }
      setRange(null);
      const link = new URL(hrefOf(line), window.location.href);
      link.searchParams.delete("q");
      change({ line: placeOf(line) });
      // Only a page that was served safely may write there.
      void navigator.clipboard?.writeText(link.href).then(
        () => {
          setCopiedKey(line.key);
        },
        () => undefined,
      );
    },
  };
}

/** The key End goes to the end, unless one is typing. */
function useEndKey(onEnd: () => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const isTyping = event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (event.key !== "End" || isTyping || event.defaultPrevented) return;
      event.preventDefault();
      onEnd();
    };
    window.addEventListener("keydown", onKey);
    return () => {
      window.removeEventListener("keydown", onKey);
    };
  }, [onEnd]);
}
