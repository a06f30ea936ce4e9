import { describe, expect, it } from "vitest";
import { groupIntoSections, isHidden, layoutRows, matchesSearch, panelTitle, sectionOf } from "./sections";
import { parseRange, parseSmoothing, parseStep } from "./viewState";

describe("sections", () => {
  it("are the part of a name before the first slash", () => {
    expect(["train/loss", "loss", "a/b/c", "/x", "x/"].map(sectionOf)).toEqual(["train", "charts", "a", "charts", "x"]);
    expect(["train/loss", "loss", "a/b/c", "x/"].map(panelTitle)).toEqual(["loss", "loss", "b/c", "x/"]);
  });

  it("come in the order people look at them, their metrics in natural order", () => {
    const names = ["system/gpu", "zeta/a", "val/loss", "layer.10/n", "layer.2/n", "train/x10", "train/x2", "loss", "test/f1"];
    const sections = groupIntoSections([...names, "loss"]);
    expect(sections.map(({ name }) => name)).toEqual(["charts", "train", "val", "test", "layer.2", "layer.10", "zeta", "system"]);
    expect(sections[1]?.metrics).toEqual(["train/x2", "train/x10"]);
    expect(sections[0]?.metrics).toEqual(["loss"]);
  });

  it("become rows of panels; a shut one is its head only", () => {
    const sections = groupIntoSections(["a/1", "a/2", "a/3", "b/1"]);
    const rows = layoutRows(sections, { charts: 2, media: 1 }, new Set(["b"]));
    expect(rows.map((row) => (row.kind === "head" ? row.section.name : row.metrics))).toEqual(["a", ["a/1", "a/2"], ["a/3"], "b"]);
  });

  it("have charts before media, which come in rows of their own", () => {
    const sections = groupIntoSections(["a/1", "a/2", "a/3", "a/img1", "a/img2"]);
    const rows = layoutRows(sections, { charts: 3, media: 1 }, new Set(), (name) => name.startsWith("a/img"));
    expect(rows.map((row) => (row.kind === "head" ? row.section.name : [row.isMedia, ...row.metrics]))).toEqual([
      "a",
      [false, "a/1", "a/2", "a/3"],
      [true, "a/img1"],
      [true, "a/img2"],
    ]);
  });

  it("of a hundred thousand metrics are made at once", () => {
    const names = Array.from({ length: 100_000 }, (_, i) => `s${i % 50}/m${i}`);
    const start = performance.now();
    expect(layoutRows(groupIntoSections(names), { charts: 4, media: 3 }, new Set()).length).toBe(50 + 25_000);
    expect(performance.now() - start).toBeLessThan(3_000);
  });
});

describe("metrics", () => {
  it("match a search by all of its words", () => {
    expect(matchesSearch("train/Loss", "loss TRAIN")).toBe(true);
    expect(matchesSearch("train/loss", "val loss")).toBe(false);
    expect(matchesSearch("anything", "")).toBe(true);
  });

  it("are hidden by the last definition that matches", () => {
    const all = { name: "debug/*", isHidden: true };
    expect(isHidden("debug/x", [all])).toBe(true);
    expect(isHidden("debug/x", [all, { name: "debug/x", isHidden: false }])).toBe(false);
    expect(isHidden("a.b", [{ name: "a?b", isHidden: true }])).toBe(true);
    expect(isHidden("axb", [{ name: "a.b*", isHidden: true }])).toBe(false);
  });
});

describe("the address", () => {
  it("holds a range of steps, or none", () => {
    expect(parseRange("100..2000")).toEqual([100, 2000]);
    expect(parseRange("-10..-2")).toEqual([-10, -2]);
    for (const bad of [null, "", "5", "9..2", "a..b", "1..99999999999999999999"]) expect(parseRange(bad)).toBeNull();
  });

  it("holds the step of media, or none", () => {
    expect(["0", "-12", "9007199254740991"].map(parseStep)).toEqual([0, -12, 9007199254740991]);
    for (const bad of [null, "", "x", "1.5", "9007199254740993"]) expect(parseStep(bad)).toBeNull();
  });

  it("holds a smoothing within bounds", () => {
    expect(["0.5", "9", "-1", "x", null].map(parseSmoothing)).toEqual([0.5, 0.99, 0, 0, 0]);
  });
});
