// The lines in view of a window of a log: stays where one reads while lines come at either end, and at the end if one is there.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ClipboardEvent, type MouseEvent, useCallback, useEffect, useLayoutEffect, useRef, useState, useSyncExternalStore } from "react";
import type { ConsoleLine } from "../api/console";
import { formatCount } from "../charts/format";
import { Button } from "../ui/controls";
import { ArrowDown } from "../ui/icons";
import { stripAnsi } from "./ansi";
import { LogRow } from "./LogRow";
import type { Marker } from "./marks";
import type { LogReader } from "./reader";
import { indexOfKey } from "./window";

interface LineListProps {
  readonly reader: LogReader;
  readonly marker: Marker;
  readonly hasTimes: boolean;
  readonly isWrapped: boolean;
  /** Null: no column of writers. */
  readonly labels: ReadonlyMap<number, string> | null;
  readonly isSearch: boolean;
  readonly isWithContext: boolean;
  /** Whether the end stays in view while lines come. */
  readonly isKeepingEnd: boolean;
  readonly isChosen: (line: ConsoleLine) => boolean;
  readonly currentKey: string | null;
  readonly hrefOf: (line: ConsoleLine) => string;
  readonly onLine: (line: ConsoleLine, event: MouseEvent) => void;
  readonly onEnd: () => void;
}

const ROW_HEIGHT = 20;
const OVERSCAN = 24;
/** So near an edge the next page is asked for. */
const EDGE_PX = 4_000;
const AT_END_PX = 24;

export function LineList(props: LineListProps) {
  const { reader, isWrapped, labels, isSearch, currentKey } = props;
  const state = useSyncExternalStore(reader.subscribe, reader.snapshot);
  const { lines, earlier, later } = state.window;
  const [scroll, setScroll] = useState<HTMLDivElement | null>(null);
  const [isAtEnd, setAtEnd] = useState(true);
  const keyAt = useCallback((index: number) => lines[index]?.key ?? index, [lines]);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroll,
    estimateSize: () => ROW_HEIGHT,
    getItemKey: keyAt,
    overscan: OVERSCAN,
    anchorTo: "end",
    // The end of what is loaded is not the end of the log.
    followOnAppend: props.isKeepingEnd && reader.view.isAtEnd,
    scrollEndThreshold: AT_END_PX,
  });

  const look = useCallback(() => {
    if (scroll === null) return;
    const { scrollTop, scrollHeight, clientHeight } = scroll;
    const isEnd = reader.snapshot().window.later === null && scrollHeight - scrollTop - clientHeight <= AT_END_PX;
    const top = virtual.getVirtualItemForOffset(scrollTop);
    reader.view = { ...reader.view, index: top?.index ?? 0, key: lines[top?.index ?? 0]?.key ?? null, offset: scrollTop - (top?.start ?? 0), isAtEnd: isEnd };
    setAtEnd(isEnd);
    if (isEnd) reader.seen();
    if (reader.snapshot().edgeError !== null) return;
    if (scrollTop < EDGE_PX) void reader.loadEarlier();
    else if (scrollHeight - scrollTop - clientHeight < EDGE_PX) void reader.loadLater();
  }, [reader, scroll, virtual, lines]);

  useGoTo(reader, scroll, virtual);
  useLayoutEffect(() => {
    if (currentKey === null) return;
    const index = indexOfKey(reader.snapshot().window.lines, currentKey);
    if (index >= 0) virtual.scrollToIndex(index, { align: "center" });
    // Only a new choice moves the view.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [currentKey, reader]);
  useEffect(look, [look]);
  useEffect(() => {
    // The size of the page changes how much is in view.
    if (scroll === null) return;
    const observer = new ResizeObserver(() => {
      if (reader.view.isAtEnd) virtual.scrollToEnd();
      look();
    });
    observer.observe(scroll);
    return () => {
      observer.disconnect();
    };
  }, [scroll, look, reader, virtual]);

  const width = useWidest(virtual.getVirtualItems().map(({ index }) => lines[index]));
  const label = (line: ConsoleLine): string | null => (labels === null ? null : (labels.get(line.writer) ?? `writer ${line.writer}`));
  return (
    <div className="log-frame">
      <div
        ref={setScroll}
        className={`log-scroll ${isWrapped ? "wrapped" : ""}`}
        role="list"
        aria-label={isSearch ? "Lines found" : "Console lines"}
        tabIndex={0}
        onScroll={look}
        onCopy={(event) => {
          copyLines(event, lines);
        }}
        onKeyDown={(event) => {
          if (event.key !== "End" || event.target !== event.currentTarget) return;
          event.preventDefault();
          props.onEnd();
        }}
      >
        <div className="log-lines" style={{ height: virtual.getTotalSize(), ...(isWrapped ? {} : { minWidth: `calc(${width}ch + var(--log-columns))` }) }}>
          {virtual.getVirtualItems().map(({ index, start }) => {
            const line = lines[index];
            if (line === undefined) return null;
            const before = lines[index - 1];
            return (
              <LogRow
                key={line.key}
                line={line}
                index={index}
                top={start}
                measure={isWrapped ? virtual.measureElement : undefined}
                marker={props.marker}
                hasTime={props.hasTimes}
                isWrapped={isWrapped}
                label={label(line)}
                href={props.hrefOf(line)}
                isChosen={props.isChosen(line)}
                isCurrent={line.key === currentKey}
                hasGap={props.isWithContext && before !== undefined && (before.writer !== line.writer || before.line + 1 !== line.line)}
                isSearch={isSearch}
                onLine={props.onLine}
              />
            );
          })}
        </div>
      </div>
      <p className="log-edge" role="status">
        {state.isLoadingEarlier && earlier !== null ? "Loading earlier lines …" : state.isLoadingLater && later !== null ? "Loading later lines …" : ""}
      </p>
      {state.edgeError !== null ? (
        <p className="log-edge failed" role="alert">
          More lines could not be loaded.{" "}
          <Button className="small" onClick={() => void (scroll !== null && scroll.scrollTop < EDGE_PX ? reader.loadEarlier() : reader.loadLater())}>
            Try again
          </Button>
        </p>
      ) : null}
      {isAtEnd || isSearch ? null : (
        <Button className="small log-jump" onClick={props.onEnd}>
          {state.unseen > 0 ? `${formatCount(state.unseen)} new ${state.unseen === 1 ? "line" : "lines"}` : ""} <ArrowDown size={12} /> Jump to end
        </Button>
      )}
    </div>
  );
}

type Virtual = ReturnType<typeof useVirtualizer<HTMLDivElement, Element>>;

/** Goes to the line that is wished for, or, where that was done before, to where one was. */
function useGoTo(reader: LogReader, scroll: HTMLDivElement | null, virtual: Virtual): void {
  const { target } = reader.snapshot();
  useLayoutEffect(() => {
    if (scroll === null) return;
    const { lines } = reader.snapshot().window;
    const { view } = reader;
    const isNew = view.wish !== target.wish;
    const key = isNew ? target.key : view.isAtEnd ? null : view.key;
    reader.view = { ...view, wish: target.wish };
    const index = key === null ? -1 : indexOfKey(lines, key);
    if (index < 0) {
      virtual.scrollToEnd();
      return;
    }
    const range = virtual.range;
    if (!isNew) virtual.scrollToOffset((virtual.getOffsetForIndex(index, "start")?.[0] ?? index * ROW_HEIGHT) + view.offset);
    else if (target.align === "start") virtual.scrollToIndex(index, { align: "start" });
    else if (range === null || scroll.scrollHeight <= scroll.clientHeight || index <= range.startIndex || index >= range.endIndex) {
      virtual.scrollToIndex(index, { align: "center" });
    }
    // A wish is granted once; what is rendered in between does not repeat it.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [reader, scroll, target.wish]);
}

/** Letters of the longest line that was in view: the width does not shrink while one scrolls. */
function useWidest(shown: readonly (ConsoleLine | undefined)[]): number {
  const widest = useRef(0);
  for (const line of shown) if (line !== undefined && line.text.length > widest.current) widest.current = Math.min(4_060, stripAnsi(line.text).length);
  return widest.current;
}

/** Copies the marked lines: whole ones if there are several, as plain text without times. */
function copyLines(event: ClipboardEvent, lines: readonly ConsoleLine[]): void {
  const selection = window.getSelection();
  if (selection === null || selection.rangeCount === 0) return;
  const range = selection.getRangeAt(0);
  const [first, last] = [range.startContainer, range.endContainer].map(lineIndexOf);
  if (first === undefined || last === undefined || first === null || last === null || first === last) return;
  event.preventDefault();
  // A mark that ends before the first letter of a line does not hold that line.
  const end = range.endOffset === 0 ? last : last + 1;
  event.clipboardData.setData("text/plain", `${plainText(lines.slice(first, end))}\n`);
}

/** Lines as plain text. */
export function plainText(lines: readonly ConsoleLine[]): string {
  return lines.map(({ text }) => stripAnsi(text)).join("\n");
}

function lineIndexOf(node: Node): number | null {
  const element = node instanceof Element ? node : node.parentElement;
  const index = element?.closest("[data-index]")?.getAttribute("data-index");
  return index === null || index === undefined ? null : Number(index);
}
