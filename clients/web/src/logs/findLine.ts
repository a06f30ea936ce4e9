// Finds when a line began by its writer and number: a writer's lines are numbered as they come, so their times can be halved.
import { type ConsoleLine, type LinesPage } from "../api/console";
import type { LinePlace } from "./address";

const PROBES_MAX = 48;

/** Asks for the first lines of the writer from that time on, or, with null, for its last ones. */
export type Probe = (firstTimeMs: number | null) => Promise<Pick<LinesPage, "lines">>;

/** Returns when the line began if the writer has it; null if it cannot have it. */
export async function findLineTime({ writer, line }: LinePlace, probe: Probe): Promise<number | null> {
  const [last, first] = await Promise.all([probe(null), probe(0)]);
  const wanted = (one: ConsoleLine): boolean => one.writer === writer && one.line === line;
  const there = last.lines.find(wanted) ?? first.lines.find(wanted);
  if (there !== undefined) return there.timeMs;
  const newest = last.lines.at(-1);
  const oldest = first.lines[0];
  if (newest === undefined || oldest === undefined || line > newest.line || line < oldest.line) return null;
  // Always: what begins at `low` has a number that is not above the wanted one, what begins behind `high` has.
  let low = first.lines.at(-1) ?? oldest;
  let lowMs = low.timeMs;
  let high = newest;
  let highMs = newest.timeMs;
  for (let count = 0; count < PROBES_MAX && lowMs < highMs; count++) {
    // By number at first, by halves when that has not done it: lines may come in bursts.
    const share = count % 2 === 1 ? 0.5 : Math.min(1, Math.max(0, (line - low.line) / Math.max(1, high.line - low.line)));
    const at = lowMs + 1 + Math.floor((highMs - lowMs - 1) * share);
    const { lines } = await probe(at);
    const found = lines.find(wanted);
    if (found !== undefined) return found.timeMs;
    const [begin] = lines;
    if (begin === undefined || begin.line > line) {
      highMs = at - 1;
      high = begin ?? high;
    } else {
      low = lines.at(-1) ?? begin;
      lowMs = Math.max(at, low.timeMs);
    }
  }
  return lowMs;
}
