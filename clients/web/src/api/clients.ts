// The generated clients over one transport: Connect unary, binary, to the server that served this page.
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { FilesService } from "../gen/runyard/files/v1/files_pb";
import { MetadataService } from "../gen/runyard/metadata/v1/metadata_pb";
import { MonitorService } from "../gen/runyard/monitor/v1/monitor_pb";
import { QueryService } from "../gen/runyard/query/v1/query_pb";
import { watchConnection } from "./connection";

const CALL_TIMEOUT_MS = 30_000;

const interceptors: Interceptor[] = [watchConnection];

export const transport = createConnectTransport({
  baseUrl: window.location.origin,
  useBinaryFormat: true,
  defaultTimeoutMs: CALL_TIMEOUT_MS,
  interceptors,
});

export const metadata = createClient(MetadataService, transport);
export const query = createClient(QueryService, transport);
export const files = createClient(FilesService, transport);
export const monitor = createClient(MonitorService, transport);
