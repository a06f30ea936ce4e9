// Colours of runs: by hash of the run id, so that a run has one colour on every page, in every session.

/** Colours in theme.css: --run-0 … --run-19. */
export const RUN_COLOUR_COUNT = 20;

const DASHES: readonly (readonly number[])[] = [[], [7, 4], [2, 3], [10, 3, 2, 3]];

/** 32-bit FNV-1a of the text's UTF-16 units, with a final mix so that similar ids lie apart. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash ^= text.charCodeAt(i);
    hash = Math.imul(hash, 0x01000193);
  }
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  return hash >>> 0;
}

/** Number of the run's colour. */
export function runColourIndex(runId: string): number {
  return hashText(runId) % RUN_COLOUR_COUNT;
}

/** The run's colour as a CSS value, right in both themes. */
export function runColour(runId: string): string {
  return `var(--run-${runColourIndex(runId)})`;
}

export interface LineStyle {
  readonly colourIndex: number;
  /** Lengths of dashes in CSS pixels; empty: a full line. */
  readonly dash: readonly number[];
}

/** The n-th of lines that are told apart by their order alone. */
export function lineStyleAt(index: number): LineStyle {
  const turn = Math.floor(index / RUN_COLOUR_COUNT);
  return { colourIndex: index % RUN_COLOUR_COUNT, dash: DASHES[Math.min(turn, DASHES.length - 1)] ?? [] };
}

/** Styles for runs shown together: where two share a colour, the later ones are dashed. */
export function lineStyles(runIds: readonly string[]): ReadonlyMap<string, LineStyle> {
  const used = new Map<number, number>();
  const styles = new Map<string, LineStyle>();
  for (const id of runIds) {
    if (styles.has(id)) continue;
    const colourIndex = runColourIndex(id);
    const turn = used.get(colourIndex) ?? 0;
    used.set(colourIndex, turn + 1);
    styles.set(id, { colourIndex, dash: DASHES[Math.min(turn, DASHES.length - 1)] ?? [] });
  }
  return styles;
}
