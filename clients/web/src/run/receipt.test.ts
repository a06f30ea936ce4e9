import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
// eslint-disable-next-line no-restricted-imports -- a test may make messages
import { LivenessSchema } from "../gen/runyard/monitor/v1/monitor_pb";
// eslint-disable-next-line no-restricted-imports -- a test may make messages
import { GetReceiptResponseSchema } from "../gen/runyard/query/v1/query_pb";
import { receiptWords } from "./receipt";

const receipt = (init: MessageInitShape<typeof GetReceiptResponseSchema>) => create(GetReceiptResponseSchema, init);

describe("the receipt", () => {
  it("is complete when every record is durable", () => {
    const words = receiptWords(receipt({ recordsDurable: 128_400n, writers: [{ writer: 1, lastSequence: 128_400n }] }), null);
    expect(words).toEqual({ kind: "complete", text: "128,400 of 128,400 records durable", details: [] });
  });

  it("names what is missing, by writer where there are several", () => {
    const words = receiptWords(
      receipt({
        recordsDurable: 17n,
        writers: [
          { writer: 1, lastSequence: 10n, gaps: [{ first: 4n, last: 5n }] },
          { writer: 2, lastSequence: 10n, gaps: [{ first: 7n, last: 7n }], pointsRejected: 3n },
        ],
      }),
      null,
    );
    expect(words).toEqual({
      kind: "missing",
      text: "17 of 20 records durable",
      details: ["writer 1: records 4 – 5 are missing", "writer 2: record 7 is missing", "3 points were refused for good"],
    });
  });

  it("counts what a writer's end says it wrote, and calls writers by their labels", () => {
    const words = receiptWords(
      receipt({
        recordsDurable: 15n,
        writers: [
          { writer: 1, label: "rank0", lastSequence: 8n, recordsWritten: 10n, recordsRefused: 2n, gaps: [{ first: 3n, last: 3n }] },
          { writer: 2, label: "rank1", lastSequence: 8n },
        ],
      }),
      null,
    );
    expect(words.text).toBe("15 of 18 records durable");
    expect(words.details).toEqual(["rank0: record 3 is missing", "2 records were refused for good, or lost to damage"]);
  });

  it("of a live run counts what its writers say they wrote", () => {
    const live = create(LivenessSchema, { recordsWritten: 120n, recordsDurable: 100n });
    const words = receiptWords(receipt({ recordsDurable: 100n, writers: [{ writer: 1, lastSequence: 100n }] }), live);
    expect(words).toMatchObject({ kind: "sending", text: "100 of 120 records durable" });
  });

  it("of a run without records says so", () => {
    expect(receiptWords(receipt({}), null).kind).toBe("none");
  });
});
