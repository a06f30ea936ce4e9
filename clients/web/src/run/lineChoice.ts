// Which lines a run's charts have: one band over all writers, or some writers, or each attempt, each as a line of its own.
import { useMemo } from "react";
import type { Selection } from "../api/bucketLoader";
import { useRunWriters } from "../api/lifeQueries";
import { isLive } from "../api/runState";
import type { Run, RunWriter } from "../api/types";
import { type LineStyle, lineStyleAt } from "../charts/colour";
import { useView } from "../ui/view";

/** Lines that one run's charts can bear: each is a request a second. */
export const LINES_MAX = 20;
/** Writers that one request may name. */
const WRITERS_MAX = 1_000;

export interface LineChoice {
  /** Labels of writers; empty: all, as one band. */
  readonly labels: readonly string[];
  readonly isByAttempt: boolean;
  /** Points that a rewind superseded are drawn, too. */
  readonly isAllAttempts: boolean;
}

/** A line, or the band, as the charts need it. */
export interface Line {
  readonly key: string;
  readonly name: string;
  readonly selection: Selection;
  /** Absent: as the run is drawn. */
  readonly style?: LineStyle;
}

export interface RunLines {
  readonly choice: LineChoice;
  /** Null until the writers are known; empty: the whole run, as ever. */
  readonly lines: readonly Line[] | null;
  /** What the address asks for and is not drawn, and why. */
  readonly problems: readonly string[];
  readonly error: unknown;
  readonly retry: () => void;
  readonly choose: (choice: Partial<LineChoice>) => void;
}

export function useRunLines(run: Run): RunLines {
  const [params, change] = useView();
  const named = params.get("writer") ?? "";
  const lineText = params.get("lines");
  const attemptText = params.get("attempts");
  const choice = useMemo(
    (): LineChoice => ({
      labels: named === "" ? [] : [...new Set(named.split("\n"))],
      isByAttempt: lineText === "attempts",
      isAllAttempts: attemptText === "all",
    }),
    [named, lineText, attemptText],
  );
  const isAsked = choice.labels.length > 0 || choice.isByAttempt;
  const answer = useRunWriters(run.path, isLive(run.state), isAsked);
  const found = useMemo(() => (isAsked ? linesOf(choice, answer.data) : linesOf(choice, [])), [choice, isAsked, answer.data]);
  return {
    choice,
    ...found,
    error: isAsked && answer.data === undefined ? answer.error : null,
    retry: () => void answer.refetch(),
    choose: (part) => {
      const next = { ...choice, ...part };
      change({
        writer: next.labels.join("\n"),
        lines: next.isByAttempt ? "attempts" : null,
        attempts: next.isAllAttempts ? "all" : null,
      });
    },
  };
}

/** The lines that were chosen, as far as there are such writers. */
export function linesOf(
  { labels, isByAttempt, isAllAttempts }: LineChoice,
  writers: readonly RunWriter[] | undefined,
): { lines: readonly Line[] | null; problems: readonly string[] } {
  if (writers === undefined) return { lines: null, problems: [] };
  if (isByAttempt) {
    // An attempt beside those that superseded it: all that it logged is drawn.
    const attempts = [...groupBy(writers, ({ attempt }) => attempt)];
    const large = attempts.filter(([, own]) => own.length > WRITERS_MAX).map(([attempt]) => attempt);
    const problems = large.map((attempt) => `Attempt ${attempt} has more than ${WRITERS_MAX} writers, too many to be drawn alone.`);
    const lines = attempts.filter(([attempt]) => !large.includes(attempt)).map(([attempt, own]) => ({
      key: `attempt ${attempt}`,
      name: `attempt ${attempt}`,
      selection: { writers: own.map(({ writer }) => writer), isAllAttempts: true },
    }));
    return { lines: styled(lines.slice(-LINES_MAX)), problems: [...problems, ...tooMany(lines.length, "attempts", "last")] };
  }
  const byLabel = groupBy(writers, ({ label }) => label);
  const unknown = labels.filter((label) => !byLabel.has(label)).map((label) => `“${label}”`);
  const problems = unknown.length === 0 ? [] : [`This run has no writer ${unknown.join(", ")}.`];
  const lines = labels.flatMap((label): Line[] => {
    const own = byLabel.get(label);
    return own === undefined ? [] : [{ key: label, name: label, selection: { writers: own.map(({ writer }) => writer), isAllAttempts } }];
  });
  if (lines.length > 0) {
    return { lines: styled(lines.slice(0, LINES_MAX)), problems: [...problems, ...tooMany(lines.length, "writers", "first")] };
  }
  return { lines: isAllAttempts ? [{ key: "", name: "", selection: { writers: [], isAllAttempts } }] : [], problems };
}

/** The labels of a run's writers, by rank where they have one; a label that several attempts have stands once. */
export function labelsOf(writers: readonly RunWriter[]): string[] {
  const ordered = [...writers].sort((one, other) => (one.identity?.rank ?? Infinity) - (other.identity?.rank ?? Infinity) || one.label.localeCompare(other.label, undefined, { numeric: true }));
  return [...new Set(ordered.map(({ label }) => label))];
}

function tooMany(count: number, what: string, which: string): string[] {
  return count <= LINES_MAX ? [] : [`Of ${count} ${what} the ${which} ${LINES_MAX} are drawn.`];
}

function styled(lines: readonly Line[]): Line[] {
  return lines.map((line, index) => ({ ...line, style: lineStyleAt(index) }));
}

function groupBy<K>(writers: readonly RunWriter[], keyOf: (writer: RunWriter) => K): Map<K, RunWriter[]> {
  const groups = new Map<K, RunWriter[]>();
  for (const writer of writers) {
    const own = groups.get(keyOf(writer));
    if (own === undefined) groups.set(keyOf(writer), [writer]);
    else own.push(writer);
  }
  return groups;
}
