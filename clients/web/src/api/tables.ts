// Rows of tables that runs logged, page by page.
import { useQueries, useQuery } from "@tanstack/react-query";
import { QueryTableRequestSchema, type QueryTableResponse, TableFilterOperator } from "../gen/runyard/query/v1/query_pb";
import { query } from "./clients";
import { type ExtendedValue, parseExtendedJson } from "./extendedJson";
import { keyOf } from "./queries";

export const ROWS_PER_PAGE = 100;
export { TableFilterOperator } from "../gen/runyard/query/v1/query_pb";

export interface TableSort {
  readonly column: string;
  readonly isDescending: boolean;
}

export interface TableCondition {
  readonly column: string;
  readonly operator: TableFilterOperator;
  /** A JSON string, number, bool or null. */
  readonly valueJson: string;
}

export interface TableSource {
  readonly runPath: string;
  readonly file: string;
  readonly sort: TableSort | null;
  readonly conditions: readonly TableCondition[];
}

export interface TableHead {
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly matchingCount: number;
  readonly rowCount: number;
}

type Row = readonly ExtendedValue[];

function options({ runPath, file, sort, conditions }: TableSource, page: number) {
  const request = {
    runPath,
    file,
    offset: BigInt(page * ROWS_PER_PAGE),
    limit: ROWS_PER_PAGE,
    sortColumn: sort?.column ?? "",
    isDescending: sort?.isDescending ?? false,
    filters: conditions.map((one) => ({ ...one })),
  };
  return {
    queryKey: keyOf(QueryTableRequestSchema, request),
    queryFn: ({ signal }: { signal: AbortSignal }) => query.queryTable(request, { signal, timeoutMs: 60_000 }),
    // A file never changes.
    staleTime: Infinity,
    gcTime: 60_000,
  };
}

/** Columns and counts; what there was before is shown while another order or filter is on its way. */
export function useTableHead(source: TableSource, isWanted: boolean) {
  return useQuery({ ...options(source, 0), enabled: isWanted, select: headOf, placeholderData: (before) => before });
}

/** The rows of some pages, by number of the row; those not here yet are absent. */
export function useTableRows(source: TableSource, pages: readonly number[], isWanted: boolean): ReadonlyMap<number, Row> {
  return useQueries({
    queries: pages.map((page) => ({ ...options(source, page), enabled: isWanted, select: rowsOf })),
    combine: (answers) => {
      const rows = new Map<number, Row>();
      answers.forEach(({ data }, i) => {
        data?.forEach((row, k) => rows.set((pages[i] ?? 0) * ROWS_PER_PAGE + k, row));
      });
      return rows;
    },
  });
}

function headOf({ columns, matchingCount, rowCount }: QueryTableResponse): TableHead {
  return { columns, matchingCount: Number(matchingCount), rowCount: Number(rowCount) };
}

const parsed = new WeakMap<QueryTableResponse, Row[]>();

function rowsOf(answer: QueryTableResponse): Row[] {
  const known = parsed.get(answer);
  if (known !== undefined) return known;
  const rows = answer.rowsJson.map((text): Row => {
    try {
      const row = parseExtendedJson(text);
      return Array.isArray(row) ? row : [];
    } catch {
      return [];
    }
  });
  parsed.set(answer, rows);
  return rows;
}

/** What a text typed by a user says for a column of that type; null if it says nothing that can be compared. */
export function valueJsonOf(text: string, type: string, operator: TableFilterOperator): string | null {
  if (operator === TableFilterOperator.CONTAINS || operator === TableFilterOperator.MATCHES) return text === "" ? null : JSON.stringify(text);
  const bare = text.trim();
  if (bare === "") return null;
  if (bare === "null") return "null";
  switch (type) {
    case "number":
      if (/^nan$/i.test(bare)) return '{"$float":"NaN"}';
      // Its own digits: an integer beyond a double stays exact.
      return /^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(bare) ? bare.replace(/^(-?)\./, "$10.").replace(/\.(?=$|[eE])/, "").replace(/^(-?)0+(?=\d)/, "$1") : null;
    case "boolean":
      return /^(true|false)$/i.test(bare) ? bare.toLowerCase() : null;
    default:
      return JSON.stringify(text);
  }
}
