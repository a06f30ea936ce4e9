// What a failed call says, in words for a person.
import { Code, ConnectError } from "@connectrpc/connect";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { isConnectionError } from "./connection";

export interface Failure {
  readonly title: string;
  readonly detail: string;
  /** Reason of google.rpc.ErrorInfo, such as RUN_NOT_FOUND; empty if there is none. */
  readonly reason: string;
  /** True if the thing asked for does not exist. */
  readonly isMissing: boolean;
}

const TITLES: Partial<Record<Code, string>> = {
  [Code.Unavailable]: "A part of the server does not answer",
  [Code.DeadlineExceeded]: "This took too long",
  [Code.Internal]: "The server failed",
  [Code.Unknown]: "The server failed",
  [Code.DataLoss]: "The server failed",
  [Code.ResourceExhausted]: "The server is busy",
};
const ERROR_INFO = "google.rpc.ErrorInfo";

/** Tells what went wrong. */
export function describeError(error: unknown): Failure {
  const failure = ConnectError.from(error);
  const reason = errorReason(failure);
  if (isConnectionError(failure)) {
    return {
      title: "The server does not answer",
      detail: failure.rawMessage,
      reason,
      isMissing: false,
    };
  }
  const isMissing = failure.code === Code.NotFound || reason === "RUN_DELETED";
  return {
    title: isMissing ? "Not here" : (TITLES[failure.code] ?? "The server refused"),
    detail: failure.rawMessage,
    reason,
    isMissing,
  };
}

/** True if asking again may help. */
export function isWorthRetrying(error: unknown): boolean {
  const { code } = ConnectError.from(error);
  return code === Code.Unavailable || code === Code.ResourceExhausted || code === Code.DeadlineExceeded || isConnectionError(error);
}

/** Field 1 of the ErrorInfo among the details. */
function errorReason(failure: ConnectError): string {
  for (const detail of failure.details) {
    if (!("type" in detail) || detail.type !== ERROR_INFO || !(detail.value instanceof Uint8Array)) continue;
    const reader = new BinaryReader(detail.value);
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (field === 1 && wireType === WireType.LengthDelimited) return reader.string();
      reader.skip(wireType, field);
    }
  }
  return "";
}
