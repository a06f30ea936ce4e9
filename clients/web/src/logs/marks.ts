// Finds what was searched for in the plain text of a line, to mark it. The server has found the lines; marks only show where.

export type Range = readonly [start: number, end: number];
export type Marker = (plain: string) => readonly Range[];

const MARKS_MAX = 200;
const LENGTH_MAX = 4_000;
/** With several repetitions the time of the browser's expressions may grow by powers of the length. */
const LENGTH_MAX_OF_MANY = 400;
const SLOW_MS = 50;

export const NO_MARKS: Marker = () => [];

/** What finds matches; nothing for an expression that the browser cannot read, or might never end with. */
export function makeMarker(text: string, isExpression: boolean, isCaseSensitive: boolean): Marker {
  if (text === "" || (isExpression && hasNestedRepetition(text))) return NO_MARKS;
  const expression = compile(isExpression ? text : text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"), isCaseSensitive);
  if (expression === null) return NO_MARKS;
  const repetitions = isExpression ? (text.match(/[*+{]/g) ?? []).length : 0;
  const lengthMax = repetitions > 2 ? LENGTH_MAX_OF_MANY : LENGTH_MAX;
  let isSlow = false;
  return (plain) => {
    if (isSlow) return [];
    const ranges: Range[] = [];
    const began = performance.now();
    for (const match of plain.slice(0, lengthMax).matchAll(expression)) {
      if (match[0] !== "") ranges.push([match.index, match.index + match[0].length]);
      if (ranges.length >= MARKS_MAX) break;
    }
    isSlow = performance.now() - began > SLOW_MS;
    return ranges;
  };
}

function compile(source: string, isCaseSensitive: boolean): RegExp | null {
  // RE2 says flags at the beginning of the expression.
  const flags = /^\(\?([is]+)\)/.exec(source);
  const isInsensitive = !isCaseSensitive || flags?.[1]?.includes("i") === true;
  const isWithNewlines = flags?.[1]?.includes("s") === true;
  try {
    return new RegExp(source.slice(flags?.[0].length ?? 0), `g${isInsensitive ? "i" : ""}${isWithNewlines ? "s" : ""}`);
  } catch {
    return null;
  }
}

/** True if a group that repeats or chooses is itself repeated, as in (a+)+: backtracking may take for ever. */
export function hasNestedRepetition(source: string): boolean {
  const groups: boolean[] = [];
  let isInClass = false;
  for (let i = 0; i < source.length; i++) {
    const letter = source[i];
    if (letter === "\\") i++;
    else if (isInClass) isInClass = letter !== "]";
    else if (letter === "[") isInClass = true;
    else if (letter === "(") groups.push(false);
    else if (letter === ")") {
      const isComplex = groups.pop() === true;
      if (isComplex && /[*+{]/.test(source[i + 1] ?? "")) return true;
      if (isComplex && groups.length > 0) groups[groups.length - 1] = true;
    } else if (letter !== undefined && /[*+{|]/.test(letter) && groups.length > 0) groups[groups.length - 1] = true;
  }
  return false;
}
