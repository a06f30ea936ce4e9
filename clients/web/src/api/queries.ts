// Every read of the application: hooks over TanStack Query, keyed by the request. Live things ask again by themselves.
import { type DescMessage, type MessageShape, toJsonString } from "@bufbuild/protobuf";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  keepPreviousData,
  QueryClient,
  useInfiniteQuery,
  useMutation,
  useQueries,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { type File, GetFileRequestSchema, ListFilesRequestSchema } from "../gen/runyard/files/v1/files_pb";
import {
  GetProjectRequestSchema,
  GetRunRequestSchema,
  ListProjectsRequestSchema,
  type Run,
  RunSchema,
} from "../gen/runyard/metadata/v1/metadata_pb";
import { GetLivenessRequestSchema } from "../gen/runyard/monitor/v1/monitor_pb";
import {
  GetReceiptRequestSchema,
  GetSummaryRequestSchema,
  ListMetricsRequestSchema,
  type MetricStats,
  QueryRunsRequestSchema,
} from "../gen/runyard/query/v1/query_pb";
import { files, metadata, monitor, query } from "./clients";
import { onReconnect } from "./connection";
import { isWorthRetrying } from "./errors";
import { isLive } from "./runState";

/** How often things that may change are asked for again. */
export const LIST_INTERVAL_MS = 4_000;
export const RUN_INTERVAL_MS = 2_000;
const METRICS_INTERVAL_MS = 3_000;
const KEYS_FRESH_MS = 30_000;
const RETRY_COUNT = 2;
/** Metric names fetched of one run; a search narrows further on the server. */
export const METRIC_COUNT_MAX = 10_000;
const FILE_PAGES_MAX = 20;

export function createQueryClient(): QueryClient {
  const client = new QueryClient({
    defaultOptions: {
      queries: {
        retry: (count, error) => count < RETRY_COUNT && isWorthRetrying(error),
        // The server is often this very machine: what the system thinks of the network does not matter.
        networkMode: "always",
        staleTime: 1_000,
        gcTime: 5 * 60_000,
      },
    },
  });
  onReconnect(() => void retryFailed(client));
  return client;
}

/** Asks again for all that failed. */
export function retryFailed(client: QueryClient): Promise<void> {
  return client.refetchQueries({ type: "active", predicate: ({ state }) => state.status === "error" });
}

type Key = readonly [string, string, ...string[]];

/** Key of a request: its type and its canonical JSON. */
export function keyOf<D extends DescMessage>(schema: D, init: MessageInitShape<D>): Key {
  return [schema.typeName, toJsonString(schema, create(schema, init) as MessageShape<D>)];
}

export function useProjects(entity = "") {
  const request = { entity, pageSize: 1000 };
  return useQuery({
    queryKey: keyOf(ListProjectsRequestSchema, request),
    queryFn: ({ signal }) => metadata.listProjects(request, { signal }),
    refetchInterval: LIST_INTERVAL_MS,
  });
}

export function useProject(path: string) {
  const request = { path };
  return useQuery({
    queryKey: keyOf(GetProjectRequestSchema, request),
    queryFn: ({ signal }) => metadata.getProject(request, { signal }),
    refetchInterval: LIST_INTERVAL_MS,
  });
}

export interface RunRowsRequest {
  readonly projectPath: string;
  readonly nameContains: string;
  readonly configKeys: readonly string[];
  readonly summaryKeys: readonly string[];
  readonly pageSize: number;
  /** False: asked for once, for what changes little. True if left out. */
  readonly isFollowed?: boolean;
}

/** Runs of a project, newest first, page after page. */
export function useRunRows({ projectPath, nameContains, configKeys, summaryKeys, pageSize, isFollowed = true }: RunRowsRequest) {
  const request = {
    projectPath,
    nameContains,
    configKeys: [...configKeys],
    summaryKeys: [...summaryKeys],
    pageSize,
  };
  return useInfiniteQuery({
    queryKey: keyOf(QueryRunsRequestSchema, request),
    queryFn: ({ signal, pageParam }) => query.queryRuns({ ...request, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (page) => (page.nextPageToken === "" ? undefined : page.nextPageToken),
    // Each page is asked for again: many pages, less often.
    refetchInterval: ({ state }) => isFollowed && LIST_INTERVAL_MS * Math.max(1, state.data?.pages.length ?? 1),
    staleTime: isFollowed ? 1_000 : KEYS_FRESH_MS,
    placeholderData: keepPreviousData,
  });
}

export function useRun(path: string) {
  const request = { run: { case: "path" as const, value: path } };
  return useQuery({
    queryKey: keyOf(GetRunRequestSchema, request),
    queryFn: ({ signal }) => metadata.getRun(request, { signal }),
    select: (answer) => answer.run,
    refetchInterval: ({ state }) => (isRunLive(state.data?.run) ? RUN_INTERVAL_MS : 5 * RUN_INTERVAL_MS),
  });
}

/** Runs by path, one request each, for the few that no list holds; those that do not exist are left out. */
export function useRunsByPath(paths: readonly string[]): readonly Run[] {
  return useQueries({
    queries: paths.map((path) => {
      const request = { run: { case: "path" as const, value: path } };
      return {
        queryKey: keyOf(GetRunRequestSchema, request),
        queryFn: ({ signal }: { signal: AbortSignal }) => metadata.getRun(request, { signal }),
        refetchInterval: LIST_INTERVAL_MS,
      };
    }),
    combine: (answers) => answers.flatMap(({ data }) => data?.run ?? []),
  });
}

export function useSummary(path: string, isRunning: boolean) {
  const request = { runPath: path };
  return useQuery({
    queryKey: keyOf(GetSummaryRequestSchema, request),
    queryFn: ({ signal }) => query.getSummary(request, { signal }),
    refetchInterval: isRunning ? RUN_INTERVAL_MS : false,
  });
}

export function useReceipt(path: string, isRunning: boolean) {
  const request = { runPath: path };
  return useQuery({
    queryKey: keyOf(GetReceiptRequestSchema, request),
    queryFn: ({ signal }) => query.getReceipt(request, { signal }),
    refetchInterval: isRunning ? RUN_INTERVAL_MS : false,
  });
}

export function useLiveness(path: string, isRunning: boolean) {
  const request = { runPaths: [path] };
  return useQuery({
    queryKey: keyOf(GetLivenessRequestSchema, request),
    queryFn: ({ signal }) => monitor.getLiveness(request, { signal }),
    select: (answer) => answer.liveness.find((one) => one.runPath === path) ?? null,
    enabled: isRunning,
    refetchInterval: RUN_INTERVAL_MS,
  });
}

export interface MetricsOfRun {
  readonly runPath: string;
  readonly metrics: readonly MetricStats[];
  /** All that match, though only METRIC_COUNT_MAX of them may be here. */
  readonly totalCount: number;
}

/** Metrics of each run, in the order of the runs; null while a run's list is not here yet. */
export function useMetrics(runs: readonly { path: string; isRunning: boolean }[], nameContains: string) {
  return useQueries({
    queries: runs.map(({ path, isRunning }) => {
      const request = { runPath: path, nameContains, pageSize: METRIC_COUNT_MAX };
      return {
        queryKey: keyOf(ListMetricsRequestSchema, request),
        queryFn: ({ signal }: { signal: AbortSignal }) => query.listMetrics(request, { signal }),
        // A list of thousands is not asked for as often as a short one.
        refetchInterval: ({ state }: { state: { data?: { metrics: unknown[] } | undefined } }) =>
          isRunning && METRICS_INTERVAL_MS * Math.max(1, (state.data?.metrics.length ?? 0) / 1_000),
        placeholderData: keepPreviousData,
      };
    }),
    combine: (answers) => ({
      metrics: answers.map(({ data }, i): MetricsOfRun | null =>
        data === undefined
          ? null
          : { runPath: runs[i]?.path ?? "", metrics: data.metrics, totalCount: Number(data.totalCount) },
      ),
      isPending: answers.some(({ isPending }) => isPending),
      error: answers.find(({ error }) => error !== null)?.error ?? null,
      refetch: () => {
        for (const answer of answers) void answer.refetch();
      },
    }),
  });
}

export function useFiles(path: string, isRunning: boolean) {
  const request = { runPath: path, pageSize: 1000 };
  return useQuery({
    queryKey: keyOf(ListFilesRequestSchema, request),
    queryFn: async ({ signal }) => {
      const all: File[] = [];
      let pageToken = "";
      let totals = { totalCount: 0n, totalBytes: 0n };
      for (let page = 0; page < FILE_PAGES_MAX; page++) {
        const answer = await files.listFiles({ ...request, pageToken }, { signal });
        all.push(...answer.files);
        totals = { totalCount: answer.totalCount, totalBytes: answer.totalBytes };
        pageToken = answer.nextPageToken;
        if (pageToken === "") break;
      }
      return { files: all, ...totals };
    },
    refetchInterval: isRunning ? LIST_INTERVAL_MS : false,
  });
}

/** Address that a file's bytes can be read from for an hour. */
export async function fileUrl(runPath: string, name: string, asAttachment: boolean): Promise<string> {
  const request = create(GetFileRequestSchema, { runPath, name, asAttachment });
  return (await files.getFile(request)).downloadUrl;
}

export type RunEdit = Partial<Pick<Run, "displayName" | "notes" | "tags">>;

const EDITABLE: Record<keyof RunEdit, string> = { displayName: "display_name", notes: "notes", tags: "tags" };

/** Changes what a user may edit of a run; the answer goes into the cache. */
export function useUpdateRun(path: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (edit: RunEdit) =>
      metadata.updateRun({
        run: create(RunSchema, { path, ...edit }),
        updateMask: { paths: (Object.keys(edit) as (keyof RunEdit)[]).map((key) => EDITABLE[key]) },
      }),
    onSuccess: async (answer) => {
      client.setQueryData(keyOf(GetRunRequestSchema, { run: { case: "path", value: path } }), answer);
      await client.invalidateQueries({ queryKey: [QueryRunsRequestSchema.typeName] });
    },
  });
}

function isRunLive(run: Run | undefined): boolean {
  return run !== undefined && isLive(run.state);
}
