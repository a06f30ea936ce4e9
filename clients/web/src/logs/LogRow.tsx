// One line of a log. Drawn only while it is in view; its colours are read then, once.
import { Fragment, memo, type MouseEvent } from "react";
import { type ConsoleLine, ConsoleStream } from "../api/console";
import { type Span, parseLine } from "./ansi";
import type { Marker, Range } from "./marks";
import { paintOf } from "./paint";
import { formatClock, formatStamp } from "./times";

interface LogRowProps {
  readonly line: ConsoleLine;
  readonly index: number;
  readonly top: number;
  readonly measure: ((element: HTMLElement | null) => void) | undefined;
  readonly marker: Marker;
  readonly hasTime: boolean;
  readonly isWrapped: boolean;
  /** Null: no column of writers. */
  readonly label: string | null;
  readonly href: string;
  readonly isChosen: boolean;
  readonly isCurrent: boolean;
  readonly hasGap: boolean;
  readonly isSearch: boolean;
  readonly onLine: (line: ConsoleLine, event: MouseEvent) => void;
}

/** Letters drawn of a line that is not wrapped; wrapped it is shown whole. */
const LETTERS_MAX = 4_000;

export const LogRow = memo(function LogRow(props: LogRowProps) {
  const { line, index, top, measure, hasTime, label, isChosen, isCurrent, hasGap, isSearch } = props;
  const kind = line.stream === ConsoleStream.STDERR ? "stderr" : line.stream === ConsoleStream.NOTE ? "note" : "stdout";
  const classes = ["log-line", kind, isChosen ? "chosen" : "", isCurrent ? "current" : "", hasGap ? "gap" : "", isSearch && !line.isMatch ? "context" : ""];
  return (
    <div
      role="listitem"
      className={classes.filter((name) => name !== "").join(" ")}
      data-index={index}
      data-key={line.key}
      ref={measure}
      style={{ transform: `translateY(${top}px)` }}
      aria-current={isChosen || isCurrent ? "true" : undefined}
      onClick={
        isSearch
          ? (event) => {
              // Marking text with the mouse is no click.
              if (window.getSelection()?.isCollapsed !== false) props.onLine(line, event);
            }
          : undefined
      }
    >
      {hasTime ? (
        <a
          className="log-time"
          href={props.href}
          title={`${formatStamp(line.timeMs)}\n${isSearch ? "show in the whole log" : "link to this line"}`}
          onClick={(event) => {
            event.stopPropagation();
            if (event.metaKey || event.ctrlKey) return;
            event.preventDefault();
            props.onLine(line, event);
          }}
        >
          {formatClock(line.timeMs)}
        </a>
      ) : null}
      {label === null ? null : (
        <span className="log-writer cut" title={label}>
          {label}
        </span>
      )}
      {kind === "stdout" ? null : <span className="visually-hidden">{kind}: </span>}
      {kind === "note" ? <span className="log-note">runyard</span> : null}
      <LineText {...props} />
    </div>
  );
});

function LineText({ line, marker, isWrapped }: LogRowProps) {
  const { plain, spans } = parseLine(line);
  const shown = isWrapped ? plain.length : Math.min(plain.length, LETTERS_MAX);
  const marks = line.isMatch ? marker(plain) : [];
  return (
    <span className="log-text">
      {spans.length === 0 && marks.length === 0
        ? plain.slice(0, shown)
        : pieces(shown, spans, marks).map(({ start, end, span, isMark }) => {
            const text = plain.slice(start, end);
            const content = isMark ? <mark>{text}</mark> : text;
            if (span === null) return <Fragment key={start}>{content}</Fragment>;
            const { className, style } = paintOf(span.style);
            return (
              <span key={start} className={className} style={style}>
                {content}
              </span>
            );
          })}
      {shown < plain.length ? <span className="log-more"> … {plain.length - shown} more letters; wrap lines to see them</span> : null}
    </span>
  );
}

interface Piece {
  readonly start: number;
  readonly end: number;
  readonly span: Span | null;
  readonly isMark: boolean;
}

/** Cuts a text where a style or a mark begins or ends. */
function pieces(length: number, spans: readonly Span[], marks: readonly Range[]): readonly Piece[] {
  const cuts = [...new Set([0, length, ...spans.flatMap(({ start, end }) => [start, end]), ...marks.flat()])]
    .filter((cut) => cut <= length)
    .sort((a, b) => a - b);
  let span = 0;
  let mark = 0;
  return cuts.slice(1).map((end, i) => {
    const start = cuts[i] ?? 0;
    while ((spans[span]?.end ?? Infinity) <= start) span++;
    while ((marks[mark]?.[1] ?? Infinity) <= start) mark++;
    const here = spans[span];
    return { start, end, span: here !== undefined && here.start <= start ? here : null, isMark: (marks[mark]?.[0] ?? Infinity) <= start };
  });
}
