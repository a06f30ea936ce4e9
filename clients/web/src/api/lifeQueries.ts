// Reads and changes of a run's life: what happened to it, its writers and attempts, stopping, deleting, restoring.
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import {
  GetRunRequestSchema,
  ListDeletedRunsRequestSchema,
  ListProjectsRequestSchema,
  ListRunAttemptsRequestSchema,
  ListRunEventsRequestSchema,
  ListRunWritersRequestSchema,
  type RunEvent,
  type RunRefusal,
  type RunWriter,
} from "../gen/runyard/metadata/v1/metadata_pb";
import { ListWriterLivenessRequestSchema } from "../gen/runyard/monitor/v1/monitor_pb";
import { QueryRunsRequestSchema } from "../gen/runyard/query/v1/query_pb";
import { metadata, monitor } from "./clients";
import { keyOf, LIST_INTERVAL_MS, RUN_INTERVAL_MS } from "./queries";

const EVENT_PAGES_MAX = 20;
const WRITER_PAGES_MAX = 10;
const TRASH_PAGE_SIZE = 100;

/** All that happened to a run, oldest first. */
export function useRunEvents(path: string, isRunning: boolean) {
  const request = { runPath: path, pageSize: 1000 };
  return useQuery({
    queryKey: keyOf(ListRunEventsRequestSchema, request),
    queryFn: async ({ signal }) => {
      const all: RunEvent[] = [];
      let pageToken = "";
      for (let page = 0; page < EVENT_PAGES_MAX; page++) {
        const answer = await metadata.listRunEvents({ ...request, pageToken }, { signal });
        all.push(...answer.events);
        pageToken = answer.nextPageToken;
        if (pageToken === "") break;
      }
      return { events: all, isCut: pageToken !== "" };
    },
    refetchInterval: isRunning ? RUN_INTERVAL_MS : 5 * RUN_INTERVAL_MS,
  });
}

/** The writers of a run, by number. */
export function useRunWriters(path: string, isRunning: boolean, isWanted = true) {
  const request = { run: { case: "runPath" as const, value: path }, pageSize: 10_000 };
  return useQuery({
    queryKey: keyOf(ListRunWritersRequestSchema, request),
    queryFn: async ({ signal }) => {
      const all: RunWriter[] = [];
      let pageToken = "";
      for (let page = 0; page < WRITER_PAGES_MAX; page++) {
        const answer = await metadata.listRunWriters({ ...request, pageToken }, { signal });
        all.push(...answer.writers);
        pageToken = answer.nextPageToken;
        if (pageToken === "") break;
      }
      return all;
    },
    enabled: isWanted,
    refetchInterval: isRunning ? LIST_INTERVAL_MS : false,
  });
}

/** What the writers' beats tell; nothing of a run that is not live. */
export function useWriterLiveness(path: string, isRunning: boolean) {
  const request = { runPath: path };
  return useQuery({
    queryKey: keyOf(ListWriterLivenessRequestSchema, request),
    queryFn: ({ signal }) => monitor.listWriterLiveness(request, { signal }),
    enabled: isRunning,
    refetchInterval: RUN_INTERVAL_MS,
  });
}

export function useRunAttempts(path: string, isRunning: boolean) {
  const request = { runPath: path };
  return useQuery({
    queryKey: keyOf(ListRunAttemptsRequestSchema, request),
    queryFn: ({ signal }) => metadata.listRunAttempts(request, { signal }),
    select: (answer) => answer.attempts,
    refetchInterval: isRunning ? LIST_INTERVAL_MS : false,
  });
}

export interface StopWish {
  readonly graceSeconds: number;
  readonly mayKill: boolean;
  readonly reason: string;
}

/** Asks that a run stop; the answer, which shows the request, goes into the cache. */
export function useStopRun(path: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ graceSeconds, mayKill, reason }: StopWish) =>
      metadata.requestStop({ runPath: path, grace: { seconds: BigInt(graceSeconds) }, mayKill, reason, requestedBy: "web" }),
    onSuccess: async (answer) => {
      if (answer.run !== undefined) {
        client.setQueryData(keyOf(GetRunRequestSchema, { run: { case: "path", value: path } }), { run: answer.run });
      }
      await client.invalidateQueries({ queryKey: [ListRunEventsRequestSchema.typeName] });
    },
  });
}

/** The first refusal as an error: for calls about one run. */
export class Refused extends Error {
  constructor(refusal: RunRefusal) {
    super(refusal.message);
    this.name = "Refused";
  }
}

/** Moves a run to the trash. */
export function useDeleteRun(path: string) {
  const renew = useRenewLists();
  return useMutation({
    mutationFn: async () => {
      const answer = await metadata.deleteRuns({ runPaths: [path], requestedBy: "web" });
      const [refusal] = answer.refusals;
      if (refusal !== undefined) throw new Refused(refusal);
      return answer.deletedRuns[0];
    },
    onSuccess: renew,
  });
}

/** Takes a run out of the trash. */
export function useRestoreRun() {
  const renew = useRenewLists();
  return useMutation({
    mutationFn: async (path: string) => {
      const answer = await metadata.restoreRuns({ runPaths: [path], requestedBy: "web" });
      const [refusal] = answer.refusals;
      if (refusal !== undefined) throw new Refused(refusal);
    },
    onSuccess: renew,
  });
}

/** Purges a run of the trash now. */
export function usePurgeRun() {
  const renew = useRenewLists();
  return useMutation({
    mutationFn: async (path: string) => {
      const answer = await metadata.deleteRuns({ runPaths: [path], isNow: true, requestedBy: "web" });
      const [refusal] = answer.refusals;
      if (refusal !== undefined) throw new Refused(refusal);
    },
    onSuccess: renew,
  });
}

/** Deleted runs, latest first, those that are purged among them, page after page. */
export function useDeletedRuns() {
  const request = { isWithPurged: true, pageSize: TRASH_PAGE_SIZE };
  return useInfiniteQuery({
    queryKey: keyOf(ListDeletedRunsRequestSchema, request),
    queryFn: ({ signal, pageParam }) => metadata.listDeletedRuns({ ...request, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (page) => (page.nextPageToken === "" ? undefined : page.nextPageToken),
    refetchInterval: LIST_INTERVAL_MS,
  });
}

function useRenewLists() {
  const client = useQueryClient();
  return async () => {
    await Promise.all(
      [ListDeletedRunsRequestSchema, QueryRunsRequestSchema, ListProjectsRequestSchema, GetRunRequestSchema].map((schema) =>
        client.invalidateQueries({ queryKey: [schema.typeName] }),
      ),
    );
  };
}
