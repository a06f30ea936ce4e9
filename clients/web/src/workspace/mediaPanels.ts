// Which media the shown runs have: one panel for each name.
import type { MediaKindName, MediaOfRun } from "../api/media";

export interface MediaPanelFacts {
  readonly name: string;
  readonly kind: MediaKindName;
  /** Changes when some run has more of it. */
  readonly version: string;
}

/** By the panel's id: the name, or where a metric is called the same, a little more. */
export type MediaPanels = ReadonlyMap<string, MediaPanelFacts>;

export const NO_MEDIA: MediaPanels = new Map();

/** Panels for the media of all runs; of several kinds under one name that of the last run counts. */
export function mediaPanels(lists: readonly (MediaOfRun | null)[], metrics: ReadonlySet<string>): MediaPanels {
  const found = new Map<string, { kind: MediaKindName; version: string }>();
  for (const list of lists) {
    for (const { name, kind, lastStep, stepCount } of list?.names ?? []) {
      const version = `${found.get(name)?.version ?? ""} ${String(stepCount)}:${String(lastStep)}`;
      found.set(name, { kind, version });
    }
  }
  return new Map([...found].map(([name, facts]) => [metrics.has(name) ? `${name} (media)` : name, { name, ...facts }]));
}
