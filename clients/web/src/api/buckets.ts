// Series for the panels: what ended is asked for once, what lives again and again while its panel is on screen.
import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";
import type { BucketColumns } from "../charts/series";
import { retryFailed } from "./queries";
import { bucketLoader } from "./bucketLoader";

export const LIVE_INTERVAL_MS = 1_000;
/** A slow store is not asked faster than it answers: the pause is at least this many times the last answer's time. */
const PACE = 4;

export interface PanelRequest {
  readonly metric: string;
  readonly livePaths: readonly string[];
  readonly endedPaths: readonly string[];
  readonly range: readonly [number, number] | null;
  readonly bucketCountMax: number;
}

export interface PanelSeries {
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

/** Series of one metric of many runs. */
export function usePanelSeries({ metric, livePaths, endedPaths, range, bucketCountMax }: PanelRequest): PanelSeries {
  const client = useQueryClient();
  const common = { metric, range, bucketCountMax };
  const ended = useQuery({
    queryKey: ["buckets", "ended", metric, endedPaths, range, bucketCountMax],
    queryFn: ({ signal }) => bucketLoader.load({ ...common, runPaths: endedPaths }, signal),
    enabled: endedPaths.length > 0,
    // Late data may still come for an ended run, rarely.
    staleTime: 60_000,
    placeholderData: keepPreviousData,
    structuralSharing: false,
  });
  const live = useQuery({
    queryKey: ["buckets", "live", metric, livePaths, range, bucketCountMax],
    queryFn: ({ signal }) => bucketLoader.load({ ...common, runPaths: livePaths }, signal),
    enabled: livePaths.length > 0,
    staleTime: 500,
    placeholderData: keepPreviousData,
    structuralSharing: false,
  });
  const series = useMemo(
    () => merge(live.data ?? [], livePaths, ended.data ?? [], endedPaths),
    [livePaths, endedPaths, ended.data, live.data],
  );
  const isWaiting = (endedPaths.length > 0 && ended.isPending) || (livePaths.length > 0 && live.isPending);
  return {
    series,
    isPending: isWaiting && series.length === 0,
    isOther: (endedPaths.length > 0 && ended.isPlaceholderData) || (livePaths.length > 0 && live.isPlaceholderData),
    error: ended.error ?? live.error,
    // What failed for one panel failed for its neighbours too: all are asked for again, together.
    retry: () => void retryFailed(client),
  };
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
