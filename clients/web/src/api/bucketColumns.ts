// Reads QueryBucketsResponse straight into typed arrays: its columns are packed and of fixed width, so a column is one
// copy, not a number (or bigint) object per point as the generated reader makes.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import type { BucketColumns } from "../charts/series";

const EMPTY = new Float64Array(0);
const NS_PER_MS = 1_000_000;

type Columns = { -readonly [K in keyof BucketColumns]: BucketColumns[K] };

/** Reads one field `series` of the response: its bytes without tag and length. */
export function readBucketSeries(bytes: Uint8Array): BucketColumns {
  const reader = new BinaryReader(bytes);
  const series: Columns = {
    runPath: "",
    metric: "",
    width: 1,
    isRaw: false,
    firstSteps: EMPTY,
    lastSteps: EMPTY,
    timesMs: EMPTY,
    lows: EMPTY,
    highs: EMPTY,
    means: EMPTY,
    lasts: EMPTY,
    counts: EMPTY,
    nanCounts: EMPTY,
    positiveInfinityCounts: EMPTY,
    negativeInfinityCounts: EMPTY,
    pointCount: 0,
  };
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!readField(reader, series, field, wireType)) reader.skip(wireType, field);
  }
  return series;
}

/** Numbers of the fields of runyard.query.v1.BucketSeries. */
function readField(reader: BinaryReader, series: Columns, field: number, wireType: WireType): boolean {
  if (wireType === WireType.LengthDelimited) {
    switch (field) {
      case 1:
        series.runPath = reader.string();
        return true;
      case 2:
        series.metric = reader.string();
        return true;
      case 5:
        series.firstSteps = readInt64s(reader.bytes(), 1);
        return true;
      case 6:
        series.lastSteps = readInt64s(reader.bytes(), 1);
        return true;
      case 7:
        series.timesMs = readInt64s(reader.bytes(), NS_PER_MS);
        return true;
      case 8:
        series.lows = readDoubles(reader.bytes());
        return true;
      case 9:
        series.highs = readDoubles(reader.bytes());
        return true;
      case 10:
        series.means = readDoubles(reader.bytes());
        return true;
      case 11:
        series.lasts = readDoubles(reader.bytes());
        return true;
      case 12:
        series.counts = readInt64s(reader.bytes(), 1);
        return true;
      case 13:
        series.nanCounts = readInt64s(reader.bytes(), 1);
        return true;
      case 14:
        series.positiveInfinityCounts = readInt64s(reader.bytes(), 1);
        return true;
      case 15:
        series.negativeInfinityCounts = readInt64s(reader.bytes(), 1);
        return true;
      default:
        return false;
    }
  }
  if (wireType === WireType.Varint) {
    switch (field) {
      case 3:
        series.width = Number(reader.uint64());
        return true;
      case 4:
        series.isRaw = reader.bool();
        return true;
      case 16:
        series.pointCount = Number(reader.uint64());
        return true;
      default:
        return false;
    }
  }
  return false;
}

export function readDoubles(bytes: Uint8Array): Float64Array {
  // A copy: the source lies at any offset, a Float64Array at multiples of eight.
  return new Float64Array(bytes.slice().buffer);
}

/** Signed and unsigned alike: steps and counts beyond 2^53 are not told apart on a screen. */
export function readInt64s(bytes: Uint8Array, divisor: number): Float64Array {
  const words = new Int32Array(bytes.slice().buffer);
  const values = new Float64Array(words.length / 2);
  for (let i = 0; i < values.length; i++) {
    const low = (words[2 * i] as number) >>> 0;
    const high = words[2 * i + 1] as number;
    values[i] = (high * 4294967296 + low) / divisor;
  }
  return values;
}
