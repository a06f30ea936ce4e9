// Which runs of a project are shown in its charts: those the address names, else the newest.
import { useCallback, useMemo, useState } from "react";
import { isLive, stateName, type StateName } from "../api/runState";
import { useRunRows, useRunsByPath } from "../api/queries";
import type { MetricDefinition, Run, RunRow } from "../api/types";
import { useView } from "../ui/view";

/** Runs shown while the address names none. */
export const SHOWN_DEFAULT = 10;
/** Runs that one chart can bear; more are refused with a word. */
export const SHOWN_MAX = 100;
const PAGE_SIZE = 100;

export interface RunInChart {
  readonly path: string;
  readonly runId: string;
  readonly name: string;
  readonly state: StateName;
  readonly isRunning: boolean;
  readonly definitions: readonly MetricDefinition[];
}

export interface ShownRuns {
  /** Runs that match the filter, as far as they are loaded, newest first. */
  readonly rows: readonly RunRow[];
  /** Runs that match the filter. */
  readonly totalCount: number;
  readonly runs: readonly RunInChart[];
  readonly shownIds: ReadonlySet<string>;
  readonly isDefault: boolean;
  readonly isPending: boolean;
  readonly error: unknown;
  readonly retry: () => void;
  readonly hasMore: boolean;
  readonly loadMore: () => void;
  readonly filter: string;
  readonly setFilter: (text: string) => void;
  readonly toggle: (runId: string) => void;
  readonly showOnly: (runId: string) => void;
  readonly showNewest: () => void;
  readonly hideAll: () => void;
  readonly emphasis: string | null;
  readonly setEmphasis: (path: string | null) => void;
}

/** "none" is no run's id here: ids in the address are separated by commas, which ids cannot hold. */
const NONE = ",";

export function useShownRuns(projectPath: string): ShownRuns {
  const [view, change] = useView();
  const [emphasis, setEmphasis] = useState<string | null>(null);
  const filter = view.get("q") ?? "";
  const named = view.get("runs");
  const answer = useRunRows({ projectPath, nameContains: filter, configKeys: [], summaryKeys: [], pageSize: PAGE_SIZE });
  const { data, fetchNextPage, hasNextPage, isFetchingNextPage } = answer;

  const rows = useMemo(() => data?.pages.flatMap((page) => page.runs) ?? [], [data]);
  const shownIds = useMemo(
    () =>
      new Set(
        named === null
          ? rows.slice(0, SHOWN_DEFAULT).flatMap(({ run }) => run?.runId ?? [])
          : named.split(",").filter((id) => id !== ""),
      ),
    [named, rows],
  );
  const listed = useMemo(() => rows.flatMap(({ run }) => (run !== undefined && shownIds.has(run.runId) ? [run] : [])), [rows, shownIds]);
  // A link may name runs beyond the pages loaded, or that the filter hides: they are shown all the same.
  const isListHere = data !== undefined;
  const missing = useMemo(() => {
    const here = new Set(listed.map(({ runId }) => runId));
    return isListHere ? [...shownIds].filter((id) => !here.has(id)).map((id) => `${projectPath}/${id}`) : [];
  }, [listed, shownIds, projectPath, isListHere]);
  const others = useRunsByPath(missing);
  const found = useMemo((): Run[] => [...listed, ...others], [listed, others]);
  // Same runs, same array: the charts are drawn anew only if something that they show has changed.
  const key = JSON.stringify(found.map(({ path, displayName, state }) => [path, displayName, state]));
  const runs = useMemo(
    (): RunInChart[] =>
      found.map((run) => ({
        path: run.path,
        runId: run.runId,
        name: run.displayName,
        state: stateName(run.state),
        isRunning: isLive(run.state),
        definitions: run.metricDefinitions,
      })),
    // eslint-disable-next-line react-hooks/exhaustive-deps -- key stands for found
    [key],
  );

  const show = useCallback(
    (ids: readonly string[]) => {
      change({ runs: ids.length === 0 ? NONE : ids.slice(0, SHOWN_MAX).join(",") }, true);
    },
    [change],
  );
  return {
    rows,
    totalCount: Number(data?.pages[0]?.totalCount ?? 0n),
    runs,
    shownIds,
    isDefault: named === null,
    isPending: answer.isPending,
    error: answer.error,
    retry: useCallback(() => void answer.refetch(), [answer]),
    hasMore: hasNextPage,
    loadMore: useCallback(() => {
      if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
    }, [hasNextPage, isFetchingNextPage, fetchNextPage]),
    filter,
    setFilter: useCallback(
      (q: string) => {
        change({ q });
      },
      [change],
    ),
    toggle: (runId) => {
      show(shownIds.has(runId) ? [...shownIds].filter((id) => id !== runId) : [...shownIds, runId]);
    },
    showOnly: (runId) => {
      show([runId]);
    },
    showNewest: () => {
      change({ runs: null }, true);
    },
    hideAll: () => {
      show([]);
    },
    emphasis,
    setEmphasis,
  };
}
