import { describe, expect, it } from "vitest";
import { parseExtendedJson } from "../api/extendedJson";
import { type Bins, type MediaEntry, type MediaSeries, readItems } from "../api/media";
import { TableFilterOperator, valueJsonOf } from "../api/tables";
import { annotationsFileOf, maskTables, readBoxSets, readMaskSets, withAnnotations } from "./classes";
import { gridColumns } from "./layout";
import { layoutOf, parseFigure } from "./plotlyFigure";
import { parseData, plotShape, readData } from "./plotModel";
import { columnEdges, extentOf, heatMap, rebin } from "./rebin";
import { distinctRuns, selectionOf } from "./runs";
import { entriesAt, placeOf, unionSteps } from "./steps";
import { nextSort } from "./TableView";
import { ticksOf } from "./ticks";
import type { MediaRun } from "./types";

function bins(edges: number[], counts: number[]): Bins {
  return { edges: Float64Array.from(edges), counts: Float64Array.from(counts), nonFiniteCount: 0 };
}

function entry(step: number, writer = 1): MediaEntry {
  return { step, writer, kind: "image", timeMs: 0, items: [], bins: null, fileRunPath: "e/p/r" };
}

function series(runPath: string, steps: number[]): MediaSeries {
  return { runPath, entries: steps.map((step) => entry(step)), stepCount: steps.length, isSampled: false };
}

describe("steps", () => {
  it("of several runs are joined, and one is looked at: the last at or before it", () => {
    const steps = unionSteps([series("a", [0, 10, 20]), series("b", [5, 20])]);
    expect(steps).toEqual([0, 5, 10, 20]);
    expect([null, 0, 4, 5, 19, 20, 99, -7].map((at) => steps[placeOf(steps, at)])).toEqual([20, 0, 0, 5, 10, 20, 20, 0]);
  });

  it("give each run what it has there, of all writers", () => {
    const one: MediaSeries = { ...series("a", []), entries: [entry(0), entry(10, 1), entry(10, 2), entry(30)] };
    expect(entriesAt(one, 12).map(({ step, writer }) => [step, writer])).toEqual([[10, 1], [10, 2]]);
    expect(entriesAt(one, -5).map(({ step }) => step)).toEqual([0]);
    expect(entriesAt(one, null).map(({ step }) => step)).toEqual([30]);
    expect(entriesAt(series("a", []), 3)).toEqual([]);
  });
});

describe("histograms", () => {
  it("on common bins keep all their values", () => {
    const from = bins([0, 1, 2, 4], [4, 0, 8]);
    const into = rebin(from, 0, 4, 8);
    expect([...into]).toEqual([2, 2, 0, 0, 2, 2, 2, 2]);
    const uneven = rebin(bins([0.3, 0.9, 3.7], [3, 5]), 0, 4, 7);
    expect(uneven.reduce((sum, one) => sum + one, 0)).toBeCloseTo(8, 9);
  });

  it("put what lies on one value where it is", () => {
    expect([...rebin(bins([2, 2], [5]), 0, 4, 4)]).toEqual([0, 0, 5, 0]);
    expect([...rebin(bins([4, 4], [5]), 0, 4, 4)]).toEqual([0, 0, 0, 5]);
    expect([...rebin(bins([1, 1], [5]), 1, 1, 2)]).toEqual([5, 0]);
  });

  it("span what holds something", () => {
    expect(extentOf([bins([0, 1, 2, 3], [0, 2, 0]), bins([], [])])).toEqual([1, 2]);
    expect(extentOf([bins([0, 1], [0])])).toBeNull();
  });

  it("over steps show shares of each step", () => {
    const map = heatMap([bins([0, 1, 2], [1, 3]), bins([0, 2], [0]), bins([0, 1, 2], [200, 200])], 2);
    expect([...(map?.shares ?? [])]).toEqual([0.25, 0.75, 0, 0, 0.5, 0.5]);
    expect(map?.mostShare).toBe(0.75);
    expect(heatMap([bins([], [])], 4)).toBeNull();
  });

  it("stand at their steps, half way to the neighbours", () => {
    expect([...columnEdges([0, 10, 14])]).toEqual([-5, 5, 12, 16]);
    expect([...columnEdges([7])]).toEqual([6.5, 7.5]);
    expect([...columnEdges([])]).toEqual([0]);
  });
});

describe("pictures", () => {
  it("stand in as few columns as let all be seen", () => {
    expect(gridColumns(1, 1, 400, 300, 80)).toBe(1);
    expect(gridColumns(8, 1.25, 430, 260, 76)).toBe(4);
    expect(gridColumns(100, 1, 430, 260, 76)).toBe(5);
    expect(gridColumns(3, 1, 50, 300, 80)).toBe(1);
  });

  it("have boxes and masks where they are well made", () => {
    const [item] = readItems(
      '[{"boxes":{"truth":{"box_data":[{"position":{"minX":0.1,"maxX":0.4,"minY":0,"maxY":1},"class_id":1,"box_caption":"cat","scores":{"p":0.5,"q":"x"}},{"position":{"minX":0.1}},3],"class_labels":{"1":"cat","x":"y"}}},"masks":{"m":{"file":"m.png","class_labels":{"0":"none"}},"n":{}}}]',
    );
    const [set] = readBoxSets(item ?? {});
    expect(set?.boxes).toHaveLength(1);
    expect(set?.boxes[0]).toMatchObject({ left: 0.1, top: 0, height: 1, classId: 1, caption: "cat", scores: [["p", 0.5]] });
    expect(set?.boxes[0]?.width).toBeCloseTo(0.3);
    expect([...(set?.labels ?? [])]).toEqual([[1, "cat"]]);
    expect(readMaskSets(item ?? {}).map(({ name, file }) => [name, file])).toEqual([["m", "m.png"]]);
    expect(readBoxSets({ boxes: "x" })).toEqual([]);
    expect(readItems("{")).toEqual([]);
    expect(readItems('{"a":1}')).toEqual([]);
  });

  it("come from their own file where there are many", () => {
    const item = { file: "a.png", annotations_file: "a.annotations.json" };
    const text = JSON.stringify({ boxes: { p: { box_data: [{ position: { minX: 0, maxX: 0.5, minY: 0, maxY: 1 }, class_id: 1 }] } }, masks: { m: { file: "m.png" } } });
    expect(annotationsFileOf(item)).toBe("a.annotations.json");
    expect(readBoxSets(withAnnotations(item, text)).map(({ name, boxes }) => [name, boxes.length])).toEqual([["p", 1]]);
    expect(readMaskSets(withAnnotations(item, text))).toHaveLength(1);
    expect(withAnnotations(item, "cut of")).toBe(item);
  });

  it("hide the classes of masks that are not wanted", () => {
    const [red, , , opacity] = maskTables(new Set([0, 3]));
    expect(red.split(" ")).toHaveLength(256);
    expect(opacity.split(" ").slice(0, 5)).toEqual(["0", "1", "1", "0", "1"]);
  });
});

describe("plots", () => {
  const item = (chart: string, encoding: Record<string, string>, more = {}) => ({ chart, encoding, ...more });
  const data = (content: unknown) => readData(parseExtendedJson(JSON.stringify(content)));

  it("are lines for each series, without what cannot be drawn", () => {
    const found = plotShape(item("line", { x: "x", y: "y", series: "s" }), data({ x: [0, 1, 0, null], y: [1, 2, { $float: "NaN" }, 3], s: ["a", "a", "b", "b"] }));
    expect(found).toEqual({ kind: "lines", series: [{ name: "a", xs: [0, 1], ys: [1, 2] }], notDrawn: 2, hasDiagonal: false, isPoints: false });
  });

  it("put texts on an axis in their order", () => {
    const found = plotShape(item("scatter", { x: "x", y: "y" }), data({ x: ["b", "a", "b"], y: [1, 2, 3] }));
    expect(found.kind === "lines" ? found.series[0]?.xs : null).toEqual([0, 1, 0]);
  });

  it("are bars, bins and matrices", () => {
    expect(plotShape(item("bar", { label: "l", value: "v" }), data({ l: ["a", 2], v: [1, null] }))).toEqual({ kind: "bars", bars: [{ label: "a", value: 1 }] });
    expect(plotShape(item("histogram", { low: "a", high: "b", count: "n" }), data({ a: [0], b: [1], n: [4] }))).toEqual({ kind: "bins", bins: [{ low: 0, high: 1, count: 4 }] });
    const matrix = plotShape(item("confusion_matrix", { actual: "a", predicted: "p", count: "n" }, { classes: ["x", "y"] }), data({ a: [0, 1, 1, 9], p: [0, 0, 5, 0], n: [3, 2, 1, 1] }));
    expect(matrix).toEqual({ kind: "matrix", matrix: { classes: ["x", "y"], counts: [[3, 0], [2, 0]] } });
  });

  it("say when there is no way to draw them", () => {
    expect(plotShape(item("sunburst of tomorrow", {}), new Map()).kind).toBe("none");
    expect(plotShape(item("custom", {}), new Map()).kind).toBe("none");
    expect(parseData("not json").size).toBe(0);
  });

  it("of another program's description are the table of their data", () => {
    expect(plotShape(item("custom", {}), data({ a: [1, 2], b: ["x", null] }))).toEqual({ kind: "table", columns: ["a", "b"], rows: [[1, "x"], [2, null]], notShown: 0 });
    const long = plotShape(item("custom", {}), data({ a: Array.from({ length: 600 }, (_, i) => i) }));
    expect(long.kind === "table" ? [long.rows.length, long.notShown] : null).toEqual([500, 100]);
  });
});

describe("figures of Plotly", () => {
  const look = { text: "#eee", grid: "#333", font: "Inter" };
  const size = { width: 300, height: 200 };

  it("get the page's look in place of Plotly's default, and keep what they say themselves", () => {
    const layout = layoutOf({ title: { text: "T" }, xaxis: { gridcolor: "red" }, template: { data: { bar: [] }, layout: { paper_bgcolor: "white", colorway: ["#123"] } } }, size, look);
    expect(layout).toMatchObject({ width: 300, height: 200, autosize: false, title: { text: "T" }, xaxis: { gridcolor: "red" } });
    expect(layout["template"]).toMatchObject({ data: { bar: [] }, layout: { colorway: ["#123"], font: { color: "#eee" }, paper_bgcolor: "rgba(0,0,0,0)", xaxis: { gridcolor: "#333" }, margin: { t: 40 } } });
  });

  it("keep a template that somebody chose", () => {
    const template = { layout: { paper_bgcolor: "rgb(17,17,17)" } };
    expect(layoutOf({ template }, size, look)["template"]).toBe(template);
  });

  it("that are none say why", () => {
    expect(parseFigure('{"data": [], "layout": {}}')).toEqual({ data: [], layout: {}, frames: [] });
    expect(() => parseFigure("<html>")).toThrow("no JSON");
    expect(() => parseFigure('{"layout": {}}')).toThrow("no list");
  });
});

describe("tables", () => {
  it("are sorted up, down, and as logged", () => {
    const up = nextSort(null, "a");
    expect([up, nextSort(up, "a"), nextSort(nextSort(up, "a"), "a"), nextSort(up, "b")]).toEqual([
      { column: "a", isDescending: false },
      { column: "a", isDescending: true },
      null,
      { column: "b", isDescending: false },
    ]);
  });

  it("are filtered by what a text says for the column's type", () => {
    const { EQUAL, CONTAINS } = TableFilterOperator;
    const number = (text: string) => valueJsonOf(text, "number", EQUAL);
    expect(["9007199254740993", "-.5", "1.", "007", "1e3", "nan"].map(number)).toEqual(["9007199254740993", "-0.5", "1", "7", "1e3", '{"$float":"NaN"}']);
    for (const bad of ["", "x", "1,5", "0x1", "--1"]) expect(number(bad)).toBeNull();
    expect(valueJsonOf("True", "boolean", EQUAL)).toBe("true");
    expect(valueJsonOf("yes", "boolean", EQUAL)).toBeNull();
    expect(valueJsonOf('a"b', "string", EQUAL)).toBe('"a\\"b"');
    expect(valueJsonOf("null", "list", EQUAL)).toBe("null");
    expect(valueJsonOf("5", "number", CONTAINS)).toBe('"5"');
    for (const text of ["-.5", "1.", "007", "1e3"]) expect(() => JSON.parse(number(text) ?? "") as unknown).not.toThrow();
  });
});

describe("runs", () => {
  const run = (path: string, writers?: number[], isAllAttempts = false): MediaRun => ({
    path,
    runId: path,
    name: path,
    isRunning: false,
    ...(writers === undefined ? {} : { part: { key: writers.join(), selection: { writers, isAllAttempts } } }),
  });

  it("come once each; parts of one are joined", () => {
    expect(distinctRuns([run("a", [1]), run("a", [2])]).map(({ path }) => path)).toEqual(["a"]);
    expect(selectionOf([run("a"), run("b")])).toBeNull();
    expect(selectionOf([run("a", [1]), run("a", [2, 1], true)])).toEqual({ writers: [1, 2], isAllAttempts: true });
    expect(selectionOf([run("a", [1]), run("a", [])])).toEqual({ writers: [], isAllAttempts: false });
  });
});

describe("ticks", () => {
  it("are round and within the range", () => {
    expect(ticksOf(0, 1, 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
    expect(ticksOf(-3, 7, 4)).toEqual([0, 5]);
    expect(ticksOf(2, 2, 4)).toEqual([2]);
    expect(ticksOf(0, 2, 9, true)).toEqual([0, 1, 2]);
  });
});
