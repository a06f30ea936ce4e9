// The messages that pages speak of; features take them from here, not from the generated files.
export type { File as RunFile } from "../gen/runyard/files/v1/files_pb";
export type {
  DeletedRun,
  Host,
  MetricDefinition,
  Project,
  Run,
  RunAttempt,
  RunEvent,
  RunException,
  RunWriter,
  StopStatus,
} from "../gen/runyard/metadata/v1/metadata_pb";
export type { Liveness, WriterLiveness } from "../gen/runyard/monitor/v1/monitor_pb";
export type {
  GetReceiptResponse as Receipt,
  MetricStats,
  RunRow,
  WriterReceipt,
} from "../gen/runyard/query/v1/query_pb";
export { timestampMs } from "@bufbuild/protobuf/wkt";
