// What of the page is in the address: a copied link shows the same.
import type { ViewPatch } from "../ui/view";
import type { Choice } from "./tellers";
import type { TimeMode } from "./times";

export interface SystemAddress {
  readonly search: string;
  readonly mode: TimeMode;
  readonly choice: Choice;
  /** Milliseconds since the run's start; null: all. */
  readonly range: readonly [number, number] | null;
  /** Names of sections that are shut. */
  readonly shut: ReadonlySet<string>;
  /** The chart that is drawn large; null: none. */
  readonly large: string | null;
}

export function readAddress(params: URLSearchParams): SystemAddress {
  const range = /^(-?\d+),(-?\d+)$/.exec(params.get("t") ?? "");
  const [first, last] = [Number(range?.[1]), Number(range?.[2])];
  return {
    search: params.get("q") ?? "",
    mode: params.get("x") === "clock" ? "clock" : "start",
    choice: readChoice(params.get("lines") ?? ""),
    range: range !== null && first < last ? [first, last] : null,
    shut: new Set((params.get("shut") ?? "").split(",").filter((name) => name !== "")),
    large: params.get("large"),
  };
}

export function addressPatch(change: Partial<SystemAddress>): ViewPatch {
  const patch: ViewPatch = {};
  if (change.search !== undefined) patch.q = change.search;
  if (change.mode !== undefined) patch.x = change.mode === "clock" ? "clock" : null;
  if (change.choice !== undefined) patch.lines = change.choice.kind === "auto" ? null : formatChoice(change.choice);
  if (change.range !== undefined) patch.t = change.range === null ? null : change.range.map(Math.round).join(",");
  if (change.shut !== undefined) patch.shut = [...change.shut].join(",");
  if (change.large !== undefined) patch.large = change.large;
  return patch;
}

export function formatChoice(choice: Choice): string {
  return choice.kind === "node" ? `node:${choice.node}` : choice.kind;
}

export function readChoice(text: string): Choice {
  if (text === "together" || text === "each") return { kind: text };
  return text.startsWith("node:") ? { kind: "node", node: text.slice(5) } : { kind: "auto" };
}
