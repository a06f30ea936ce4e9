// How many pictures stand in a row.

const GAP = 6;
const CAPTION = 18;

/** The fewest columns with which all fit into the height; else as many as the least width allows, to be scrolled. */
export function gridColumns(count: number, aspect: number, width: number, height: number, cellMin: number): number {
  const most = Math.max(1, Math.floor((width + GAP) / (cellMin + GAP)));
  for (let columns = 1; columns <= Math.min(count, most); columns++) {
    const cell = (width - GAP * (columns - 1)) / columns;
    const rows = Math.ceil(count / columns);
    if (rows * (cell / aspect + CAPTION) + GAP * (rows - 1) <= height) return columns;
  }
  return Math.max(1, Math.min(count, most));
}
