// Reads of what the machines of a run did: which metrics there are, and their values over time.
import { create, type DescMethodUnary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { ListSystemMetricsRequestSchema, QueryService, QuerySystemMetricsRequestSchema, SystemSection } from "../gen/runyard/query/v1/query_pb";
import { readDoubles, readInt64s } from "./bucketColumns";
import { query, transport } from "./clients";
import { keyOf } from "./queries";

export { SystemSection };

/** One system metric of a run, with what the server knows of it. */
export interface SystemMetric {
  readonly name: string;
  /** Numbers of the writers whose agents sampled it. */
  readonly writers: readonly number[];
  readonly firstMs: number;
  readonly lastMs: number;
  /** "%", "bytes", "MB", "GB", "bytes/s", "W", "J", "°C", "MHz"; empty: a plain number. */
  readonly unit: string;
  readonly description: string;
  readonly section: SystemSection;
  /** Of its chart; metrics of one section with the same title and unit share one. */
  readonly title: string;
  /** Tells it apart there. */
  readonly item: string;
  readonly isOfProcess: boolean;
}

export interface SystemMetricList {
  /** In the order in which they are shown. */
  readonly metrics: readonly SystemMetric[];
  /** For how many days samples are kept; 0: with their run. */
  readonly keepDays: number;
}

/** Columns of one metric, of one writer or of all (0): bucket i begins at timesMs[i]. */
export interface SystemColumns {
  readonly metric: string;
  readonly writer: number;
  readonly widthMs: number;
  readonly timesMs: Float64Array;
  readonly lows: Float64Array;
  readonly highs: Float64Array;
  readonly means: Float64Array;
  readonly lasts: Float64Array;
  readonly counts: Float64Array;
}

export interface SystemAsk {
  readonly runPath: string;
  readonly metrics: readonly string[];
  /** Empty: all. */
  readonly writers: readonly number[];
  readonly isByWriter: boolean;
  /** Unix milliseconds, both included; null: all. */
  readonly range: readonly [number, number] | null;
  readonly bucketCountMax: number;
}

const LIST_INTERVAL_MS = 5_000;
const LIVE_INTERVAL_MS = 5_000;
const LIVE_INTERVAL_MAX_MS = 60_000;
/** A slow store is not asked faster than it answers: the pause is at least this many times the last answer's time. */
const PACE = 10;
const NS_PER_MS = 1_000_000;

/** The system metrics that a run has. */
export function useSystemMetrics(runPath: string, isGrowing: boolean) {
  const request = { runPath, isBrief: true };
  return useQuery({
    queryKey: keyOf(ListSystemMetricsRequestSchema, request),
    queryFn: async ({ signal }) => timed(() => listMetrics(request, signal)),
    refetchInterval: ({ state }) => (isGrowing ? Math.max(LIST_INTERVAL_MS, PACE * (state.data?.tookMs ?? 0)) : false),
    select: ({ value }) => value,
  });
}

/** Values of some of them; while the run grows they are asked for again. */
export function useSystemSeries(ask: SystemAsk, isGrowing: boolean, isWanted: boolean) {
  return useQuery({
    queryKey: ["system", ask],
    queryFn: ({ signal }) => timed(() => fetchSeries(ask, signal)),
    enabled: isWanted,
    refetchInterval: ({ state }) => (isGrowing ? liveIntervalMs(state.data) : false),
    staleTime: isGrowing ? 1_000 : 60_000,
    placeholderData: keepPreviousData,
    structuralSharing: false,
    select: ({ value }) => value,
  });
}

interface Timed<T> {
  readonly value: T;
  readonly tookMs: number;
}

async function timed<T>(work: () => Promise<T>): Promise<Timed<T>> {
  const start = performance.now();
  const value = await work();
  return { value, tookMs: performance.now() - start };
}

/** Of wide buckets one more sample changes little: the wider they are, the more seldom they are asked for. */
function liveIntervalMs(answer: Timed<readonly SystemColumns[]> | undefined): number {
  const widthMs = Math.max(0, ...(answer?.value ?? []).map((one) => one.widthMs));
  const wanted = Math.max(LIVE_INTERVAL_MS, widthMs / 4, PACE * (answer?.tookMs ?? 0));
  return Math.min(LIVE_INTERVAL_MAX_MS, wanted);
}

async function listMetrics(request: { runPath: string; isBrief: boolean }, signal: AbortSignal): Promise<SystemMetricList> {
  const answer = await query.listSystemMetrics(request, { signal });
  const metrics = answer.metrics.map((one): SystemMetric => {
    const { name, writers, unit, description, section, title, item, isOfProcess } = one;
    const [firstMs, lastMs] = [one.firstTimeUnixNs, one.lastTimeUnixNs].map((ns) => Number(ns) / NS_PER_MS) as [number, number];
    return { name, writers, firstMs, lastMs, unit, description, section, title: title || name, item, isOfProcess };
  });
  return { metrics, keepDays: answer.keepDays };
}

// The reply is taken as a message without fields, so that its bytes are kept: a column is one copy, no number object a sample.
const querySystemRaw = { ...QueryService.method.querySystemMetrics, output: EmptySchema } as unknown as DescMethodUnary<
  typeof QuerySystemMetricsRequestSchema,
  typeof EmptySchema
>;
const SERIES_FIELD = 1;

async function fetchSeries({ runPath, metrics, writers, isByWriter, range, bucketCountMax }: SystemAsk, signal: AbortSignal): Promise<readonly SystemColumns[]> {
  const request = create(QuerySystemMetricsRequestSchema, {
    runPath,
    metrics: [...metrics],
    writers: [...writers],
    isByWriter,
    bucketCountMax,
    ...(range === null ? {} : { firstTimeUnixNs: toNs(range[0]), lastTimeUnixNs: toNs(range[1]) }),
  });
  const { message } = await transport.unary(querySystemRaw, signal, undefined, undefined, request);
  return (message.$unknown ?? [])
    .filter(({ no }) => no === SERIES_FIELD)
    .map(({ data }) => readSystemSeries(new BinaryReader(data).bytes()));
}

function toNs(timeMs: number): bigint {
  return BigInt(Math.round(timeMs)) * BigInt(NS_PER_MS);
}

const EMPTY = new Float64Array(0);

type Columns = { -readonly [K in keyof SystemColumns]: SystemColumns[K] };

/** Reads one field `series` of the response: its bytes without tag and length. */
export function readSystemSeries(bytes: Uint8Array): SystemColumns {
  const reader = new BinaryReader(bytes);
  const series: Columns = { metric: "", writer: 0, widthMs: 1, timesMs: EMPTY, lows: EMPTY, highs: EMPTY, means: EMPTY, lasts: EMPTY, counts: EMPTY };
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!readField(reader, series, field, wireType)) reader.skip(wireType, field);
  }
  return series;
}

/** Numbers of the fields of runyard.query.v1.SystemSeries. */
function readField(reader: BinaryReader, series: Columns, field: number, wireType: WireType): boolean {
  if (wireType === WireType.Varint) {
    if (field === 2) series.writer = reader.uint32();
    else if (field === 3) series.widthMs = Number(reader.uint64());
    else return false;
    return true;
  }
  if (wireType !== WireType.LengthDelimited) return false;
  if (field === 1) series.metric = reader.string();
  else if (field === 4) series.timesMs = readInt64s(reader.bytes(), NS_PER_MS);
  else if (field === 5) series.lows = readDoubles(reader.bytes());
  else if (field === 6) series.highs = readDoubles(reader.bytes());
  else if (field === 7) series.means = readDoubles(reader.bytes());
  else if (field === 8) series.lasts = readDoubles(reader.bytes());
  else if (field === 9) series.counts = readInt64s(reader.bytes(), 1);
  else return false;
  return true;
}
