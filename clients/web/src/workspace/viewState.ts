// What the address says of a workspace: search, smoothing, scale, zoom, shut sections, the enlarged panel.
import { useCallback, useMemo } from "react";
import { useView } from "../ui/view";

export interface WorkspaceView {
  readonly search: string;
  /** 0 … 0.99. */
  readonly smoothing: number;
  readonly isLog: boolean;
  /** Steps shown; null: all. */
  readonly range: readonly [number, number] | null;
  readonly shut: ReadonlySet<string>;
  /** Step at which media are looked at; null: the last. */
  readonly at: number | null;
  /** Metric, or name of media, whose panel is enlarged. */
  readonly enlarged: string | null;
}

export interface WorkspaceActions {
  setSearch(text: string): void;
  setSmoothing(value: number): void;
  setLog(isLog: boolean): void;
  zoom(range: readonly [number, number] | null): void;
  toggleSection(name: string): void;
  setShut(names: readonly string[]): void;
  setAt(step: number | null): void;
  enlarge(metric: string | null): void;
}

export const SMOOTHING_MAX = 0.99;

/** Reads "100..2000". */
export function parseRange(text: string | null): [number, number] | null {
  const found = /^(-?\d{1,19})\.\.(-?\d{1,19})$/.exec(text ?? "");
  if (found === null) return null;
  const first = Number(found[1]);
  const last = Number(found[2]);
  return Number.isSafeInteger(first) && Number.isSafeInteger(last) && first < last ? [first, last] : null;
}

/** Reads a whole number; null if it is none. */
export function parseStep(text: string | null): number | null {
  return /^-?\d{1,16}$/.test(text ?? "") && Number.isSafeInteger(Number(text)) ? Number(text) : null;
}

export function parseSmoothing(text: string | null): number {
  const value = Number(text ?? 0);
  return Number.isFinite(value) ? Math.min(SMOOTHING_MAX, Math.max(0, value)) : 0;
}

export function useWorkspaceView(): [WorkspaceView, WorkspaceActions] {
  const [params, change] = useView();
  const search = params.get("m") ?? "";
  const smoothingText = params.get("s");
  const scale = params.get("y");
  const rangeText = params.get("x");
  const atText = params.get("at");
  const shutText = params.getAll("shut").join("\n");
  const enlarged = params.get("panel");
  const view = useMemo(
    (): WorkspaceView => ({
      search,
      smoothing: parseSmoothing(smoothingText),
      isLog: scale === "log",
      range: parseRange(rangeText),
      shut: new Set(shutText === "" ? [] : shutText.split("\n")),
      at: parseStep(atText),
      enlarged,
    }),
    [search, smoothingText, scale, rangeText, shutText, atText, enlarged],
  );
  const setShut = useCallback(
    (names: readonly string[]) => {
      change({ shut: names.join("\n") });
    },
    [change],
  );
  const actions = useMemo(
    (): WorkspaceActions => ({
      setSearch: (m) => {
        change({ m });
      },
      setSmoothing: (value) => {
        change({ s: value === 0 ? null : String(Number(value.toFixed(3))) });
      },
      setLog: (isLog) => {
        change({ y: isLog ? "log" : null }, true);
      },
      zoom: (range) => {
        change({ x: range === null ? null : `${range[0]}..${range[1]}` }, true);
      },
      toggleSection: (name) => {
        setShut(view.shut.has(name) ? [...view.shut].filter((one) => one !== name) : [...view.shut, name]);
      },
      setShut,
      setAt: (step) => {
        change({ at: step === null ? null : String(step) });
      },
      enlarge: (metric) => {
        change({ panel: metric }, true);
      },
    }),
    [change, setShut, view.shut],
  );
  return [view, actions];
}
