// The runs of a project as a table: newest first, only the rows in view exist.
import {
  type ColumnDef,
  createSortedRowModel,
  rowSortingFeature,
  type SortingState,
  tableFeatures,
  useTable,
} from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useCallback, useEffect, useMemo, useState } from "react";
import { Link } from "react-router";
import { useRunRows } from "../api/queries";
import { runColour } from "../charts/colour";
import { formatCount } from "../charts/format";
import { SearchInput } from "../ui/controls";
import { Empty, SkeletonRows } from "../ui/feedback";
import { ArrowDown, ArrowUp } from "../ui/icons";
import { StateBadge } from "../ui/StateIcon";
import { formatAgo, formatDuration, formatTime, useNow } from "../ui/time";
import { useDelayed, useView } from "../ui/view";
import { ColumnMenu } from "./ColumnMenu";
import { automaticColumns, compareValues, countKeys, keyOfColumn, type TableRow, toTableRow } from "./columns";
import { ValueCell } from "./ValueCell";
import "./runs.css";

interface RunsTableProps {
  readonly projectPath: string;
  readonly runAddress: (runId: string) => string;
  readonly empty: ReactNode;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

const PAGE_SIZE = 100;
const ROW_HEIGHT = 30;
/** Newest runs whose keys are offered as columns. */
const KEY_SAMPLE_RUNS = 20;
/** Runs that a sort by anything but the creation time loads; beyond them it is said that the order is partial. */
const SORTED_MAX = 5_000;
const WIDTHS: Record<string, number> = { name: 250, state: 104, created: 100, duration: 96, tags: 150 };

const features = tableFeatures({ rowSortingFeature, sortedRowModel: createSortedRowModel() });
type Column = ColumnDef<typeof features, TableRow>;

export function RunsTable({ projectPath, runAddress, empty, renderError }: RunsTableProps) {
  const [view, change] = useView();
  const filter = view.get("q") ?? "";
  const sort = view.get("sort") ?? "-created";
  const [text, setText] = useDelayed(filter, (q) => {
    change({ q });
  }, 200);
  const { keys, columns, isAutomatic } = useChosenColumns(projectPath, view.get("cols"));
  const answer = useRunRows({
    projectPath,
    nameContains: filter,
    configKeys: columns.filter((id) => id.startsWith("c:")).map(keyOfColumn),
    summaryKeys: columns.filter((id) => id.startsWith("s:")).map(keyOfColumn),
    pageSize: PAGE_SIZE,
  });
  const { data, hasNextPage, isFetchingNextPage, fetchNextPage } = answer;
  const rows = useMemo(() => data?.pages.flatMap((page) => page.runs.flatMap((row) => toTableRow(row) ?? [])) ?? [], [data]);
  const total = Number(data?.pages[0]?.totalCount ?? 0n);
  const loadMore = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  const isSorted = sort !== "-created";
  useEffect(() => {
    if (isSorted && rows.length < SORTED_MAX) loadMore();
  }, [isSorted, rows.length, loadMore]);

  if (answer.error !== null && data === undefined) return renderError(answer.error, () => void answer.refetch());
  if (data !== undefined && total === 0 && filter === "") return <Empty title="No runs yet">{empty}</Empty>;
  return (
    <div className="runs-page">
      <div className="runs-head">
        <SearchInput label="Filter by name or id" text={text} onText={setText} hasShortcut />
        <span className="muted">{data === undefined ? "" : rowsText(rows.length, total, filter, isSorted)}</span>
        <span className="spacer" />
        <ColumnMenu
          keys={keys}
          chosen={columns}
          isAutomatic={isAutomatic}
          onChosen={(ids) => {
            change({ cols: ids === null ? null : ids.length === 0 ? "none" : ids.map(encodeURIComponent).join(",") });
          }}
        />
      </div>
      {data === undefined ? (
        <SkeletonRows count={14} height={ROW_HEIGHT} />
      ) : rows.length === 0 ? (
        <p className="nothing">No run's name or id contains “{filter}”.</p>
      ) : (
        <Table
          rows={rows}
          columns={columns}
          sort={sort}
          onSort={(next) => {
            change({ sort: next === "-created" ? null : next }, true);
          }}
          onEnd={loadMore}
          runAddress={runAddress}
        />
      )}
    </div>
  );
}

function rowsText(loaded: number, total: number, filter: string, isSorted: boolean): string {
  const what = `${formatCount(total)} ${total === 1 ? "run" : "runs"}${filter === "" ? "" : " match"}`;
  if (isSorted && loaded < total) {
    return loaded < SORTED_MAX ? `${what}; sorting, ${formatCount(loaded)} loaded …` : `${what}; only the newest ${formatCount(loaded)} are sorted`;
  }
  return what;
}

/** The address's columns, else a choice from the newest runs. */
function useChosenColumns(projectPath: string, named: string | null) {
  const sample = useRunRows({
    projectPath,
    nameContains: "",
    configKeys: ["*"],
    summaryKeys: ["*"],
    pageSize: KEY_SAMPLE_RUNS,
    isFollowed: false,
  });
  const first = sample.data?.pages[0];
  const keys = useMemo(() => countKeys(first?.runs.flatMap((row) => toTableRow(row) ?? []) ?? []), [first]);
  // The choice follows the keys' names only: new values must not change columns beneath the reader.
  const automatic = automaticColumns(keys).join("\n");
  const columns = useMemo(() => {
    if (named === "none") return [];
    if (named !== null) return named.split(",").map(decodeURIComponent).filter((id) => /^[cs]:./.test(id));
    return automatic === "" ? [] : automatic.split("\n");
  }, [named, automatic]);
  return { keys, columns, isAutomatic: named === null };
}

interface TableProps {
  readonly rows: readonly TableRow[];
  readonly columns: readonly string[];
  readonly sort: string;
  readonly onSort: (sort: string) => void;
  readonly onEnd: () => void;
  readonly runAddress: (runId: string) => string;
}

function Table({ rows, columns, sort, onSort, onEnd, runAddress }: TableProps) {
  const hasTags = rows.some(({ run }) => run.tags.length > 0);
  const definitions = useMemo(() => columnDefinitions(columns, hasTags), [columns, hasTags]);
  const equal = useMemo(() => equalColumns(rows, columns), [rows, columns]);
  const sorting = useMemo((): SortingState => [{ id: sort.replace(/^-/, ""), desc: sort.startsWith("-") }], [sort]);
  const data = useMemo(() => [...rows], [rows]);
  const table = useTable({
    features,
    columns: definitions,
    data,
    state: { sorting },
    getRowId: ({ run }) => run.runId,
  });
  const sorted = table.getRowModel().rows;
  const [scroll, setScroll] = useState<HTMLDivElement | null>(null);
  const now = useNow(1_000);
   
  const virtual = useVirtualizer({
    count: sorted.length,
    getScrollElement: () => scroll,
    estimateSize: () => ROW_HEIGHT,
    overscan: 12,
  });
  const items = virtual.getVirtualItems();
  const lastIndex = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (lastIndex >= sorted.length - 30) onEnd();
  }, [lastIndex, sorted.length, onEnd]);
  const ids = definitions.map(({ id }) => id ?? "");
  const template = ids.map((id) => `${columnWidth(id)}px`).join(" ");
  const width = ids.reduce((sum, id) => sum + columnWidth(id), 0);
  return (
    <div className="runs-scroll" ref={setScroll} role="table" aria-label="Runs" aria-rowcount={sorted.length + 1}>
      <div style={{ minWidth: width }}>
        <div className="runs-row head" role="row" style={{ gridTemplateColumns: template }}>
          {ids.map((id) => (
            <HeadCell key={id} id={id} sort={sort} isEqual={equal.has(id)} onSort={onSort} />
          ))}
        </div>
        <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {items.map(({ index, start }) => {
            const row = sorted[index]?.original;
            return row === undefined ? null : (
              <div
                key={row.run.runId}
                className="runs-row"
                role="row"
                aria-rowindex={index + 2}
                style={{ gridTemplateColumns: template, transform: `translateY(${start}px)`, height: ROW_HEIGHT }}
              >
                {ids.map((id) => (
                  <Cell key={id} id={id} row={row} now={now} isEqual={equal.has(id)} to={runAddress(row.run.runId)} />
                ))}
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

function columnDefinitions(columns: readonly string[], hasTags: boolean): Column[] {
  const tags: Column = {
    id: "tags",
    accessorFn: ({ run }) => run.tags.join(","),
    sortFn: (a, b) => natural(a.original.run.tags.join(","), b.original.run.tags.join(",")),
  };
  return [
    { id: "name", accessorFn: ({ run }) => run.displayName, sortFn: (a, b) => natural(a.original.run.displayName, b.original.run.displayName) },
    { id: "state", accessorFn: ({ state }) => state, sortFn: (a, b) => natural(a.original.state, b.original.state) },
    { id: "created", accessorFn: ({ createdMs }) => createdMs, sortFn: (a, b) => a.original.createdMs - b.original.createdMs },
    { id: "duration", accessorFn: duration, sortFn: (a, b) => duration(a.original) - duration(b.original) },
    ...(hasTags ? [tags] : []),
    ...columns.map(
      (id): Column => ({
        id,
        accessorFn: ({ values }) => values.get(id),
        sortFn: (a, b) => compareValues(a.original.values.get(id), b.original.values.get(id)),
        sortUndefined: "last",
      }),
    ),
  ];
}

function natural(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

function duration({ startMs, endMs }: TableRow): number {
  return (endMs ?? Date.now()) - startMs;
}

function columnWidth(id: string): number {
  return WIDTHS[id] ?? Math.min(220, Math.max(96, keyOfColumn(id).length * 7.2 + 34));
}

/** Value columns in which all rows are the same: dimmed, since they tell no run from another. */
function equalColumns(rows: readonly TableRow[], columns: readonly string[]): ReadonlySet<string> {
  if (rows.length < 2) return new Set();
  return new Set(
    columns.filter((id) => rows.every(({ values }) => compareValues(values.get(id), rows[0]?.values.get(id)) === 0)),
  );
}

const TITLES: Record<string, string> = { tags: "Tags", name: "Name", state: "State", created: "Created", duration: "Duration" };

function HeadCell({ id, sort, isEqual, onSort }: { id: string; sort: string; isEqual: boolean; onSort: (sort: string) => void }) {
  const isThis = sort === id || sort === `-${id}`;
  const isDescending = sort === `-${id}`;
  const title = TITLES[id] ?? keyOfColumn(id);
  const kind = id.startsWith("c:") ? "config" : id.startsWith("s:") ? "summary" : "";
  return (
    <div
      role="columnheader"
      aria-sort={isThis ? (isDescending ? "descending" : "ascending") : "none"}
      className={`runs-cell ${cellKind(id)} ${isEqual ? "dim" : ""}`}
    >
      <button
        type="button"
        title={`${kind === "" ? title : `${kind}: ${title}`}${isEqual ? "\nequal in all runs listed" : ""}\nsort`}
        onClick={() => {
          onSort(isDescending ? id : `-${id}`);
        }}
      >
        <span className="cut">{title}</span>
        {isThis ? isDescending ? <ArrowDown size={11} /> : <ArrowUp size={11} /> : null}
      </button>
    </div>
  );
}

interface CellProps {
  readonly id: string;
  readonly row: TableRow;
  readonly now: number;
  readonly isEqual: boolean;
  readonly to: string;
}

function Cell({ id, row, now, isEqual, to }: CellProps) {
  return (
    <div role="cell" className={`runs-cell ${cellKind(id)} ${isEqual ? "dim" : ""}`}>
      <CellContent id={id} row={row} now={now} to={to} />
    </div>
  );
}

function CellContent({ id, row, now, to }: Omit<CellProps, "isEqual">) {
  switch (id) {
    case "name":
      return (
        <Link to={to} className="run-link" title={`${row.run.displayName}\n${row.run.path}`}>
          <span className="swatch" style={{ background: runColour(row.run.runId) }} aria-hidden="true" />
          <span className="cut">{row.run.displayName}</span>
        </Link>
      );
    case "tags":
      return (
        <span className="run-tags" title={row.run.tags.join(", ")}>
          {row.run.tags.map((tag) => (
            <span key={tag} className="run-tag cut">
              {tag}
            </span>
          ))}
        </span>
      );
    case "state":
      return <StateBadge state={row.state} />;
    case "created":
      return <span title={formatTime(row.createdMs)}>{formatAgo(row.createdMs, now)}</span>;
    case "duration":
      return formatDuration((row.endMs ?? now) - row.startMs);
    default:
      return <ValueCell value={row.values.get(id)} />;
  }
}

function cellKind(id: string): string {
  return id === "name" ? "name" : id === "state" || id === "tags" ? "" : "number";
}
