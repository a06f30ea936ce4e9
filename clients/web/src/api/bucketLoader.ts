// Joins what the panels on screen ask for in one moment into one QueryBuckets per set of runs and range.
import { create, type DescMethodUnary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { BucketColumns } from "../charts/series";
import { AttemptSelection, QueryBucketsRequestSchema, QueryService } from "../gen/runyard/query/v1/query_pb";
import { transport } from "./clients";
import { readBucketSeries } from "./bucketColumns";

/** Which of a run's points are wanted. */
export interface Selection {
  /** Numbers of writers; empty: all. */
  readonly writers: readonly number[];
  /** True: what a rewind superseded, too. */
  readonly isAllAttempts: boolean;
}

export interface BucketRequest {
  readonly runPaths: readonly string[];
  /** Null: the current history of all writers. Else `runPaths` names one run. */
  readonly selection: Selection | null;
  readonly metric: string;
  /** Closed range of steps; null: all. */
  readonly range: readonly [number, number] | null;
  readonly bucketCountMax: number;
}

interface Waiter {
  readonly metric: string;
  readonly resolve: (series: BucketColumns[]) => void;
  readonly reject: (error: unknown) => void;
  readonly signal: AbortSignal | undefined;
}

/** Carries out a joined request; a parameter so that tests need no server. */
export type FetchBuckets = (
  request: Omit<BucketRequest, "metric"> & { metrics: string[] },
  signal: AbortSignal,
) => Promise<BucketColumns[]>;

/** Requests that come within this time go together. */
const JOIN_MS = 12;
/** The server takes runs x metrics up to 10,000 and 1,000 metrics; answers stay small enough to draw between two frames. */
const SERIES_MAX = 240;

/** Waits a moment for further panels, then asks for all of them at once. */
export class BucketLoader {
  private readonly groups = new Map<string, { first: BucketRequest; waiters: Waiter[] }>();

  constructor(private readonly fetchBuckets: FetchBuckets) {}

  load(request: BucketRequest, signal?: AbortSignal): Promise<BucketColumns[]> {
    const key = JSON.stringify([request.runPaths, request.selection, request.range, request.bucketCountMax]);
    return new Promise((resolve, reject) => {
      let group = this.groups.get(key);
      if (group === undefined) {
        group = { first: request, waiters: [] };
        this.groups.set(key, group);
        setTimeout(() => {
          this.send(key);
        }, JOIN_MS);
      }
      group.waiters.push({ metric: request.metric, resolve, reject, signal });
    });
  }

  private send(key: string): void {
    const group = this.groups.get(key);
    this.groups.delete(key);
    if (group === undefined) return;
    const waiters = group.waiters.filter(({ signal }) => signal?.aborted !== true);
    const metricsMax = Math.max(1, Math.floor(SERIES_MAX / group.first.runPaths.length));
    for (let i = 0; i < waiters.length; i += metricsMax) {
      void this.sendOne(group.first, waiters.slice(i, i + metricsMax));
    }
  }

  private async sendOne({ runPaths, selection, range, bucketCountMax }: BucketRequest, waiters: Waiter[]): Promise<void> {
    const abort = new AbortController();
    // Only when nobody waits any more is the call given up.
    let waiting = waiters.length;
    for (const { signal } of waiters) {
      signal?.addEventListener("abort", () => {
        if (--waiting === 0) abort.abort();
      });
    }
    try {
      const metrics = [...new Set(waiters.map(({ metric }) => metric))];
      const series = await this.fetchBuckets({ runPaths, selection, range, bucketCountMax, metrics }, abort.signal);
      for (const { metric, resolve } of waiters) resolve(series.filter((one) => one.metric === metric));
    } catch (error) {
      for (const { reject } of waiters) reject(error);
    }
  }
}

// The reply is taken as a message without fields, so that its bytes are kept and read by readBucketSeries.
const queryBucketsRaw = { ...QueryService.method.queryBuckets, output: EmptySchema } as unknown as DescMethodUnary<
  typeof QueryBucketsRequestSchema,
  typeof EmptySchema
>;
const SERIES_FIELD = 1;

async function fetchFromServer(
  { runPaths, selection, metrics, range, bucketCountMax }: Parameters<FetchBuckets>[0],
  signal: AbortSignal,
): Promise<BucketColumns[]> {
  const request = create(QueryBucketsRequestSchema, {
    runPaths: [...runPaths],
    metrics,
    bucketCountMax,
    writers: [...(selection?.writers ?? [])],
    attempts: selection?.isAllAttempts === true ? AttemptSelection.ALL : AttemptSelection.CURRENT,
    ...(range === null ? {} : { range: { firstStep: BigInt(range[0]), lastStep: BigInt(range[1]) } }),
  });
  const { message } = await transport.unary(queryBucketsRaw, signal, undefined, undefined, request);
  return (message.$unknown ?? [])
    .filter(({ no }) => no === SERIES_FIELD)
    .map(({ data }) => readBucketSeries(new BinaryReader(data).bytes()));
}

export const bucketLoader = new BucketLoader(fetchFromServer);
