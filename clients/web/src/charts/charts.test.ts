import { describe, expect, it } from "vitest";
import { hashText, lineStyles, RUN_COLOUR_COUNT, runColourIndex } from "./colour";
import { formatBytes, formatCount, formatExact, formatShort, logTickLabel, tickLabels } from "./format";
import { smooth } from "./smoothing";
import { STEP_INCREMENTS, VALUE_INCREMENTS } from "./ticks";

describe("tick labels", () => {
  it.each([
    [[0, 50, 100], ["0", "50", "100"]],
    [[0, 0.5, 1], ["0", "0.5", "1.0"]],
    [[0.5], ["0.5"]],
    [[-1500], ["−1.5k"]],
    [[0], ["0"]],
    [[], []],
    [[0, 500, 1000, 1500], ["0", "0.5k", "1.0k", "1.5k"]],
    [[54_620, 54_640], ["54.62k", "54.64k"]],
    [[0, 2e6, 4e6], ["0", "2M", "4M"]],
    [[-5, 0, 5], ["−5", "0", "5"]],
    [[0, 2.5, 5], ["0", "2.5", "5.0"]],
    [[0, 1e-9, 2e-9], ["0", "1e-9", "2e-9"]],
    [[0.00005, 0.0001, 0.00015], ["0.00005", "0.00010", "0.00015"]],
    [[3e16, 4e16], ["3e16", "4e16"]],
  ])("of %j are %j", (ticks, labels) => {
    expect(tickLabels(ticks)).toEqual(labels);
  });

  it("tell neighbours apart at every distance", () => {
    for (const increment of VALUE_INCREMENTS.filter((one) => one > 1e-12 && one < 1e12)) {
      const labels = tickLabels([0, 1, 2, 3, 4].map((i) => i * increment));
      expect(new Set(labels).size, labels.join(" ")).toBe(5);
    }
  });

  it("of a logarithmic axis stand for themselves, and are left out at the axis' odd end", () => {
    expect([0.001, 0.1, 1, 20, 1000, 5e6, 1e-7].map((tick) => logTickLabel(tick))).toEqual(["0.001", "0.1", "1", "20", "1k", "5M", "1e-7"]);
    expect(logTickLabel(0.356)).toBe("");
  });

  it("of steps are whole", () => {
    expect(STEP_INCREMENTS.every(Number.isInteger)).toBe(true);
  });
});

describe("numbers as text", () => {
  it.each([
    [0, "0"],
    [-0, "−0"],
    [0.123456, "0.1235"],
    [12.3456, "12.35"],
    [12345.678, "12,346"],
    [128_400, "128,400"],
    [1.23456e-7, "1.235e-7"],
    [5e-324, "4.941e-324"],
    [1.5e15, "1.5e15"],
    [-2.5, "−2.5"],
    [Number.NaN, "NaN"],
    [Infinity, "∞"],
    [-Infinity, "−∞"],
  ])("%d is %s", (value, text) => {
    expect(formatShort(value)).toBe(text);
  });

  it("are exact where asked", () => {
    expect(formatExact(0.1 + 0.2)).toBe("0.30000000000000004");
    expect(formatCount(9007199254740993n)).toBe("9,007,199,254,740,993");
    expect([0, 1023, 1536, 5 * 1024 ** 3].map((bytes) => formatBytes(bytes))).toEqual(["0 B", "1023 B", "1.5 KiB", "5 GiB"]);
  });
});

describe("smoothing", () => {
  const xs = Float64Array.from({ length: 200 }, (_, i) => i);
  const noisy = Float64Array.from(xs, (x) => 1 + (x % 2));

  it("of weight 0 changes nothing", () => {
    expect(smooth(xs, noisy, 0, 200)).toBe(noisy);
  });

  it("keeps a constant, from its first point on", () => {
    const constant = new Float64Array(200).fill(7);
    expect([...smooth(xs, constant, 0.9, 200)].every((value) => Math.abs(value - 7) < 1e-12)).toBe(true);
  });

  it("stays between the extremes and calms", () => {
    const calm = smooth(xs, noisy, 0.99, 1000);
    expect(Math.min(...calm)).toBeGreaterThanOrEqual(1);
    expect(Math.max(...calm)).toBeLessThanOrEqual(2);
    expect(Math.abs((calm[199] as number) - (calm[198] as number))).toBeLessThan(0.2);
  });

  it("passes over what is not finite, and keeps it", () => {
    const broken = Float64Array.from(noisy);
    broken[50] = Number.NaN;
    broken[60] = Infinity;
    const calm = smooth(xs, broken, 0.9, 200);
    expect(calm[50]).toBeNaN();
    expect(calm[60]).toBe(Infinity);
    expect(Number.isFinite(calm[199])).toBe(true);
  });

  it("does not depend on how densely the points lie", () => {
    const ramp = (count: number): number => {
      const at = Float64Array.from({ length: count }, (_, i) => (i * 1000) / (count - 1));
      return smooth(at, at.map((x) => x), 0.98, 1000)[count - 1] as number;
    };
    expect(Math.abs(ramp(1001) - ramp(2001))).toBeLessThan(15);
  });
});

describe("colours of runs", () => {
  it("are the same for ever", () => {
    expect(hashText("olpda8ug")).toBe(hashText("olpda8ug"));
    expect(runColourIndex("abc12345")).toBe(runColourIndex("abc12345"));
  });

  it("are spread evenly", () => {
    const counts = new Array<number>(RUN_COLOUR_COUNT).fill(0);
    for (let i = 0; i < 20_000; i++) counts[runColourIndex(`run-${i}`)] = (counts[runColourIndex(`run-${i}`)] ?? 0) + 1;
    expect(Math.min(...counts)).toBeGreaterThan(800);
    expect(Math.max(...counts)).toBeLessThan(1200);
  });

  it("used twice in one chart differ by their dashes", () => {
    const ids = Array.from({ length: 40 }, (_, i) => `run-${i}`);
    const styles = lineStyles(ids);
    expect(styles.size).toBe(40);
    const first = new Map<number, string>();
    for (const id of ids) {
      const style = styles.get(id);
      if (style === undefined) throw new Error("a run without style");
      const look = style.dash.join(" ");
      const before = first.get(style.colourIndex);
      if (before === undefined) {
        expect(look).toBe("");
        first.set(style.colourIndex, look);
      } else expect(look).not.toBe(before);
    }
  });
});
