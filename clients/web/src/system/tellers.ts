// Whose lines a chart has: the nodes of a run, or its processes. A node is one line, whichever of its writers told of it. Pure.
import type { RunWriter } from "../api/types";
import type { SystemMetric } from "../api/system";
import type { SystemChart } from "./charts";

/** A node, or a process. */
export interface Teller {
  readonly label: string;
  readonly writers: readonly number[];
  /** The node that it is on. */
  readonly node: string;
}

export interface Tellers {
  readonly nodes: readonly Teller[];
  readonly processes: readonly Teller[];
}

/** Which lines are wanted: one for each or over all as it fits, one over all, one for each, or those of one node. */
export type Choice = { readonly kind: "auto" | "together" | "each" } | { readonly kind: "node"; readonly node: string };

/** One line of a chart, before it has values. */
export interface LinePlan {
  readonly label: string;
  readonly metric: string;
  readonly unit: string;
  /** Empty: all writers, as one series. */
  readonly writers: readonly number[];
}

export interface ChartPlan {
  readonly lines: readonly LinePlan[];
  /** Lines that there would be; more than are shown is said. */
  readonly lineCount: number;
  /** What there would be one of for each: nodes or processes. */
  readonly tellerCount: number;
  readonly isTogether: boolean;
}

export const LINES_MAX = 32;
/** With more, nodes or processes are shown together unless one asks otherwise. */
const LINES_EACH_MAX = 16;

/** The nodes and processes that have samples. What metadata does not know of (yet) is called by its number. */
export function tellersOf(metrics: readonly SystemMetric[], known: readonly RunWriter[]): Tellers {
  const byNumber = new Map(known.map((one) => [one.writer, one]));
  const all = [...new Set(metrics.flatMap(({ writers }) => writers))].sort((a, b) => a - b);
  const nodes = group(all, (writer) => nodeOf(writer, byNumber), byNumber);
  // Attempts one after the other, each of one process: that is one line with pauses.
  const attempts = all.map((writer) => byNumber.get(writer)?.attempt ?? 0);
  const isOneByOne = new Set(attempts).size === all.length && !attempts.includes(0);
  const processes = group(all, (writer) => (isOneByOne ? "process" : labelOf(writer, byNumber)), byNumber);
  return { nodes, processes };
}

/** The lines of a chart, at most LINES_MAX. */
export function planLines(chart: SystemChart, tellers: Tellers, choice: Choice): ChartPlan {
  const all = chart.isOfProcess ? tellers.processes : tellers.nodes;
  const told = new Set(chart.metrics.flatMap(({ writers }) => writers));
  const here = all.filter(({ writers }) => writers.some((writer) => told.has(writer)));
  const chosen = choice.kind === "node" ? here.filter(({ node }) => node === choice.node) : here;
  const isMany = here.length * chart.metrics.length > LINES_EACH_MAX;
  if (here.length > 1 && (choice.kind === "together" || (choice.kind === "auto" && isMany))) {
    const lines = chart.metrics.map(({ name, item, unit }) => ({ label: item === "" ? "mean" : item, metric: name, unit, writers: [] }));
    return { lines: lines.slice(0, LINES_MAX), lineCount: lines.length, tellerCount: here.length, isTogether: true };
  }
  const isOne = chosen.length === 1;
  const lines = chosen.flatMap(({ label, writers }) =>
    chart.metrics
      .filter((metric) => metric.writers.some((writer) => writers.includes(writer)))
      .map(({ name, item, unit }) => ({ label: lineLabel(isOne ? "" : label, item, chart.title), metric: name, unit, writers })),
  );
  return { lines: lines.slice(0, LINES_MAX), lineCount: lines.length, tellerCount: here.length, isTogether: false };
}

function lineLabel(label: string, item: string, title: string): string {
  const parts = [label, item].filter((part) => part !== "");
  return parts.length === 0 ? title : parts.join(" · ");
}

function group(writers: readonly number[], keyOf: (writer: number) => string, known: ReadonlyMap<number, RunWriter>): Teller[] {
  const found = new Map<string, { writers: number[]; node: string }>();
  for (const writer of writers) {
    const key = keyOf(writer);
    const one = found.get(key) ?? { writers: [], node: nodeOf(writer, known) };
    one.writers.push(writer);
    found.set(key, one);
  }
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  return [...found].map(([label, one]) => ({ label, ...one })).sort((a, b) => compare(a.label, b.label));
}

function nodeOf(writer: number, known: ReadonlyMap<number, RunWriter>): string {
  const one = known.get(writer);
  return one?.identity?.node || one?.hostname || `writer ${writer}`;
}

function labelOf(writer: number, known: ReadonlyMap<number, RunWriter>): string {
  return known.get(writer)?.label || `writer ${writer}`;
}
