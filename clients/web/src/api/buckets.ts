// Series for the panels: what ended is asked for once, what lives again and again while its panel is on screen.
import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";
import type { BucketColumns } from "../charts/series";
import { retryFailed } from "./queries";
import { type BucketRequest, bucketLoader, type Selection } from "./bucketLoader";

export const LIVE_INTERVAL_MS = 1_000;
/** A slow store is not asked faster than it answers: the pause is at least this many times the last answer's time. */
const PACE = 4;

/** Where the points of a line come from: a run, or some of its writers or attempts. */
export interface SeriesSource {
  /** Tells the lines of one run apart; its answer has it as run path. */
  readonly key: string;
  readonly path: string;
  readonly selection: Selection | null;
}

export interface PanelRequest {
  readonly metric: string;
  readonly live: readonly SeriesSource[];
  readonly ended: readonly SeriesSource[];
  readonly range: readonly [number, number] | null;
  readonly bucketCountMax: number;
}

export interface PanelSeries {
  /** Each with its source's key as run path. */
  readonly series: readonly BucketColumns[];
  /** True before the first answer. */
  readonly isPending: boolean;
  /** True while what is shown is of another range than asked for. */
  readonly isOther: boolean;
  readonly error: unknown;
  readonly retry: () => void;
}

/**
 * While it is on: asks again, once a second, for the live series of all panels that are mounted, all in one moment so
 * that they go in one call. The next beat waits for the answer.
 */
export function useLiveBeat(isOn: boolean): void {
  const client = useQueryClient();
  useEffect(() => {
    if (!isOn) return;
    let timer: ReturnType<typeof setTimeout>;
    let isStopped = false;
    const beat = async (): Promise<void> => {
      const start = performance.now();
      if (!document.hidden) {
        await client.refetchQueries({ queryKey: ["buckets", "live"], type: "active" }, { cancelRefetch: false });
      }
      const tookMs = performance.now() - start;
      // Stopped while waiting: the effect's clean-up has run already.
      if (!isStopped) timer = setTimeout(() => void beat(), Math.max(LIVE_INTERVAL_MS - tookMs, tookMs * PACE));
    };
    timer = setTimeout(() => void beat(), LIVE_INTERVAL_MS);
    return () => {
      isStopped = true;
      clearTimeout(timer);
    };
  }, [client, isOn]);
}

/** Series of one metric of many sources. */
export function usePanelSeries({ metric, live, ended, range, bucketCountMax }: PanelRequest): PanelSeries {
  const client = useQueryClient();
  const common = { metric, range, bucketCountMax };
  const endedAnswer = useQuery({
    queryKey: ["buckets", "ended", metric, ended, range, bucketCountMax],
    queryFn: ({ signal }) => loadSources(ended, common, signal),
    enabled: ended.length > 0,
    // Late data may still come for an ended run, rarely.
    staleTime: 60_000,
    placeholderData: keepPreviousData,
    structuralSharing: false,
  });
  const liveAnswer = useQuery({
    queryKey: ["buckets", "live", metric, live, range, bucketCountMax],
    queryFn: ({ signal }) => loadSources(live, common, signal),
    enabled: live.length > 0,
    staleTime: 500,
    placeholderData: keepPreviousData,
    structuralSharing: false,
  });
  const series = useMemo(
    () => merge(liveAnswer.data ?? [], keysOf(live), endedAnswer.data ?? [], keysOf(ended)),
    [live, ended, endedAnswer.data, liveAnswer.data],
  );
  const isWaiting = (ended.length > 0 && endedAnswer.isPending) || (live.length > 0 && liveAnswer.isPending);
  return {
    series,
    isPending: isWaiting && series.length === 0,
    isOther: (ended.length > 0 && endedAnswer.isPlaceholderData) || (live.length > 0 && liveAnswer.isPlaceholderData),
    error: endedAnswer.error ?? liveAnswer.error,
    // What failed for one panel failed for its neighbours too: all are asked for again, together.
    retry: () => void retryFailed(client),
  };
}

/** Whole runs go in one request, a part of a run in one of its own: the server takes one selection a request. */
async function loadSources(
  sources: readonly SeriesSource[],
  common: Omit<BucketRequest, "runPaths" | "selection">,
  signal: AbortSignal,
): Promise<BucketColumns[]> {
  const whole = sources.filter(({ selection }) => selection === null).map(({ path }) => path);
  const answers = await Promise.all([
    whole.length === 0 ? [] : bucketLoader.load({ ...common, runPaths: whole, selection: null }, signal),
    ...sources
      .filter(({ selection }) => selection !== null)
      .map(async ({ key, path, selection }) => {
        const series = await bucketLoader.load({ ...common, runPaths: [path], selection }, signal);
        return series.map((one) => ({ ...one, runPath: key }));
      }),
  ]);
  return answers.flat();
}

function keysOf(sources: readonly SeriesSource[]): string[] {
  return sources.map(({ key }) => key);
}

/**
 * The series of all shown runs. A run that has just ended, or come back to life, is drawn from the other answer until
 * the one that it now belongs to is here.
 */
export function merge(
  live: readonly BucketColumns[],
  livePaths: readonly string[],
  ended: readonly BucketColumns[],
  endedPaths: readonly string[],
): BucketColumns[] {
  const isLive = new Set(livePaths);
  const isEnded = new Set(endedPaths);
  const byPath = new Map<string, BucketColumns>();
  for (const one of [...live.filter(({ runPath }) => isEnded.has(runPath)), ...ended.filter(({ runPath }) => isLive.has(runPath))]) {
    byPath.set(one.runPath, one);
  }
  for (const one of [...live.filter(({ runPath }) => isLive.has(runPath)), ...ended.filter(({ runPath }) => isEnded.has(runPath))]) {
    byPath.set(one.runPath, one);
  }
  return [...byPath.values()];
}
