// Reads CSV and TSV as spreadsheets write them: quoted cells, "" for a quote within one, line breaks of all kinds.

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Whether there are more rows or columns than were read. */
  readonly isCut: boolean;
}

export const ROWS_MAX = 1000;
export const COLUMNS_MAX = 100;

/** The first rows of a text; of one that was cut (isPart) the last line is not whole, and left out. */
export function readDelimited(text: string, separator: string, isPart: boolean): Table {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let isQuoted = false;
  let isCut = isPart;
  const endCell = (): void => {
    if (row.length < COLUMNS_MAX) row.push(cell);
    else isCut = true;
    cell = "";
  };
  const endRow = (): void => {
    endCell();
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
  };
  let at = text.startsWith("\uFEFF") ? 1 : 0;
  for (; at < text.length && rows.length <= ROWS_MAX; at++) {
    const character = text.charAt(at);
    if (isQuoted) {
      if (character !== '"') cell += character;
      else if (text.charAt(at + 1) === '"') {
        cell += '"';
        at++;
      } else isQuoted = false;
    } else if (character === '"' && cell === "") isQuoted = true;
    else if (character === separator) endCell();
    else if (character === "\n" || character === "\r") {
      if (character === "\r" && text.charAt(at + 1) === "\n") at++;
      endRow();
    } else cell += character;
  }
  if (at < text.length) isCut = true;
  else if (!isPart && (cell !== "" || row.length > 0)) endRow();
  const [head = [], ...rest] = rows;
  return { head, rows: rest, isCut };
}
