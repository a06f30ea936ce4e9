// Finds when a line began by its writer and number: a writer's lines are numbered as they come, so their times can be halved.
import { type ConsoleLine, type LinesPage } from "../api/console";
import type { LinePlace } from "./address";

const PROBES_MAX = 48;

/** Asks for the first lines of the writer from that time on, or, with null, for its last ones. */
export type Probe = (firstTimeMs: number | null) => Promise<Pick<LinesPage, "lines">>;

/** Returns when the line began; null if the writer has no such line. */
export async function findLineTime({ writer, line }: LinePlace, probe: Probe): Promise<number | null> {
  const wanted = (one: ConsoleLine): boolean => one.writer === writer && one.line === line;
  const last = (await probe(null)).lines;
  const there = last.find(wanted);
  if (there !== undefined) return there.timeMs;
  const newest = last.at(-1);
  if (newest === undefined || line > newest.line) return null;
  let low = 0;
  let lowLine = 0;
  let high = newest.timeMs;
  let highLine = newest.line;
  for (let count = 0; count < PROBES_MAX && low <= high; count++) {
    // By number at first, by halves when that has not done it: lines may come in bursts.
    const share = count % 2 === 1 || low === 0 ? 0.5 : Math.min(0.98, Math.max(0.02, (line - lowLine) / Math.max(1, highLine - lowLine)));
    const at = count === 0 ? 0 : Math.floor(low + (high - low) * share);
    const { lines } = await probe(at);
    const found = lines.find(wanted);
    if (found !== undefined) return found.timeMs;
    const first = lines[0];
    const end = lines.at(-1);
    if (first === undefined || end === undefined || first.line > line) {
      if (count === 0) return null;
      high = at - 1;
      highLine = first?.line ?? highLine;
    } else {
      if (end.timeMs <= low) break;
      low = end.timeMs;
      lowLine = end.line;
    }
  }
  return null;
}
