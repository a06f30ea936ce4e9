// Columns of the runs table: which there are, and what a run's cell in them holds.
import { ExactNumber, type ExtendedObject, type ExtendedValue, flatten, parseExtendedObject, valueText } from "../api/extendedJson";
import { isLive, stateName, type StateName } from "../api/runState";
import { type Run, type RunRow, timestampMs } from "../api/types";

/** A row with its values read once. */
export interface TableRow {
  readonly run: Run;
  readonly state: StateName;
  readonly createdMs: number;
  readonly startMs: number;
  /** Null while it runs. */
  readonly endMs: number | null;
  /** Values by column id: "c:lr" of the config, "s:loss" of the summary. */
  readonly values: ReadonlyMap<string, ExtendedValue>;
}

export interface KeyCount {
  readonly id: string;
  readonly count: number;
  readonly isVarying: boolean;
}

const AUTOMATIC_COLUMNS = 4;

export function toTableRow({ run, summaryJson }: RunRow): TableRow | null {
  if (run === undefined) return null;
  const createdMs = run.createTime === undefined ? 0 : timestampMs(run.createTime);
  const end = run.endTime ?? run.heartbeatTime ?? run.updateTime;
  const isRunning = isLive(run.state);
  const values = new Map<string, ExtendedValue>();
  for (const [key, value] of flatten(readObject(run.configJson))) values.set(`c:${key}`, value);
  for (const [key, value] of flatten(readObject(summaryJson))) values.set(`s:${key}`, value);
  return {
    run,
    state: stateName(run.state),
    createdMs,
    startMs: run.startTime === undefined ? createdMs : timestampMs(run.startTime),
    endMs: isRunning || end === undefined ? null : timestampMs(end),
    values,
  };
}

/** Column ids that occur in the rows, most frequent first. */
export function countKeys(rows: readonly TableRow[]): KeyCount[] {
  const seen = new Map<string, { count: number; texts: Set<string> }>();
  for (const { values } of rows) {
    for (const [id, value] of values) {
      const entry = seen.get(id) ?? { count: 0, texts: new Set() };
      entry.count++;
      entry.texts.add(valueText(value));
      seen.set(id, entry);
    }
  }
  return [...seen]
    .map(([id, { count, texts }]) => ({ id, count, isVarying: texts.size > 1 }))
    .sort((a, b) => b.count - a.count);
}

/** Columns shown while the user chose none: config that differs between runs first, then what most summaries hold. */
export function automaticColumns(keys: readonly KeyCount[]): string[] {
  const pick = (prefix: string, isPreferred: (key: KeyCount) => boolean): string[] => {
    const own = keys.filter(({ id }) => id.startsWith(prefix) && !id.startsWith(`${prefix}_`));
    return [...own.filter(isPreferred), ...own.filter((key) => !isPreferred(key))]
      .slice(0, AUTOMATIC_COLUMNS)
      .map(({ id }) => id);
  };
  return [...pick("c:", ({ isVarying }) => isVarying), ...pick("s:", ({ id }) => /loss|acc/i.test(id))];
}

/** The config or summary key of a column. */
export function keyOfColumn(id: string): string {
  return id.slice(2);
}

/** Order of two cells, ascending: numbers by size before texts; NaN after all numbers. */
export function compareValues(a: ExtendedValue | undefined, b: ExtendedValue | undefined): number {
  const rank = (value: ExtendedValue | undefined): number =>
    value instanceof ExactNumber ? (Number.isNaN(value.value) ? 1 : 0) : value === undefined ? 3 : 2;
  const byKind = rank(a) - rank(b);
  if (byKind !== 0) return byKind;
  if (a instanceof ExactNumber && b instanceof ExactNumber) {
    if (a.isBeyondDouble || b.isBeyondDouble) return compareBig(a, b);
    return a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
  }
  if (a === undefined || b === undefined) return 0;
  return valueText(a).localeCompare(valueText(b), "en", { numeric: true });
}

function compareBig(a: ExactNumber, b: ExactNumber): number {
  if (!Number.isInteger(a.value) || !Number.isInteger(b.value)) return a.value - b.value;
  const left = BigInt(a.isBeyondDouble ? a.text : a.value);
  const right = BigInt(b.isBeyondDouble ? b.text : b.value);
  return left < right ? -1 : left > right ? 1 : 0;
}

function readObject(json: string): ExtendedObject {
  try {
    return parseExtendedObject(json);
  } catch {
    return {};
  }
}
