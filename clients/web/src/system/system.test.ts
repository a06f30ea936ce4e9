import { describe, expect, it } from "vitest";
import { type SystemColumns, type SystemMetric, SystemSection } from "../api/system";
import type { RunWriter } from "../api/types";
import { addressPatch, readAddress } from "./address";
import { groupIntoCharts } from "./charts";
import { gapOf, toLine } from "./columns";
import { LINES_MAX, planLines, tellersOf } from "./tellers";
import { momentTitle, originOf, TIME_INCREMENTS, timeLabels } from "./times";
import { factorOf, formatValue, titleUnit, valueAxis } from "./units";

function metric(name: string, more: Partial<SystemMetric> = {}): SystemMetric {
  return { name, writers: [1], firstMs: 0, lastMs: 1, unit: "%", description: `What ${name} is`, section: SystemSection.CPU, title: name, item: "", isOfProcess: false, ...more };
}

function writer(number: number, more: object = {}): RunWriter {
  return { writer: number, label: `rank${number}`, attempt: 1, hostname: "host", ...more } as RunWriter;
}

function columns(times: readonly number[], values: readonly number[], more: Partial<SystemColumns> = {}): SystemColumns {
  const column = Float64Array.from(values);
  return { metric: "m", writer: 1, widthMs: 1, timesMs: Float64Array.from(times), lows: column, highs: column, means: column, lasts: column, counts: Float64Array.from(values, () => 1), ...more };
}

const GPU = { section: SystemSection.GPU, title: "GPU power", unit: "W" };

describe("units", () => {
  it("says sizes of all kinds in binary units, the rest as it is", () => {
    expect(formatValue(1536, "MB")).toBe("1.5 GiB");
    expect(formatValue(2048, "bytes/s")).toBe("2 KiB/s");
    expect(formatValue(3, "GB")).toBe("3 GiB");
    expect(formatValue(61, "°C")).toBe("61 °C");
    expect(formatValue(7, "")).toBe("7");
    expect(formatValue(NaN, "bytes")).toBe("NaN bytes");
    expect([titleUnit("MB"), titleUnit("W"), factorOf("MB"), factorOf("W")]).toEqual(["", "W", 1_048_576, 1]);
  });
  it("labels an axis of sizes in one unit, at powers of two", () => {
    const axis = valueAxis("bytes");
    expect(axis.labels([0, 536870912, 1073741824])).toEqual(["0", "0.5 GiB", "1 GiB"]);
    expect(axis.increments).toContain(536870912);
    expect(valueAxis("bytes/s").labels([0, 32])).toEqual(["0", "32 B/s"]);
  });
  it("begins at zero, but for temperatures, clocks and what is below zero", () => {
    expect(valueAxis("W").fit([190, 310], [200, 300])).toEqual([0, 324]);
    expect(valueAxis("°C").fit([55, 65], [56, 64])).toEqual([55, 65]);
    expect(valueAxis("").fit([-3, 2], [-2, 1])).toEqual([-3, 2]);
    expect(valueAxis("%").fit([-1, 1], [0, 0])).toEqual([0, 10]);
    expect(valueAxis("%").fit([96, 101], [97, 100])).toEqual([0, 102]);
    expect(valueAxis("%").fit([0, 800], [0, 760])[1]).toBeGreaterThan(800);
  });
});

describe("the time axis", () => {
  const start = new Date(2026, 10, 27, 22, 15, 30).getTime();
  it("counts from the run's start", () => {
    expect(originOf("start", start)).toBe(start);
    const say = (...ticks: number[]) => timeLabels("start", start, ticks);
    expect(say(0, 30_000, 60_000, 90_000)).toEqual(["0", "30s", "1:00", "1:30"]);
    expect(say(0, 1_800_000, 3_600_000, 5_400_000)).toEqual(["0", "30m", "1h", "1h 30m"]);
    expect(say(3_600_000, 3_605_000)).toEqual(["1:00:00", "1:00:05"]);
    expect(say(0, 43_200_000, 86_400_000, 129_600_000)).toEqual(["0", "12h", "1d", "1d 12h"]);
    expect(say(-5_000, 0)).toEqual(["−5s", "0"]);
    expect(say(200, 400)).toEqual(["0.2s", "0.4s"]);
    expect(say(60_000, 60_050)).toEqual(["1:00.00", "1:00.05"]);
  });
  it("tells the clock from the midnight before, and the date where a day begins", () => {
    const origin = originOf("clock", start);
    const hour = 3_600_000;
    const labels = timeLabels("clock", origin, [22 * hour, 23 * hour, 24 * hour, 25 * hour]);
    expect([labels[0], labels[1], labels[3]]).toEqual(["22:00", "23:00", "01:00"]);
    expect(labels[2]).toContain("28");
    expect(timeLabels("clock", origin, [1_000, 2_000])).toEqual(["00:00:01", "00:00:02"]);
  });
  it("has ever larger distances, and says both times of a moment", () => {
    expect([...TIME_INCREMENTS].sort((a, b) => a - b)).toEqual(TIME_INCREMENTS);
    expect(momentTitle(start + 90_000, start)).toMatch(/^1 m 30 s after the start {2}· .*22:17:00/);
    expect(momentTitle(start - 2_000, start)).toMatch(/^2\.0 s before the start/);
  });
});

describe("charts", () => {
  const gpus = [10, 9, 0].map((i) => metric(`system/gpu.${i}.powerWatts`, { ...GPU, item: `GPU ${i}` }));
  const all = [metric("system/odd", { section: SystemSection.UNSPECIFIED }), ...gpus, metric("system/cpu"), metric("system/gpu.0.powerPercent", { ...GPU, unit: "%", item: "GPU 0" })];
  it("hold all devices of one metric, in sections in the contract's order, unknown ones last", () => {
    const sections = groupIntoCharts(all, "");
    expect(sections.map(({ name, charts }) => [name, charts.length])).toEqual([["CPU", 1], ["GPU", 2], ["Other", 1]]);
    expect(sections[1]?.charts[0]?.metrics.map(({ item }) => item)).toEqual(["GPU 0", "GPU 9", "GPU 10"]);
  });
  it("are found by words of their title, section or names", () => {
    expect(groupIntoCharts(all, "gpu WATTS").map(({ charts }) => charts.length)).toEqual([1]);
    expect(groupIntoCharts(all, "nothing")).toEqual([]);
  });
});

describe("lines", () => {
  const chartOf = (...metrics: SystemMetric[]) => groupIntoCharts(metrics, "")[0]?.charts[0] ?? expect.unreachable();
  it("are one for each node, whichever of its writers told of it", () => {
    const cpu = metric("system/cpu", { writers: [1, 3, 4] });
    const known = [writer(1, { hostname: "a" }), writer(3, { hostname: "b", identity: { node: "node-b" } }), writer(4, { hostname: "a" })];
    const tellers = tellersOf([cpu], known);
    expect(tellers.nodes.map(({ label, writers }) => [label, writers])).toEqual([["a", [1, 4]], ["node-b", [3]]]);
    const plan = planLines(chartOf(cpu), tellers, { kind: "auto" });
    expect(plan.lines.map(({ label, writers }) => [label, writers])).toEqual([["a", [1, 4]], ["node-b", [3]]]);
    expect(planLines(chartOf(cpu), tellers, { kind: "node", node: "node-b" }).lines.map(({ label }) => label)).toEqual(["system/cpu"]);
    expect(planLines(chartOf(cpu), tellers, { kind: "node", node: "c" }).lines).toEqual([]);
  });
  it("are one for attempts of a single process, and one for each of several", () => {
    const rss = metric("system/proc.memory.rssMB", { isOfProcess: true, writers: [1, 2] });
    expect(tellersOf([rss], [writer(1), writer(2, { attempt: 2 })]).processes.map(({ writers }) => writers)).toEqual([[1, 2]]);
    expect(tellersOf([rss], [writer(1), writer(2)]).processes.map(({ label }) => label)).toEqual(["rank1", "rank2"]);
    expect(tellersOf([rss], []).processes.map(({ label }) => label)).toEqual(["writer 1", "writer 2"]);
  });
  it("become one over all where there are many, and are bounded where one wants each", () => {
    const numbers = Array.from({ length: 300 }, (_, i) => i + 1);
    const cpu = metric("system/cpu", { writers: numbers });
    const tellers = tellersOf([cpu], numbers.map((number) => writer(number, { hostname: `host${number}` })));
    const together = planLines(chartOf(cpu), tellers, { kind: "auto" });
    expect([together.isTogether, together.lines.length, together.tellerCount]).toEqual([true, 1, 300]);
    const each = planLines(chartOf(cpu), tellers, { kind: "each" });
    expect([each.isTogether, each.lines.length, each.lineCount]).toEqual([false, LINES_MAX, 300]);
  });
  it("of one node and several devices are called by the device", () => {
    const pair = [0, 1].map((i) => metric(`system/gpu.${i}.powerWatts`, { ...GPU, item: `GPU ${i}` }));
    const plan = planLines(chartOf(...pair), tellersOf(pair, [writer(1)]), { kind: "auto" });
    expect(plan.lines.map(({ label }) => label)).toEqual(["GPU 0", "GPU 1"]);
  });
});

describe("columns of a line", () => {
  it("join what several writers told, in order, as milliseconds since the origin", () => {
    const line = toLine([columns([2_000, 3_000], [3, 4]), columns([0, 1_000], [1, 2], { writer: 2 })], -500, 10);
    expect([...line.firstSteps]).toEqual([500, 1_500, 2_500, 3_500]);
    expect([...line.means]).toEqual([10, 20, 30, 40]);
    expect([line.isRaw, line.pointCount, line.nanCounts.length]).toEqual([true, 4, 0]);
  });
  it("have a gap where nothing was sampled for long", () => {
    const line = toLine([columns([0, 10, 20, 30, 40, 200, 210], [1, 1, 1, 1, 1, 2, 2])], 0, 1);
    expect([...line.means]).toEqual([1, 1, 1, 1, 1, NaN, 2, 2]);
    expect([...line.counts]).toEqual([1, 1, 1, 1, 1, 0, 1, 1]);
    expect(line.nanCounts.length).toBe(0);
    expect(gapOf([0, 1, 10], 1)).toBe(Infinity);
    expect(gapOf([0, 10, 20, 30, 40], 64)).toBe(224);
  });
  it("mark values that are none", () => {
    const line = toLine([columns([0, 1, 2], [NaN, Infinity, 1])], 0, 1);
    expect([[...line.nanCounts], [...line.positiveInfinityCounts]]).toEqual([[1, 0, 0], [0, 1, 0]]);
  });
});

describe("the address", () => {
  it("holds what is shown, and nothing that is as usual", () => {
    const patch = addressPatch({ search: "gpu", mode: "clock", choice: { kind: "node", node: "a:b" }, range: [-10.4, 2_000], shut: new Set(["CPU", "Disk"]), large: "CPU x" });
    const params = new URLSearchParams(Object.entries(patch).map(([key, value]): [string, string] => [key, value ?? ""]));
    expect(readAddress(params)).toEqual({ search: "gpu", mode: "clock", choice: { kind: "node", node: "a:b" }, range: [-10, 2_000], shut: new Set(["CPU", "Disk"]), large: "CPU x" });
    expect(addressPatch({ mode: "start", choice: { kind: "auto" }, range: null })).toEqual({ x: null, lines: null, t: null });
    expect(readAddress(new URLSearchParams("t=5,5&x=odd&lines=odd"))).toMatchObject({ range: null, mode: "start", choice: { kind: "auto" } });
  });
});
