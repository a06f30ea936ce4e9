import { describe, expect, it } from "vitest";
import { ConsoleStream } from "../api/console";
import { addressPatch, filterOf, type LogsAddress, readAddress, readLinePlace } from "./address";
import { findLineTime } from "./findLine";
import { hasNestedRepetition, makeMarker } from "./marks";
import { readTyped } from "./times";

const FULL: LogsAddress = {
  search: "loss=nan & more",
  isExpression: true,
  isCaseSensitive: true,
  contextLineCount: 5,
  writer: 3,
  stream: "stderr",
  timeMs: Date.UTC(2026, 0, 31, 9, 30, 0, 123),
  line: { writer: 3, line: 120, timeMs: 1_795_771_701_344 },
  isWrapped: true,
  hasTimes: false,
};

function written(address: Partial<LogsAddress>): URLSearchParams {
  const entries = Object.entries(addressPatch(address)).filter((entry): entry is [string, string] => entry[1] !== null && entry[1] !== "");
  return new URLSearchParams(new URLSearchParams(entries).toString());
}

describe("the address", () => {
  it("keeps all of the view", () => {
    expect(readAddress(written(FULL))).toEqual(FULL);
  });

  it("is empty for what is usual", () => {
    const usual = readAddress(new URLSearchParams());
    expect(written(usual).toString()).toBe("");
  });

  it("takes a link to a line with and without its time, and no other text", () => {
    expect(readLinePlace("0:12")).toEqual({ writer: 0, line: 12, timeMs: null });
    expect(readLinePlace("4294967295:1@5")).toEqual({ writer: 4_294_967_295, line: 1, timeMs: 5 });
    for (const text of ["", "1", "1:0", "-1:2", "1:2@", "4294967296:1", "1:99999999999999", "1:2:3", "a:b"]) expect(readLinePlace(text)).toBeNull();
  });

  it("passes over what cannot be read", () => {
    const odd = readAddress(new URLSearchParams("writer=-1&stream=x&t=yesterday&line=1&context=3"));
    expect(odd).toEqual(readAddress(new URLSearchParams()));
  });

  it("asks for the text or the expression only in a search; notes come with either stream", () => {
    expect(filterOf(FULL, true)).toMatchObject({ matches: FULL.search, contains: "", writers: [3], firstTimeMs: FULL.timeMs, contextLineCount: 5 });
    expect(filterOf(FULL, false)).toMatchObject({ matches: "", contains: "", contextLineCount: 0, firstTimeMs: undefined });
    expect(filterOf(FULL, false).streams).toEqual([ConsoleStream.STDERR, ConsoleStream.NOTE]);
  });
});

describe("a typed time", () => {
  const first = new Date(2026, 0, 31, 22, 0, 30).getTime();
  const last = new Date(2026, 1, 1, 10, 0).getTime();

  it("alone is of the day on which the run was there", () => {
    expect(readTyped("23:15", first, last)).toBe(new Date(2026, 0, 31, 23, 15).getTime());
    expect(readTyped("9:30:05", first, last)).toBe(new Date(2026, 1, 1, 9, 30, 5).getTime());
    expect(readTyped("22:00", first, last)).toBe(new Date(2026, 0, 31, 22, 0).getTime());
  });

  it("may have a date, or be one", () => {
    expect(readTyped("2026-02-01 01:02:03.5", first, last)).toBe(new Date(2026, 1, 1, 1, 2, 3, 500).getTime());
    expect(readTyped("2026-02-01", first, last)).toBe(new Date(2026, 1, 1).getTime());
    expect(readTyped("2026-02-01T01:02Z", first, last)).toBe(Date.UTC(2026, 1, 1, 1, 2));
  });

  it.each(["", " ", "25:00", "10:75", "9", "2026-02-31", "2026-13-01", "soon", "10:00Z"])("refuses “%s”", (text) => {
    expect(readTyped(text, first, last)).toBeNull();
  });
});

describe("marks", () => {
  it("show each place of a text, whatever its letters mean in an expression", () => {
    expect(makeMarker("a.b", false, false)("a.b axb A.B")).toEqual([[0, 3], [8, 11]]);
    expect(makeMarker("A", false, true)("aAa")).toEqual([[1, 2]]);
  });

  it("show what an expression finds, with flags as RE2 says them", () => {
    expect(makeMarker("loss=\\d+", true, true)("x loss=12 y")).toEqual([[2, 9]]);
    expect(makeMarker("(?i)LOSS", true, true)("loss")).toEqual([[0, 4]]);
  });

  it("are left out where the browser cannot read the expression, or might never end", () => {
    expect(makeMarker("(a", true, false)("(a")).toEqual([]);
    expect(makeMarker("(a+)+$", true, false)(`${"a".repeat(60)}b`)).toEqual([]);
    expect(["(a|b)*", "((a*))+", "(a+){2}", "(?:x*y)*"].map(hasNestedRepetition)).toEqual([true, true, true, true]);
    expect(["(ab)+", "a+b+", "[(*]+", "\\(a*\\)+", "(a|b)"].map(hasNestedRepetition)).toEqual([false, false, false, false, false]);
  });
});

describe("findLineTime", () => {
  // Bursts: a thousand lines in each tenth second.
  const timeOf = (line: number): number => 1_000_000 + Math.floor(line / 1_000) * 100;
  const count = 1_000_000;
  const page = (firstMs: number | null) => {
    const from = firstMs === null ? count - 999 : firstMs <= timeOf(1) ? 1 : Math.ceil((firstMs - 1_000_000) / 100) * 1_000;
    const lines = Array.from({ length: Math.max(0, Math.min(1_000, count + 1 - from)) }, (_, i) => ({
      key: `1:${from + i}`,
      writer: 1,
      line: from + i,
      timeMs: timeOf(from + i),
      stream: ConsoleStream.STDOUT,
      text: "",
      isMatch: true,
    }));
    return Promise.resolve({ lines });
  };

  it.each([1, 999, 1_000, 123_456, 500_000, 999_998, 1_000_000])("finds line %i of a million with few questions", async (line) => {
    let asked = 0;
    const time = await findLineTime({ writer: 1, line, timeMs: null }, (firstMs) => {
      asked++;
      return page(firstMs);
    });
    expect(time).toBe(timeOf(line));
    expect(asked).toBeLessThan(20);
  });

  it("tells of a line that is not there", async () => {
    expect(await findLineTime({ writer: 1, line: count + 1, timeMs: null }, page)).toBeNull();
    expect(await findLineTime({ writer: 1, line: 1, timeMs: null }, () => Promise.resolve({ lines: [] }))).toBeNull();
  });
});
