import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { SystemSeriesSchema } from "../gen/runyard/query/v1/query_pb";
import { readSystemSeries } from "./system";

describe("columns of system metrics", () => {
  it("are read from the wire", () => {
    const bytes = toBinary(
      SystemSeriesSchema,
      create(SystemSeriesSchema, { metric: "system/cpu", writer: 7, widthMs: 8n, timesUnixNs: [1_760_000_000_123_000_000n], lows: [1], highs: [3], means: [2], lasts: [NaN], counts: [5n] }),
    );
    const series = readSystemSeries(bytes);
    expect([series.metric, series.writer, series.widthMs]).toEqual(["system/cpu", 7, 8]);
    expect([series.timesMs[0], series.means[0], series.lasts[0], series.counts[0]]).toEqual([1_760_000_000_123, 2, NaN, 5]);
  });
});
