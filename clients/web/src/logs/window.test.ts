import { describe, expect, it } from "vitest";
import { type ConsoleLine, ConsoleStream } from "../api/console";
import { addEarlier, addLater, applyChanges, mergeLines, trimWindow, windowOf } from "./window";

function at(timeMs: number, line: number, { writer = 1, text = `line ${line}`, isMatch = true } = {}): ConsoleLine {
  return { key: `${writer}:${line}`, writer, line, timeMs, stream: ConsoleStream.STDOUT, text, isMatch };
}

function keys(lines: readonly ConsoleLine[]): string {
  return lines.map(({ key }) => key).join(" ");
}

const CURSOR = { timeMs: null, token: "t" };

describe("mergeLines", () => {
  it("orders by time, writer and line", () => {
    const older = [at(1, 1), at(5, 2), at(5, 1, { writer: 2 })];
    const newer = [at(3, 2, { writer: 2 }), at(5, 3), at(9, 4)];
    expect(keys(mergeLines(older, newer))).toBe("1:1 2:2 1:2 1:3 2:1 1:4");
  });

  it("takes the newer text of a line, at its newer place", () => {
    const merged = mergeLines([at(1, 1), at(2, 2), at(3, 3)], [at(4, 1, { text: "new" })]);
    expect(keys(merged)).toBe("1:2 1:3 1:1");
    expect(merged[2]?.text).toBe("new");
  });
});

describe("pages", () => {
  it("of one end join the window, lines that come twice stay one", () => {
    const window = windowOf([at(5, 5), at(6, 6)], CURSOR, CURSOR);
    const earlier = addEarlier(window, [at(4, 4), at(5, 5)], null);
    expect(keys(earlier.lines)).toBe("1:4 1:5 1:6");
    expect(earlier.earlier).toBeNull();
    const later = addLater(earlier, [at(6, 6), at(7, 7)], null);
    expect(keys(later.lines)).toBe("1:4 1:5 1:6 1:7");
    expect(later.later).toBeNull();
  });

  it("of a search keep what is a match, also where it comes again as a neighbour", () => {
    const window = windowOf([at(1, 1), at(2, 2, { isMatch: false })], null, CURSOR);
    const later = addLater(window, [at(1, 1, { isMatch: false }), at(2, 2), at(3, 3, { isMatch: false })], null);
    expect(later.lines.map(({ isMatch }) => isMatch)).toEqual([true, true, false]);
    expect(later.matchesHere).toBe(2);
  });
});

describe("applyChanges", () => {
  it("updates a line in place and appends new ones", () => {
    const window = windowOf([at(1, 1), at(2, 2, { text: "10%" })], null, null);
    const { window: next, appended } = applyChanges(window, [at(2, 2, { text: "90%" }), at(3, 3)]);
    expect(next.lines.map(({ text }) => text)).toEqual(["line 1", "90%", "line 3"]);
    expect(appended).toBe(1);
  });

  it("leaves the window itself where nothing is new", () => {
    const window = windowOf([at(1, 1), at(2, 2)], null, null);
    expect(applyChanges(window, [at(2, 2)])).toEqual({ window, appended: 0 });
    expect(applyChanges(window, [at(2, 2)]).window).toBe(window);
  });

  it("puts what a slower writer printed earlier in its place, without calling it new at the end", () => {
    const window = windowOf([at(1, 1), at(9, 2)], null, null);
    const { window: next, appended } = applyChanges(window, [at(5, 1, { writer: 2 })]);
    expect(keys(next.lines)).toBe("1:1 2:1 1:2");
    expect(appended).toBe(0);
  });

  it("takes nothing beyond an end that is not here", () => {
    const window = windowOf([at(5, 5), at(6, 6)], CURSOR, CURSOR);
    expect(keys(applyChanges(window, [at(1, 1), at(9, 9)]).window.lines)).toBe("1:5 1:6");
  });

  it("fills an empty window", () => {
    expect(applyChanges(windowOf([], null, null), [at(1, 1), at(2, 2)])).toMatchObject({ appended: 2 });
  });
});

describe("trimWindow", () => {
  const lines = Array.from({ length: 10 }, (_, i) => at(i, i));

  it("drops the end that is farther from the reader, and can read on there", () => {
    const late = trimWindow(windowOf(lines, null, null), 9, 6);
    expect([late.lines[0]?.line, late.earlier, late.later]).toEqual([4, { timeMs: 4, token: "" }, null]);
    const early = trimWindow(windowOf(lines, null, null), 0, 6);
    expect([early.lines.at(-1)?.line, early.earlier, early.later]).toEqual([5, null, { timeMs: 5, token: "" }]);
  });

  it("counts the matches that were dropped before, and those that come back", () => {
    const trimmed = trimWindow(windowOf(lines, null, null), 9, 6);
    expect([trimmed.matchesBefore, trimmed.matchesHere]).toEqual([4, 6]);
    const back = addEarlier(trimmed, lines.slice(0, 4), null);
    expect([back.matchesBefore, back.matchesHere]).toEqual([0, 10]);
  });
});
