// A table of one step: rows as they are scrolled to, sorted by a click on a column's name, filtered by conditions.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useMemo, useRef, useState } from "react";
import { describeError } from "../api/errors";
import { ExactNumber, type ExtendedObject, type ExtendedValue, isObject, valueText } from "../api/extendedJson";
import { type MediaEntry, numberOf, objectOf, listOf, textOf, toNumber, useFileUrl } from "../api/media";
import { ROWS_PER_PAGE, type TableCondition, TableFilterOperator, type TableHead, type TableSort, useTableHead, useTableRows, valueJsonOf } from "../api/tables";
import { formatCount, formatExact, formatShort } from "../charts/format";
import { Button } from "../ui/controls";
import { ArrowDown, ArrowUp, CloseIcon } from "../ui/icons";
import { Picture, type Overlays, useSeen } from "./Picture";

const ROW = 28;
const MEDIA_ROW = 72;
const HEAD = 28;
const BAR = 30;
const OVERSCAN = 6;
const NO_OVERLAYS: Overlays = { hiddenSets: new Set(), hiddenClasses: new Set([0]) };

const OPERATORS: readonly (readonly [TableFilterOperator, string])[] = [
  [TableFilterOperator.CONTAINS, "contains"],
  [TableFilterOperator.EQUAL, "="],
  [TableFilterOperator.NOT_EQUAL, "≠"],
  [TableFilterOperator.LESS, "<"],
  [TableFilterOperator.AT_MOST, "≤"],
  [TableFilterOperator.GREATER, ">"],
  [TableFilterOperator.AT_LEAST, "≥"],
  [TableFilterOperator.MATCHES, "matches"],
];

export function TableView({ entry, width, height, label }: { entry: MediaEntry; width: number; height: number; label: string }) {
  const item = entry.items[0];
  const host = useRef<HTMLDivElement>(null);
  const isSeen = useSeen(host);
  const [sort, setSort] = useState<TableSort | null>(null);
  const [conditions, setConditions] = useState<readonly TableCondition[]>([]);
  const source = useMemo(
    () => ({ runPath: entry.fileRunPath, file: item === undefined ? "" : textOf(item, "file"), sort, conditions }),
    [entry.fileRunPath, item, sort, conditions],
  );
  const head = useTableHead(source, isSeen && source.file !== "" && source.runPath !== "");
  return (
    <div ref={host} className="table-view" style={{ width, height }}>
      {head.data === undefined ? (
        head.error === null ? (
          source.runPath === "" ? (
            <p className="panel-cover muted">The run that holds this table is gone.</p>
          ) : (
            <div className="panel-cover loading" aria-hidden="true" />
          )
        ) : (
          <div className="panel-cover" role="alert">
            <p className="muted">{describeError(head.error).detail}</p>
            <Button className="small" onClick={() => void head.refetch()}>
              Try again
            </Button>
          </div>
        )
      ) : (
        <>
          <FilterBar head={head.data} conditions={conditions} onConditions={setConditions} error={head.error} />
          <Grid
            key={JSON.stringify([sort, conditions])}
            head={head.data}
            source={source}
            isStale={head.isPlaceholderData}
            height={height - BAR}
            label={label}
            onSort={(column) => {
              setSort(nextSort(sort, column));
            }}
          />
        </>
      )}
    </div>
  );
}

/** Ascending, descending, as logged. */
export function nextSort(sort: TableSort | null, column: string): TableSort | null {
  if (sort?.column !== column) return { column, isDescending: false };
  return sort.isDescending ? null : { column, isDescending: true };
}

interface FilterBarProps {
  readonly head: TableHead;
  readonly conditions: readonly TableCondition[];
  readonly onConditions: (conditions: readonly TableCondition[]) => void;
  readonly error: unknown;
}

function FilterBar({ head, conditions, onConditions, error }: FilterBarProps) {
  const [column, setColumn] = useState((head.columns.find(({ type }) => type === "string") ?? head.columns.find(({ type }) => type !== "media") ?? head.columns[0])?.name ?? "");
  const [operator, setOperator] = useState(TableFilterOperator.CONTAINS);
  const [text, setText] = useState("");
  const type = head.columns.find(({ name }) => name === column)?.type ?? "string";
  const valueJson = valueJsonOf(text, type, operator);
  const counts = conditions.length === 0 ? `${formatCount(head.rowCount)} rows` : `${formatCount(head.matchingCount)} of ${formatCount(head.rowCount)} rows`;
  return (
    <form
      className="table-bar"
      style={{ height: BAR }}
      onSubmit={(event) => {
        event.preventDefault();
        if (valueJson === null) return;
        onConditions([...conditions, { column, operator, valueJson }]);
        setText("");
      }}
    >
      {conditions.map((one, i) => (
        <span key={i} className="chip on">
          {one.column} {OPERATORS.find(([number]) => number === one.operator)?.[1]} {one.valueJson}
          <button
            type="button"
            aria-label={`Remove the filter of ${one.column}`}
            onClick={() => {
              onConditions(conditions.filter((_, k) => k !== i));
            }}
          >
            <CloseIcon size={9} />
          </button>
        </span>
      ))}
      <select aria-label="Column to filter by" value={column} onChange={(event) => { setColumn(event.target.value); }}>
        {head.columns.map(({ name }) => (
          <option key={name}>{name}</option>
        ))}
      </select>
      <select aria-label="How it is compared" value={operator} onChange={(event) => { setOperator(Number(event.target.value)); }}>
        {OPERATORS.map(([number, name]) => (
          <option key={number} value={number}>
            {name}
          </option>
        ))}
      </select>
      <input
        type="text"
        aria-label="Value to compare with"
        aria-invalid={text !== "" && valueJson === null}
        placeholder={type === "number" && operator !== TableFilterOperator.CONTAINS ? "number" : "value, Enter"}
        value={text}
        spellCheck={false}
        onChange={(event) => {
          setText(event.target.value);
        }}
      />
      <span className="table-counts muted">{error === null ? counts : describeError(error).detail}</span>
    </form>
  );
}

interface GridProps {
  readonly head: TableHead;
  readonly source: Parameters<typeof useTableRows>[0];
  readonly isStale: boolean;
  readonly height: number;
  readonly label: string;
  readonly onSort: (column: string) => void;
}

const WIDTHS: Record<string, number> = { number: 116, boolean: 72, datetime: 190, list: 170, object: 200, media: 120 };
const TEXT_WIDTH = 190;

function Grid({ head, source, isStale, height, label, onSort }: GridProps) {
  const [scroll, setScroll] = useState<HTMLDivElement | null>(null);
  const hasMedia = head.columns.some(({ type }) => type === "media");
  const rowHeight = hasMedia ? MEDIA_ROW : ROW;
  const virtual = useVirtualizer({ count: head.matchingCount, getScrollElement: () => scroll, estimateSize: () => rowHeight, overscan: OVERSCAN });
  const items = virtual.getVirtualItems();
  const first = Math.floor((items[0]?.index ?? 0) / ROWS_PER_PAGE);
  const last = Math.floor((items.at(-1)?.index ?? 0) / ROWS_PER_PAGE);
  const pages = useMemo(() => Array.from({ length: last - first + 1 }, (_, i) => first + i), [first, last]);
  const rows = useTableRows(source, pages, !isStale);
  const widths = useWidths(head, rows);
  const total = widths.reduce((sum, one) => sum + one, 0);
  return (
    <div ref={setScroll} className="table-scroll" style={{ height }} role="table" aria-label={label} aria-rowcount={head.matchingCount + 1} tabIndex={0}>
      <div style={{ width: total, minWidth: "100%", height: HEAD + virtual.getTotalSize(), position: "relative" }}>
        <div className="table-head" role="row" style={{ height: HEAD }}>
          {head.columns.map(({ name, type }, i) => {
            const isSorted = source.sort?.column === name;
            return (
              <button
                key={name}
                type="button"
                role="columnheader"
                className={type === "number" ? "right" : ""}
                style={{ width: widths[i] }}
                title={`${name}: ${type}`}
                aria-sort={isSorted ? (source.sort?.isDescending === true ? "descending" : "ascending") : "none"}
                onClick={() => {
                  onSort(name);
                }}
              >
                <span className="cut">{name}</span>
                {isSorted ? source.sort?.isDescending === true ? <ArrowDown size={11} /> : <ArrowUp size={11} /> : null}
              </button>
            );
          })}
        </div>
        {items.map(({ index, start }) => {
          const row = rows.get(index);
          return (
            <div key={index} className="table-row" role="row" aria-rowindex={index + 2} style={{ transform: `translateY(${String(HEAD + start)}px)`, height: rowHeight }}>
              {head.columns.map(({ name, type }, i) => (
                <div key={name} role="cell" className={type === "number" ? "right" : ""} style={{ width: widths[i] }}>
                  {row === undefined ? <span className="cell-wait" /> : <Cell value={row[i] ?? null} type={type} runPath={source.runPath} />}
                </div>
              ))}
            </div>
          );
        })}
        {head.matchingCount === 0 ? <p className="table-none muted">no rows</p> : null}
      </div>
    </div>
  );
}

/** Widths that the first rows need, within bounds; they stay when others come. */
function useWidths(head: TableHead, rows: ReadonlyMap<number, readonly ExtendedValue[]>): readonly number[] {
  const usual = useMemo(() => head.columns.map(({ type }) => WIDTHS[type] ?? TEXT_WIDTH), [head]);
  const [found, setFound] = useState<readonly number[] | null>(null);
  if (found === null && rows.size > 0) {
    setFound(
      head.columns.map(({ name, type }, i) => {
        if (type !== "number" && type !== "string") return usual[i] ?? TEXT_WIDTH;
        let longest = name.length + 1;
        for (const row of rows.values()) {
          const value = row[i] ?? null;
          longest = Math.max(longest, type === "number" ? numberText(value).length : typeof value === "string" ? value.length : 0);
        }
        return Math.min(type === "number" ? 190 : 260, Math.max(64, 18 + longest * 7.4));
      }),
    );
  }
  return found ?? usual;
}

function numberText(value: ExtendedValue): string {
  if (!(value instanceof ExactNumber)) return "";
  return value.isBeyondDouble || Number.isInteger(value.value) ? value.text : formatShort(value.value);
}

function Cell({ value, type, runPath }: { value: ExtendedValue; type: string; runPath: string }): ReactNode {
  if (value === null) return <span className="null">–</span>;
  if (value instanceof ExactNumber) {
    const exact = value.isBeyondDouble ? value.text : formatExact(value.value);
    return (
      <span className="cut" title={exact}>
        {numberText(value)}
      </span>
    );
  }
  if (type === "media" && isObject(value)) return <MediaCell item={value} runPath={runPath} />;
  const text = type === "datetime" && typeof value === "string" ? value.replace("T", " ").replace(/\.?0*Z$/, "") : valueText(value);
  return (
    <span className="cut" title={text.length > 500 ? `${text.slice(0, 500)}…` : text}>
      {text}
    </span>
  );
}

function MediaCell({ item, runPath }: { item: ExtendedObject; runPath: string }) {
  const kind = textOf(item, "kind");
  switch (kind) {
    case "image":
      return <Picture runPath={runPath} item={item} overlays={NO_OVERLAYS} width={108} height={MEDIA_ROW - 8} hasBoxLabels={false} />;
    case "audio":
      return <AudioCell item={item} runPath={runPath} />;
    case "histogram":
      return <HistogramCell item={item} />;
    default:
      return <FileCell item={item} runPath={runPath} kind={kind} />;
  }
}

function AudioCell({ item, runPath }: { item: ExtendedObject; runPath: string }) {
  const [isAsked, setAsked] = useState(false);
  const url = useFileUrl(runPath, textOf(item, "file"), isAsked);
  if (url.data !== undefined) return <audio controls autoPlay src={url.data} />;
  return (
    <Button
      className="small"
      onClick={() => {
        setAsked(true);
      }}
    >
      play{numberOf(item, "duration_s") === null ? "" : ` ${(numberOf(item, "duration_s") ?? 0).toFixed(1)} s`}
    </Button>
  );
}

function FileCell({ item, runPath, kind }: { item: ExtendedObject; runPath: string; kind: string }) {
  const url = useFileUrl(runPath, textOf(item, "file"), true);
  return url.data === undefined ? <span>{kind}</span> : <a className="link" href={url.data} target="_blank" rel="noreferrer">{kind === "" ? "file" : kind}</a>;
}

function HistogramCell({ item }: { item: ExtendedObject }) {
  const counts = listOf(objectOf(item, "histogram"), "counts").map((count) => toNumber(count) ?? 0);
  const most = Math.max(1, ...counts);
  const width = 100 / Math.max(1, counts.length);
  return (
    <svg className="spark" viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="histogram">
      {counts.map((count, i) => (
        <rect key={i} x={i * width} y={40 - (count / most) * 40} width={width} height={(count / most) * 40} />
      ))}
    </svg>
  );
}
