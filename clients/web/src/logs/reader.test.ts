import { describe, expect, it } from "vitest";
import { type ConsoleLine, ConsoleStream, type LineFilter, type LinesAsk, type LinesPage } from "../api/console";
import { LogReader, type Start } from "./reader";
import { LINES_MAX } from "./window";

const FILTER: LineFilter = { writers: [], streams: [], contains: "", matches: "", isCaseSensitive: false, contextLineCount: 0 };

/** A store of lines that answers as the server does: tokens are places, a changes token is how many lines there were. */
function storeOf(lines: ConsoleLine[]) {
  const asks: LinesAsk[] = [];
  const list = (ask: LinesAsk): Promise<LinesPage> => {
    asks.push(ask);
    const { firstTimeMs = -Infinity, lastTimeMs = Infinity, writers } = ask.filter;
    const changesToken = String(lines.length);
    if (ask.changesToken !== undefined) {
      return Promise.resolve({ lines: lines.slice(Number(ask.changesToken)), nextPageToken: "", changesToken, isCut: false });
    }
    const wanted = lines.filter(({ timeMs, writer }) => timeMs >= firstTimeMs && timeMs <= lastTimeMs && (writers.length === 0 || writers.includes(writer)));
    const from = Number(ask.pageToken === "" || ask.pageToken === undefined ? 0 : ask.pageToken);
    const end = Math.min(wanted.length, from + ask.pageSize);
    const page = ask.isNewestFirst ? wanted.slice(wanted.length - end, wanted.length - from) : wanted.slice(from, end);
    return Promise.resolve({ lines: page, nextPageToken: end < wanted.length ? String(end) : "", changesToken, isCut: false });
  };
  return { asks, list };
}

function linesOf(count: number, perMs = 1): ConsoleLine[] {
  return Array.from({ length: count }, (_, i) => ({
    key: `1:${i + 1}`,
    writer: 1,
    line: i + 1,
    timeMs: 1_000_000 + Math.floor(i / perMs),
    stream: ConsoleStream.STDOUT,
    text: `line ${i + 1}`,
    isMatch: true,
  }));
}

async function opened(lines: ConsoleLine[], start: Start) {
  const store = storeOf(lines);
  const reader = new LogReader("a/b/c", FILTER, store.list);
  const isReady = new Promise<void>((resolve) => {
    reader.subscribe(() => {
      if (reader.snapshot().phase !== "loading") resolve();
    });
  });
  reader.show(start);
  await isReady;
  return { reader, ...store };
}

function ends(reader: LogReader): [number | undefined, number | undefined] {
  const { lines } = reader.snapshot().window;
  return [lines[0]?.line, lines.at(-1)?.line];
}

describe("LogReader", () => {
  it("begins at the end, and reads on to the beginning", async () => {
    const { reader } = await opened(linesOf(2_500), { kind: "end" });
    expect(ends(reader)).toEqual([1_501, 2_500]);
    await reader.loadEarlier();
    await reader.loadEarlier();
    expect(ends(reader)).toEqual([1, 2_500]);
    expect(reader.snapshot().window.earlier).toBeNull();
  });

  it("keeps a bounded stretch, and finds what it dropped again without a gap, also where many lines have one time", async () => {
    const { reader } = await opened(linesOf(60_000, 3_000), { kind: "beginning" });
    for (let page = 0; page < 59; page++) await reader.loadLater();
    expect(reader.snapshot().window.lines).toHaveLength(LINES_MAX);
    expect(ends(reader)).toEqual([10_001, 60_000]);
    for (let page = 0; page < 10; page++) await reader.loadEarlier();
    expect(ends(reader)[0]).toBe(1);
    const { lines } = reader.snapshot().window;
    expect(lines.every(({ line }, i) => line === i + 1)).toBe(true);
  });

  it("reads one page at a time, also when it is full", async () => {
    const { reader, asks } = await opened(linesOf(60_000), { kind: "beginning" });
    for (let page = 0; page < 55; page++) await reader.loadLater();
    expect(asks).toHaveLength(56);
  });

  it("shows a line by its time, and without one finds it", async () => {
    for (const timeMs of [1_000_000 + 2, null]) {
      const { reader } = await opened(linesOf(20_000, 5_000), { kind: "line", place: { writer: 1, line: 14_000, timeMs } });
      expect(reader.snapshot().target).toMatchObject({ key: "1:14000", isFound: true });
      expect(reader.snapshot().window.lines.some(({ line }) => line === 14_000)).toBe(true);
    }
  });

  it("tells of a line that is not there, and shows the end", async () => {
    const { reader } = await opened(linesOf(10), { kind: "line", place: { writer: 1, line: 11, timeMs: null } });
    expect(reader.snapshot().target).toMatchObject({ key: null, isFound: false });
    expect(ends(reader)).toEqual([1, 10]);
  });

  it("goes to a line that is here without a call", async () => {
    const { reader, asks } = await opened(linesOf(100), { kind: "end" });
    reader.show({ kind: "line", place: { writer: 1, line: 50, timeMs: null } });
    expect(reader.snapshot().target.key).toBe("1:50");
    expect(asks).toHaveLength(1);
  });

  it("shows the first line from a time on, with those before it", async () => {
    const { reader } = await opened(linesOf(5_000), { kind: "time", timeMs: 1_002_000 });
    expect(reader.snapshot().target).toMatchObject({ key: "1:2001", align: "start" });
    expect(ends(reader)).toEqual([1_001, 3_000]);
  });

  it("tells a failure, and loads on the next try", async () => {
    let isBroken = true;
    const { list } = storeOf(linesOf(3));
    const reader = new LogReader("a/b/c", FILTER, (ask) => (isBroken ? Promise.reject(new Error("down")) : list(ask)));
    reader.show({ kind: "end" });
    await Promise.resolve().then(() => undefined);
    await new Promise((resolve) => setTimeout(resolve));
    expect(reader.snapshot().phase).toBe("failed");
    isBroken = false;
    reader.retry();
    await new Promise((resolve) => setTimeout(resolve));
    expect(ends(reader)).toEqual([1, 3]);
  });
});
