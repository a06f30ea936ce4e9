import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import type { BucketColumns } from "../charts/series";
import { BucketSeriesSchema } from "../gen/runyard/query/v1/query_pb";
import { readBucketSeries } from "./bucketColumns";
import { merge } from "./buckets";
import { BucketLoader, type FetchBuckets } from "./bucketLoader";

describe("columns of buckets", () => {
  it("are read as the generated reader reads them", () => {
    const message = create(BucketSeriesSchema, {
      runPath: "nico/vision/ab12",
      metric: "train/loss",
      width: 4096n,
      isRaw: false,
      firstSteps: [-5n, 0n, 4096n, 9_000_000_000n],
      lastSteps: [-1n, 4095n, 8191n, 9_000_004_095n],
      timesUnixNs: [0n, 1_700_000_000_123_000_000n, 1_700_000_000_124_000_000n, 1_700_000_000_125_000_000n],
      lows: [Number.NaN, -1.5, -0, 5e-324],
      highs: [Number.NaN, 2.5, 0.1, 1.7e308],
      means: [Number.NaN, 0.5, 0.05, 1],
      lasts: [Infinity, -Infinity, 0.1, Number.NaN],
      counts: [3n, 4096n, 4096n, 1n],
      nanCounts: [1n, 0n, 0n, 1n],
      positiveInfinityCounts: [2n, 0n, 0n, 0n],
      negativeInfinityCounts: [0n, 1n, 0n, 0n],
      pointCount: 8196n,
    });
    const read = readBucketSeries(toBinary(BucketSeriesSchema, message));
    expect({ ...read, ...asArrays(read) }).toEqual({
      runPath: message.runPath,
      metric: message.metric,
      width: 4096,
      isRaw: false,
      firstSteps: message.firstSteps.map(Number),
      lastSteps: message.lastSteps.map(Number),
      timesMs: message.timesUnixNs.map((time) => Number(time) / 1e6),
      lows: message.lows,
      highs: message.highs,
      means: message.means,
      lasts: message.lasts,
      counts: message.counts.map(Number),
      nanCounts: [1, 0, 0, 1],
      positiveInfinityCounts: [2, 0, 0, 0],
      negativeInfinityCounts: [0, 1, 0, 0],
      pointCount: 8196,
    });
    expect(Object.is(read.lows[2], -0)).toBe(true);
  });

  it("that are absent are empty", () => {
    const read = readBucketSeries(toBinary(BucketSeriesSchema, create(BucketSeriesSchema, { metric: "m", isRaw: true })));
    expect(read.nanCounts).toHaveLength(0);
    expect(read.isRaw).toBe(true);
  });

  it("pass over fields of a later version", () => {
    const known = toBinary(BucketSeriesSchema, create(BucketSeriesSchema, { metric: "m", pointCount: 3n }));
    const later = Uint8Array.of(0xc2, 0x3e, 2, 1, 2, 0xc8, 0x3e, 9, ...known);
    expect(readBucketSeries(later)).toMatchObject({ metric: "m", pointCount: 3 });
  });
});

function asArrays(read: BucketColumns): Record<string, number[]> {
  return Object.fromEntries(
    Object.entries(read).flatMap(([key, value]) => (value instanceof Float64Array ? [[key, [...value]]] : [])),
  );
}

describe("the loader", () => {
  const request = { runPaths: ["a/b/c"], selection: null, range: null, bucketCountMax: 512 };

  function spy(): { asked: string[][]; fetch: FetchBuckets } {
    const asked: string[][] = [];
    return {
      asked,
      fetch: ({ metrics }) => {
        asked.push(metrics);
        return Promise.resolve(metrics.map((metric) => ({ metric }) as BucketColumns));
      },
    };
  }

  it("joins what is asked for in one moment, and gives each its own", async () => {
    const { asked, fetch } = spy();
    const loader = new BucketLoader(fetch);
    const answers = await Promise.all(["x", "y", "x"].map((metric) => loader.load({ ...request, metric })));
    expect(asked).toEqual([["x", "y"]]);
    expect(answers.map((series) => series.map(({ metric }) => metric))).toEqual([["x"], ["y"], ["x"]]);
  });

  it("asks apart for other runs, other ranges and other writers", async () => {
    const { asked, fetch } = spy();
    const loader = new BucketLoader(fetch);
    await Promise.all([
      loader.load({ ...request, metric: "x" }),
      loader.load({ ...request, metric: "x", range: [0, 5] }),
      loader.load({ ...request, metric: "x", runPaths: ["a/b/d"] }),
      loader.load({ ...request, metric: "x", selection: { writers: [3], isAllAttempts: false } }),
    ]);
    expect(asked).toHaveLength(4);
  });

  it("keeps each call small when runs are many", async () => {
    const { asked, fetch } = spy();
    const loader = new BucketLoader(fetch);
    const runPaths = Array.from({ length: 100 }, (_, i) => `a/b/${i}`);
    await Promise.all(["u", "v", "w", "x", "y"].map((metric) => loader.load({ ...request, runPaths, metric })));
    expect(asked.map((metrics) => metrics.length)).toEqual([2, 2, 1]);
  });

  it("gives a call up only when nobody waits for it", async () => {
    const signals: AbortSignal[] = [];
    const loader = new BucketLoader((_, signal) => {
      signals.push(signal);
      return new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          reject(new Error("given up"));
        });
      });
    });
    const one = new AbortController();
    const two = new AbortController();
    const answers = Promise.allSettled([
      loader.load({ ...request, metric: "x" }, one.signal),
      loader.load({ ...request, metric: "y" }, two.signal),
    ]);
    await new Promise((resolve) => setTimeout(resolve, 30));
    one.abort();
    expect(signals[0]?.aborted).toBe(false);
    two.abort();
    expect(signals[0]?.aborted).toBe(true);
    expect((await answers).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  });

  it("asks nothing for panels that have left before", async () => {
    const { asked, fetch } = spy();
    const gone = new AbortController();
    void new BucketLoader(fetch).load({ ...request, metric: "x" }, gone.signal);
    gone.abort();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(asked).toEqual([]);
  });
});

it("a run that has just ended is drawn from the live answer until its own is here", () => {
  const one = (runPath: string, pointCount: number) => ({ runPath, pointCount }) as BucketColumns;
  const live = [one("a", 1), one("b", 1)];
  expect(merge(live, ["b"], [], ["a"]).map(({ runPath }) => runPath)).toEqual(["a", "b"]);
  expect(merge(live, ["b"], [one("a", 2)], ["a"])).toEqual([one("a", 2), one("b", 1)]);
  expect(merge(live, ["b"], [one("c", 1)], [])).toEqual([one("b", 1)]);
});
