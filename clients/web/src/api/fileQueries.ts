// Reads and changes of single files: a piece of their bytes, an address, their removal.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { GetFileRequestSchema, ListFilesRequestSchema, ReadFileRequestSchema } from "../gen/runyard/files/v1/files_pb";
import { files } from "./clients";
import { fileUrl, keyOf } from "./queries";

/** Bytes of a file that a page shows as text. */
export const SHOWN_BYTES = 1 << 20;
/** Addresses are good for an hour. */
const URL_FRESH_MS = 50 * 60_000;

/** The first bytes of a file; `version` is its SHA-256, so that a replaced file is read anew. */
export function useFileStart(runPath: string, name: string, version: string, isWanted: boolean) {
  const request = { runPath, name, maxBytes: SHOWN_BYTES };
  return useQuery({
    queryKey: [...keyOf(ReadFileRequestSchema, request), version],
    queryFn: async ({ signal }) => (await files.readFile(request, { signal })).content,
    enabled: isWanted,
    staleTime: Infinity,
  });
}

/** Address of a file's bytes, for pictures, sound, films and documents. */
export function useFileUrl(runPath: string, name: string, version: string, isWanted: boolean) {
  return useQuery({
    queryKey: [...keyOf(GetFileRequestSchema, { runPath, name }), version],
    queryFn: () => fileUrl(runPath, name, false),
    enabled: isWanted,
    staleTime: URL_FRESH_MS,
    refetchInterval: URL_FRESH_MS,
  });
}

/** Removes files of a run. */
export function useDeleteFiles(runPath: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (names: readonly string[]) => files.deleteFiles({ runPath, names: [...names] }),
    onSuccess: () => client.invalidateQueries({ queryKey: [ListFilesRequestSchema.typeName] }),
  });
}
