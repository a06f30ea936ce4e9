// What a plot value says, as columns that can be drawn; docs/media.md lists the fields.
import { type ExtendedObject, type ExtendedValue, ExactNumber, isObject, parseExtendedJson } from "../api/extendedJson";
import { listOf, objectOf, textOf } from "../api/media";

export type Cell = number | string | null;
export type PlotData = ReadonlyMap<string, readonly Cell[]>;

export interface LineSeries {
  readonly name: string;
  readonly xs: readonly number[];
  readonly ys: readonly number[];
}

export interface Matrix {
  readonly classes: readonly string[];
  /** counts[actual][predicted] */
  readonly counts: readonly (readonly number[])[];
}

export interface Bar {
  readonly label: string;
  readonly value: number;
}

export interface Bin {
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

export type PlotShape =
  | { readonly kind: "lines"; readonly series: readonly LineSeries[]; readonly hasDiagonal: boolean; readonly isPoints: boolean; readonly notDrawn: number }
  | { readonly kind: "bars"; readonly bars: readonly Bar[] }
  | { readonly kind: "bins"; readonly bins: readonly Bin[] }
  | { readonly kind: "matrix"; readonly matrix: Matrix }
  | { readonly kind: "plotly" }
  | { readonly kind: "table"; readonly columns: readonly string[]; readonly rows: readonly (readonly Cell[])[]; readonly notShown: number }
  | { readonly kind: "none"; readonly reason: string };

/** Reads `{column: [value …]}`, as it stands in an item or in its file. */
export function readData(value: ExtendedValue | undefined): PlotData {
  if (value === undefined || !isObject(value)) return new Map();
  return new Map(Object.entries(value).flatMap(([name, cells]): [string, Cell[]][] => (Array.isArray(cells) ? [[name, cells.map(cellOf)]] : [])));
}

/** Reads the text of a plot's file. */
export function parseData(text: string): PlotData {
  try {
    return readData(parseExtendedJson(text));
  } catch {
    return new Map();
  }
}

function cellOf(value: ExtendedValue): Cell {
  if (value instanceof ExactNumber) return value.value;
  if (typeof value === "string") return value;
  return typeof value === "boolean" ? Number(value) : null;
}

export function plotShape(item: ExtendedObject, data: PlotData): PlotShape {
  const chart = textOf(item, "chart");
  const encoding = objectOf(item, "encoding");
  const column = (role: string): readonly Cell[] => data.get(textOf(encoding, role)) ?? [];
  switch (chart) {
    case "line":
    case "line_series":
    case "roc_curve":
    case "pr_curve":
      return lines(column("x"), column("y"), column("series"), { hasDiagonal: chart === "roc_curve", isPoints: false });
    case "scatter":
      return lines(column("x"), column("y"), column("series"), { hasDiagonal: false, isPoints: true });
    case "bar":
      return { kind: "bars", bars: bars(column("label"), column("value")) };
    case "histogram":
      return { kind: "bins", bins: bins(column("low"), column("high"), column("count")) };
    case "confusion_matrix":
      return matrix(item, column("actual"), column("predicted"), column("count"));
    case "plotly":
      return { kind: "plotly" };
    case "custom":
      return data.size === 0 ? { kind: "none", reason: "This chart has no data." } : table(data);
    default:
      return { kind: "none", reason: `There is no way here to draw “${chart}”.` };
  }
}

/** Orders of magnitude apart, x may be a text (a date, a name): then its place in the column counts. */
function numbersOf(cells: readonly Cell[]): number[] {
  if (cells.every((cell) => typeof cell !== "string")) return cells.map((cell) => (typeof cell === "number" ? cell : Number.NaN));
  const places = new Map<Cell, number>();
  return cells.map((cell) => {
    const place = places.get(cell) ?? places.size;
    places.set(cell, place);
    return place;
  });
}

function lines(xCells: readonly Cell[], yCells: readonly Cell[], names: readonly Cell[], more: { hasDiagonal: boolean; isPoints: boolean }): PlotShape {
  const xs = numbersOf(xCells);
  const ys = numbersOf(yCells);
  const found = new Map<string, { xs: number[]; ys: number[] }>();
  let notDrawn = 0;
  for (let i = 0; i < Math.min(xs.length, ys.length); i++) {
    const x = xs[i] as number;
    const y = ys[i] as number;
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      notDrawn++;
      continue;
    }
    const name = names.length === 0 ? "" : String(names[i] ?? "");
    let series = found.get(name);
    if (series === undefined) found.set(name, (series = { xs: [], ys: [] }));
    series.xs.push(x);
    series.ys.push(y);
  }
  return { kind: "lines", series: [...found].map(([name, series]) => ({ name, ...series })), notDrawn, ...more };
}

const ROWS_MAX = 500;

/** What a description of another program draws is not known here: its data are shown. */
function table(data: PlotData): PlotShape {
  const columns = [...data.keys()];
  const cells = [...data.values()];
  const count = Math.max(...cells.map(({ length }) => length));
  const rows = Array.from({ length: Math.min(count, ROWS_MAX) }, (_, i) => cells.map((column) => column[i] ?? null));
  return { kind: "table", columns, rows, notShown: count - rows.length };
}

function bars(labels: readonly Cell[], values: readonly Cell[]): Bar[] {
  return labels.flatMap((label, i) => {
    const value = values[i];
    return typeof value === "number" && Number.isFinite(value) ? [{ label: String(label ?? ""), value }] : [];
  });
}

function bins(lows: readonly Cell[], highs: readonly Cell[], counts: readonly Cell[]): Bin[] {
  return lows.flatMap((low, i) => {
    const high = highs[i];
    const count = counts[i];
    return typeof low === "number" && typeof high === "number" && typeof count === "number" ? [{ low, high, count }] : [];
  });
}

const CLASSES_MAX = 200;

function matrix(item: ExtendedObject, actual: readonly Cell[], predicted: readonly Cell[], counts: readonly Cell[]): PlotShape {
  const classes = listOf(item, "classes").map((name) => (typeof name === "string" ? name : name instanceof ExactNumber ? name.text : ""));
  if (classes.length > CLASSES_MAX) return { kind: "none", reason: `A matrix of ${String(classes.length)} classes is too large to draw; the data are in the file.` };
  const table = classes.map(() => classes.map(() => 0));
  actual.forEach((row, i) => {
    const line = typeof row === "number" ? table[row] : undefined;
    const place = predicted[i];
    const count = counts[i];
    if (line !== undefined && typeof place === "number" && typeof count === "number" && place in line) line[place] = (line[place] ?? 0) + count;
  });
  return { kind: "matrix", matrix: { classes, counts: table } };
}
