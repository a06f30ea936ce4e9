// What a receipt says: how much of what a run wrote is durable, and what is missing.
import type { Liveness, Receipt } from "../api/types";
import { formatCount } from "../charts/format";

export interface ReceiptWords {
  /** complete: all that is known to be written is durable. sending: more is on its way. missing: gaps. none: nothing yet. */
  readonly kind: "complete" | "sending" | "missing" | "none";
  readonly text: string;
  readonly details: readonly string[];
}

/** Puts receipt and, for a live run, the writers' own counts into words. */
export function receiptWords(receipt: Receipt, liveness: Liveness | null): ReceiptWords {
  const durable = receipt.recordsDurable;
  const sent = receipt.writers.reduce((sum, { lastSequence, recordsWritten = 0n }) => sum + larger(lastSequence, recordsWritten), 0n);
  const written = liveness === null ? sent : larger(liveness.recordsWritten, sent);
  const gaps = receipt.writers.flatMap(({ writer, label, gaps: ranges }) =>
    ranges.map(({ first, last }) => ({ writer: label === "" ? `writer ${writer}` : label, first, last })),
  );
  const details = gaps.map(
    ({ writer, first, last }) =>
      (receipt.writers.length > 1 ? `${writer}: ` : "") +
      (first === last
        ? `record ${formatCount(first)} is missing`
        : `records ${formatCount(first)} – ${formatCount(last)} are missing`),
  );
  const refused = receipt.writers.reduce((sum, { recordsRefused }) => sum + recordsRefused, 0n);
  if (refused > 0n) details.push(`${formatCount(refused)} records were refused for good, or lost to damage`);
  const rejected = receipt.writers.reduce((sum, { pointsRejected }) => sum + pointsRejected, 0n);
  if (rejected > 0n) details.push(`${formatCount(rejected)} points were refused for good`);
  const text = `${formatCount(durable)} of ${formatCount(written)} records durable`;
  if (written === 0n) return { kind: "none", text: "No records yet", details };
  if (gaps.length > 0 && liveness === null) return { kind: "missing", text, details };
  return { kind: durable >= written ? "complete" : "sending", text, details };
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
