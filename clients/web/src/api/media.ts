// What runs logged besides numbers: names, values by step, and where the bytes of their files are.
import { keepPreviousData, useQueries, useQuery } from "@tanstack/react-query";
import { GetFileRequestSchema } from "../gen/runyard/files/v1/files_pb";
import { MediaKind } from "../gen/runyard/ingest/v1/ingest_pb";
import {
  AttemptSelection,
  ListMediaRequestSchema,
  type MediaSeries as MediaSeriesMessage,
  type MediaStats,
  QueryMediaRequestSchema,
  type StoredMedia,
} from "../gen/runyard/query/v1/query_pb";
import type { Selection } from "./bucketLoader";
import { files, query } from "./clients";
import { ExactNumber, type ExtendedObject, type ExtendedValue, isObject, parseExtendedJson } from "./extendedJson";
import { keyOf } from "./queries";

export type MediaKindName = "image" | "audio" | "video" | "html" | "table" | "histogram" | "plot" | "other";

/** Steps asked for of one name of one run: more are sampled by the server. */
export const STEP_COUNT_MAX = 100;
/** Histograms are small, and drawn side by side. */
const HISTOGRAM_STEP_COUNT_MAX = 400;
const NAMES_INTERVAL_MS = 3_000;
const NAME_COUNT_MAX = 10_000;
/** Addresses of files are good for an hour. */
const URL_FRESH_MS = 50 * 60_000;
/** Text that a panel reads by itself. */
const TEXT_BYTES_MAX = 64 * 1024 * 1024;

const KIND_NAMES: Partial<Record<MediaKind, MediaKindName>> = {
  [MediaKind.IMAGE]: "image",
  [MediaKind.AUDIO]: "audio",
  [MediaKind.VIDEO]: "video",
  [MediaKind.HTML]: "html",
  [MediaKind.TABLE]: "table",
  [MediaKind.HISTOGRAM]: "histogram",
  [MediaKind.PLOT]: "plot",
};

/** A name under which a run logged media. */
export interface MediaName {
  readonly name: string;
  readonly kind: MediaKindName;
  readonly lastStep: number;
  readonly stepCount: number;
}

export interface Bins {
  readonly edges: Float64Array;
  readonly counts: Float64Array;
  readonly nonFiniteCount: number;
}

/** What one writer logged at one step. */
export interface MediaEntry {
  readonly step: number;
  readonly writer: number;
  readonly kind: MediaKindName;
  readonly timeMs: number;
  readonly items: readonly ExtendedObject[];
  readonly bins: Bins | null;
  /** Run that holds the files; empty: it is gone. */
  readonly fileRunPath: string;
}

export interface MediaSeries {
  readonly runPath: string;
  readonly entries: readonly MediaEntry[];
  /** Steps that have a value, though not all of them may be here. */
  readonly stepCount: number;
  readonly isSampled: boolean;
}

export interface MediaOfRun {
  readonly runPath: string;
  readonly names: readonly MediaName[];
}

/** Names of each run, in the order of the runs; null while a run's list is not here yet. */
export function useMediaNames(runs: readonly { path: string; isRunning: boolean }[]) {
  return useQueries({
    queries: runs.map(({ path, isRunning }) => {
      const request = { runPath: path, pageSize: NAME_COUNT_MAX };
      return {
        queryKey: keyOf(ListMediaRequestSchema, request),
        queryFn: ({ signal }: { signal: AbortSignal }) => query.listMedia(request, { signal }),
        select: ({ media }: { media: MediaStats[] }) => media.map(nameOf),
        refetchInterval: isRunning && NAMES_INTERVAL_MS,
        placeholderData: keepPreviousData,
      };
    }),
    combine: (answers) => ({
      lists: answers.map(({ data }, i): MediaOfRun | null => (data === undefined ? null : { runPath: runs[i]?.path ?? "", names: data })),
      isPending: answers.some(({ isPending }) => isPending),
      error: answers.find(({ error }) => error !== null)?.error ?? null,
      refetch: () => {
        for (const answer of answers) void answer.refetch();
      },
    }),
  });
}

export interface MediaRequest {
  readonly kind: MediaKindName;
  readonly name: string;
  readonly runPaths: readonly string[];
  /** Null: the current history of all writers. Else `runPaths` names one run. */
  readonly selection: Selection | null;
  readonly range: readonly [number, number] | null;
  /** Changes when there may be more than was read: how many steps there are, by run. */
  readonly version: string;
}

/** Values of one name of some runs: all steps, or some chosen evenly. */
export function useMediaSeries({ kind, name, runPaths, selection, range, version }: MediaRequest) {
  const request = {
    runPaths: [...runPaths],
    names: [name],
    stepCountMax: kind === "histogram" && runPaths.length === 1 ? HISTOGRAM_STEP_COUNT_MAX : STEP_COUNT_MAX,
    writers: [...(selection?.writers ?? [])],
    attempts: selection?.isAllAttempts === true ? AttemptSelection.ALL : AttemptSelection.CURRENT,
    ...(range === null ? {} : { range: { firstStep: BigInt(range[0]), lastStep: BigInt(range[1]) } }),
  };
  return useQuery({
    queryKey: [...keyOf(QueryMediaRequestSchema, request), version],
    queryFn: async ({ signal }) => {
      const answer = await query.queryMedia(request, { signal });
      return { series: answer.series.map(seriesOf), isCut: answer.isCut };
    },
    enabled: runPaths.length > 0,
    staleTime: 60_000,
    placeholderData: keepPreviousData,
    structuralSharing: false,
  });
}

/** Address of a file's bytes, asked for while it is wanted. */
export function useFileUrl(runPath: string, name: string, isWanted: boolean) {
  const request = { runPath, name };
  return useQuery({
    queryKey: keyOf(GetFileRequestSchema, request),
    queryFn: ({ signal }) => files.getFile(request, { signal }),
    select: ({ downloadUrl }) => downloadUrl,
    enabled: isWanted && runPath !== "" && name !== "",
    staleTime: URL_FRESH_MS,
    // The file may still be on its way: values are there before their bytes.
    retry: 3,
    retryDelay: (count) => 1_500 * 2 ** count,
  });
}

/** Text of a file; the store must let this page read it. */
export function useFileText(runPath: string, name: string, isWanted: boolean) {
  const url = useFileUrl(runPath, name, isWanted);
  const text = useQuery({
    queryKey: ["file-text", runPath, name],
    queryFn: ({ signal }) => readText(url.data ?? "", signal),
    enabled: isWanted && url.data !== undefined,
    staleTime: Infinity,
    gcTime: 60_000,
  });
  return { data: text.data, error: url.error ?? text.error };
}

async function readText(url: string, signal: AbortSignal): Promise<string> {
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Error(`the store answered ${String(answer.status)}`);
  if (Number(answer.headers.get("content-length") ?? 0) > TEXT_BYTES_MAX) throw new Error("the file is too large to show");
  return answer.text();
}

function nameOf({ name, kind, lastStep, stepCount }: MediaStats): MediaName {
  return { name, kind: KIND_NAMES[kind] ?? "other", lastStep: Number(lastStep), stepCount: Number(stepCount) };
}

function seriesOf({ runPath, values, stepCount, isSampled }: MediaSeriesMessage): MediaSeries {
  return { runPath, entries: values.flatMap(entryOf), stepCount: Number(stepCount), isSampled };
}

function entryOf({ writer, value, fileRunPath }: StoredMedia): MediaEntry[] {
  if (value === undefined) return [];
  const { histogram } = value;
  return [
    {
      step: Number(value.step),
      writer,
      kind: KIND_NAMES[value.kind] ?? "other",
      timeMs: Number(value.timeUnixNs / 1_000_000n),
      items: readItems(value.itemsJson),
      bins:
        histogram === undefined
          ? null
          : {
              edges: Float64Array.from(histogram.edges),
              counts: Float64Array.from(histogram.counts),
              nonFiniteCount: Number(histogram.nonFiniteCount),
            },
      fileRunPath,
    },
  ];
}

/** The objects of a value's items; none if the text is no list of objects. */
export function readItems(text: string): ExtendedObject[] {
  if (text === "") return [];
  try {
    const value = parseExtendedJson(text);
    return Array.isArray(value) ? value.filter(isObject) : [];
  } catch {
    return [];
  }
}

/** A field that should be text; empty if it is not. */
export function textOf(object: ExtendedObject, field: string): string {
  const value = object[field];
  return typeof value === "string" ? value : "";
}

/** A field that should be a number; null if it is not. */
export function numberOf(object: ExtendedObject, field: string): number | null {
  return toNumber(object[field]);
}

export function toNumber(value: ExtendedValue | undefined): number | null {
  return value instanceof ExactNumber ? value.value : null;
}

/** A field that should be an object; empty if it is not. */
export function objectOf(object: ExtendedObject, field: string): ExtendedObject {
  const value = object[field];
  return value !== undefined && isObject(value) ? value : {};
}

/** A field that should be a list; empty if it is not. */
export function listOf(object: ExtendedObject, field: string): readonly ExtendedValue[] {
  const value = object[field];
  return Array.isArray(value) ? value : [];
}
