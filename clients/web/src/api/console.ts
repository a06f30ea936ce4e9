// Reads of what a run printed: pages of lines, what changed since, and how much there is. A page is for logs/, which keeps the window.
import { Code, ConnectError } from "@connectrpc/connect";
import { useQuery } from "@tanstack/react-query";
import { ConsoleStream } from "../gen/runyard/ingest/v1/ingest_pb";
import { GetConsoleRequestSchema, type ListConsoleLinesResponse } from "../gen/runyard/query/v1/query_pb";
import { query } from "./clients";
import { isWorthRetrying } from "./errors";
import { keyOf } from "./queries";

export { ConsoleStream };

/** One line, as the store has it. */
export interface ConsoleLine {
  /** writer:line, which says which line it is. */
  readonly key: string;
  readonly writer: number;
  readonly line: number;
  /** When its first byte came, Unix milliseconds. */
  readonly timeMs: number;
  readonly stream: ConsoleStream;
  /** With its escape sequences, without a newline. */
  readonly text: string;
  /** False for what is there only because it stands beside a match. */
  readonly isMatch: boolean;
}

/** Which lines are wanted. */
export interface LineFilter {
  readonly writers: readonly number[];
  readonly streams: readonly ConsoleStream[];
  readonly contains: string;
  readonly matches: string;
  readonly isCaseSensitive: boolean;
  readonly firstTimeMs?: number | undefined;
  readonly lastTimeMs?: number | undefined;
  readonly contextLineCount: number;
}

export interface LinesAsk {
  readonly runPath: string;
  readonly filter: LineFilter;
  readonly isNewestFirst: boolean;
  readonly pageSize: number;
  readonly pageToken?: string;
  readonly changesToken?: string;
}

export interface LinesPage {
  /** By (time, writer, line). */
  readonly lines: readonly ConsoleLine[];
  readonly nextPageToken: string;
  readonly changesToken: string;
  readonly isCut: boolean;
}

const NS_PER_MS = 1_000_000n;
const AMOUNT_INTERVAL_MS = 5_000;
const RETRY_DELAYS_MS = [600, 1_500];

/** Asks for a page of lines; a server that is busy for a moment is asked again. */
export async function listConsoleLines(ask: LinesAsk, signal: AbortSignal): Promise<LinesPage> {
  const { filter } = ask;
  const request = {
    runPath: ask.runPath,
    writers: [...filter.writers],
    streams: [...filter.streams],
    contains: filter.contains,
    matches: filter.matches,
    isCaseSensitive: filter.isCaseSensitive,
    ...(filter.firstTimeMs === undefined ? {} : { firstTimeUnixNs: BigInt(filter.firstTimeMs) * NS_PER_MS }),
    ...(filter.lastTimeMs === undefined ? {} : { lastTimeUnixNs: BigInt(filter.lastTimeMs) * NS_PER_MS }),
    isNewestFirst: ask.isNewestFirst,
    pageSize: ask.pageSize,
    pageToken: ask.pageToken ?? "",
    contextLineCount: filter.contextLineCount,
    changesToken: ask.changesToken ?? "",
  };
  for (let attempt = 0; ; attempt++) {
    try {
      return readPage(await query.listConsoleLines(request, { signal }));
    } catch (error) {
      const delayMs = RETRY_DELAYS_MS[attempt];
      if (delayMs === undefined || signal.aborted || !isWorthRetrying(error)) throw error;
      await pause(delayMs, signal);
    }
  }
}

/** True for the error of a call that was given up. */
export function isGivenUp(error: unknown): boolean {
  return ConnectError.from(error).code === Code.Canceled;
}

function readPage(answer: ListConsoleLinesResponse): LinesPage {
  const lines = answer.lines.map((number, i): ConsoleLine => {
    const writer = answer.writers[i] ?? 0;
    return {
      key: `${writer}:${number}`,
      writer,
      line: Number(number),
      timeMs: Number((answer.timesUnixNs[i] ?? 0n) / NS_PER_MS),
      stream: answer.streams[i] ?? ConsoleStream.STDOUT,
      text: answer.texts[i] ?? "",
      isMatch: answer.isMatch[i] ?? true,
    };
  });
  return { lines, nextPageToken: answer.nextPageToken, changesToken: answer.changesToken, isCut: answer.isCut };
}

/** Waits; a signal that is given ends that early. */
export function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, delayMs);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}

/** How much each writer of a run has printed. */
export function useConsole(runPath: string, isRunning: boolean) {
  const request = { runPath };
  return useQuery({
    queryKey: keyOf(GetConsoleRequestSchema, request),
    queryFn: ({ signal }) => query.getConsole(request, { signal }),
    select: (answer) => answer.writers,
    refetchInterval: isRunning ? AMOUNT_INTERVAL_MS : false,
  });
}
