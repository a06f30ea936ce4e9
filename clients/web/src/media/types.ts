// What a media panel is told by the workspace that holds it.
import type { Selection } from "../api/bucketLoader";
import type { MediaKindName } from "../api/media";
import type { LineStyle } from "../charts/colour";

export interface MediaRun {
  readonly path: string;
  readonly runId: string;
  readonly name: string;
  readonly isRunning: boolean;
  readonly part?: { readonly key: string; readonly style?: LineStyle | undefined; readonly selection: Selection };
}

export interface MediaPanelProps {
  readonly name: string;
  readonly kind: MediaKindName;
  readonly runs: readonly MediaRun[];
  readonly width: number;
  readonly height: number;
  /** Steps shown; null: all. */
  readonly range: readonly [number, number] | null;
  /** Step that is looked at; null: the last. */
  readonly at: number | null;
  /** Changes when there may be more to read. */
  readonly version: string;
  readonly isLarge?: boolean;
  readonly onStep: (step: number | null) => void;
  readonly onEnlarge?: (() => void) | undefined;
}
