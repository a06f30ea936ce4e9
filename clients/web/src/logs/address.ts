// What the address says of the logs: search, filters, time, line, how lines are shown. Pure.
import { ConsoleStream, type LineFilter } from "../api/console";
import type { ViewPatch } from "../ui/view";

export interface LinePlace {
  readonly writer: number;
  readonly line: number;
  /** When it began, if the link says so; without it the line is looked for. */
  readonly timeMs: number | null;
}

export interface LogsAddress {
  readonly search: string;
  readonly isExpression: boolean;
  readonly isCaseSensitive: boolean;
  readonly contextLineCount: number;
  /** Null: all. */
  readonly writer: number | null;
  readonly stream: "stdout" | "stderr" | null;
  /** From where on the log is shown, and searched. */
  readonly timeMs: number | null;
  readonly line: LinePlace | null;
  readonly isWrapped: boolean;
  readonly hasTimes: boolean;
}

export const CONTEXT_COUNTS = [0, 2, 5] as const;
const WRITER_MAX = 2 ** 32 - 1;
const LINE_MAX = 2 ** 40;
const TIME_MAX_MS = 8.64e15;

/** Reads the address; what cannot be read counts as not said. */
export function readAddress(view: URLSearchParams): LogsAddress {
  const stream = view.get("stream");
  const context = Number(view.get("context") ?? 0);
  return {
    search: view.get("q") ?? "",
    isExpression: view.get("regex") === "1",
    isCaseSensitive: view.get("case") === "1",
    contextLineCount: CONTEXT_COUNTS.find((count) => count === context) ?? 0,
    writer: wholeNumber(view.get("writer"), WRITER_MAX),
    stream: stream === "stdout" || stream === "stderr" ? stream : null,
    timeMs: readTime(view.get("t")),
    line: readLinePlace(view.get("line")),
    isWrapped: view.get("wrap") === "1",
    hasTimes: view.get("times") !== "0",
  };
}

/** What to set in the address for such changes. */
export function addressPatch(change: Partial<LogsAddress>): ViewPatch {
  const patch: ViewPatch = {};
  if (change.search !== undefined) patch["q"] = change.search;
  if (change.isExpression !== undefined) patch["regex"] = change.isExpression ? "1" : null;
  if (change.isCaseSensitive !== undefined) patch["case"] = change.isCaseSensitive ? "1" : null;
  if (change.contextLineCount !== undefined) patch["context"] = change.contextLineCount === 0 ? null : String(change.contextLineCount);
  if (change.writer !== undefined) patch["writer"] = change.writer === null ? null : String(change.writer);
  if (change.stream !== undefined) patch["stream"] = change.stream;
  if (change.timeMs !== undefined) patch["t"] = change.timeMs === null ? null : new Date(change.timeMs).toISOString();
  if (change.line !== undefined) patch["line"] = change.line === null ? null : formatLinePlace(change.line);
  if (change.isWrapped !== undefined) patch["wrap"] = change.isWrapped ? "1" : null;
  if (change.hasTimes !== undefined) patch["times"] = change.hasTimes ? null : "0";
  return patch;
}

/** writer:line, or writer:line@time with the time in Unix milliseconds. */
export function formatLinePlace({ writer, line, timeMs }: LinePlace): string {
  return `${writer}:${line}${timeMs === null ? "" : `@${timeMs}`}`;
}

export function readLinePlace(text: string | null): LinePlace | null {
  const found = /^(\d{1,10}):(\d{1,13})(?:@(\d{1,16}))?$/.exec(text ?? "");
  if (found === null) return null;
  const writer = wholeNumber(found[1] ?? null, WRITER_MAX);
  const line = wholeNumber(found[2] ?? null, LINE_MAX);
  if (writer === null || line === null || line === 0) return null;
  return { writer, line, timeMs: wholeNumber(found[3] ?? null, TIME_MAX_MS) };
}

/** The lines that the address asks for; a search is left out of the whole log. */
export function filterOf(address: LogsAddress, isSearch: boolean): LineFilter {
  const { STDOUT, STDERR, NOTE } = ConsoleStream;
  return {
    writers: address.writer === null ? [] : [address.writer],
    // What runyard says of lines that it could not keep belongs to both.
    streams: address.stream === null ? [] : [address.stream === "stdout" ? STDOUT : STDERR, NOTE],
    contains: isSearch && !address.isExpression ? address.search : "",
    matches: isSearch && address.isExpression ? address.search : "",
    isCaseSensitive: address.isCaseSensitive,
    firstTimeMs: isSearch ? (address.timeMs ?? undefined) : undefined,
    contextLineCount: isSearch ? address.contextLineCount : 0,
  };
}

function readTime(text: string | null): number | null {
  const timeMs = text === null || text === "" ? NaN : Date.parse(text);
  return Number.isFinite(timeMs) ? timeMs : null;
}

function wholeNumber(text: string | null, most: number): number | null {
  if (text === null || !/^\d{1,16}$/.test(text)) return null;
  const number = Number(text);
  return number <= most ? number : null;
}
