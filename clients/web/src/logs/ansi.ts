// Reads a line as a terminal would: its plain text, and which stretches of it have which style. Pure, and linear in the length.
import type { ConsoleLine } from "../api/console";

/** 0 to 15: a colour of the theme; 16 to 255: of the table of 256; text: #rrggbb. */
export type Colour = number | string;

export interface AnsiStyle {
  readonly foreground: Colour | null;
  readonly background: Colour | null;
  readonly isBold: boolean;
  readonly isDim: boolean;
  readonly isItalic: boolean;
  readonly isUnderlined: boolean;
  readonly isStruck: boolean;
  readonly isInverse: boolean;
}

export interface Span {
  /** Where it begins and ends in the plain text. */
  readonly start: number;
  readonly end: number;
  readonly style: AnsiStyle;
}

export interface ParsedLine {
  /** The text without escape sequences and control characters, tabs excepted. */
  readonly plain: string;
  /** Stretches that are styled, in order; empty for a plain line. */
  readonly spans: readonly Span[];
}

/** Changes of style beyond this number are passed over: a hostile line must not make a page of elements. */
export const SPANS_MAX = 1_000;
const SGR_CODES_MAX = 256;

export const PLAIN: AnsiStyle = {
  foreground: null,
  background: null,
  isBold: false,
  isDim: false,
  isItalic: false,
  isUnderlined: false,
  isStruck: false,
  isInverse: false,
};

// ECMA-48: CSI, then strings (OSC, DCS, SOS, PM, APC) up to BEL or ST, other escapes, and controls alone.
// No part can run across the next escape character, so that the time is linear.
const SEQUENCE =
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  /(?:\x1b\[|\x9b)([0-?]*)([ -/]*)([@-~])|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)|(?:\x1b\[|\x9b)[0-?]*[ -/]*|\x1b[ -/]*[0-~]?|[\x00-\x08\x0a-\x1f\x7f-\x9f]/g;

/** Returns text and styles of a line. */
export function parseAnsi(text: string): ParsedLine {
  if (text.search(SEQUENCE) < 0) return { plain: text, spans: [] };
  const pieces: string[] = [];
  const spans: Span[] = [];
  let style = PLAIN;
  let length = 0;
  let read = 0;
  let spanStart = 0;
  const take = (end: number): void => {
    if (end <= read) return;
    pieces.push(text.slice(read, end));
    length += end - read;
  };
  const endSpan = (): void => {
    if (style !== PLAIN && length > spanStart) spans.push({ start: spanStart, end: length, style });
    spanStart = length;
  };
  for (const match of text.matchAll(SEQUENCE)) {
    take(match.index);
    read = match.index + match[0].length;
    const codes = match[1] ?? "";
    if (match[3] !== "m" || match[2] !== "" || /[<=>?]/.test(codes) || spans.length >= SPANS_MAX) continue;
    const next = applySgr(style, codes);
    if (isSameStyle(next, style)) continue;
    endSpan();
    style = isSameStyle(next, PLAIN) ? PLAIN : next;
  }
  take(text.length);
  endSpan();
  return { plain: pieces.join(""), spans };
}

const parsed = new WeakMap<ConsoleLine, ParsedLine>();

/** The same for a line, kept as long as the line is. */
export function parseLine(line: ConsoleLine): ParsedLine {
  let known = parsed.get(line);
  if (known === undefined) {
    known = parseAnsi(line.text);
    parsed.set(line, known);
  }
  return known;
}

/** The text alone. */
export function stripAnsi(text: string): string {
  return text.replace(SEQUENCE, "");
}

/** The style after "select graphic rendition" with those codes. */
function applySgr(style: AnsiStyle, codes: string): AnsiStyle {
  const parts = codes.split(";", SGR_CODES_MAX);
  let next = style;
  for (let i = 0; i < parts.length; i++) {
    const [code = "", ...fields] = (parts[i] ?? "").split(":");
    const number = code === "" ? 0 : Number(code);
    if (number === 38 || number === 48 || number === 58) {
      const { colour, used } = fields.length > 0 ? { colour: colourOf(fields), used: 0 } : colourBehind(parts, i + 1);
      i += used;
      if (colour !== null && number === 38) next = { ...next, foreground: colour };
      if (colour !== null && number === 48) next = { ...next, background: colour };
    } else if (number === 4 && fields[0] === "0") {
      next = { ...next, isUnderlined: false };
    } else {
      next = applyCode(next, number);
    }
  }
  return next;
}

function applyCode(style: AnsiStyle, code: number): AnsiStyle {
  if (code >= 30 && code <= 37) return { ...style, foreground: code - 30 };
  if (code >= 90 && code <= 97) return { ...style, foreground: code - 90 + 8 };
  if (code >= 40 && code <= 47) return { ...style, background: code - 40 };
  if (code >= 100 && code <= 107) return { ...style, background: code - 100 + 8 };
  switch (code) {
    case 0:
      return PLAIN;
    case 1:
      return { ...style, isBold: true };
    case 2:
      return { ...style, isDim: true };
    case 3:
      return { ...style, isItalic: true };
    case 4:
    case 21:
      return { ...style, isUnderlined: true };
    case 7:
      return { ...style, isInverse: true };
    case 9:
      return { ...style, isStruck: true };
    case 22:
      return { ...style, isBold: false, isDim: false };
    case 23:
      return { ...style, isItalic: false };
    case 24:
      return { ...style, isUnderlined: false };
    case 27:
      return { ...style, isInverse: false };
    case 29:
      return { ...style, isStruck: false };
    case 39:
      return { ...style, foreground: null };
    case 49:
      return { ...style, background: null };
    default:
      // Blinking, hidden text, fonts, frames: what is printed stays to be read.
      return style;
  }
}

/** 5;n or 2;r;g;b from that index on. */
function colourBehind(parts: readonly string[], at: number): { colour: Colour | null; used: number } {
  if (parts[at] === "5") return { colour: colourOf(parts.slice(at, at + 2)), used: 2 };
  if (parts[at] === "2") return { colour: colourOf(parts.slice(at, at + 4)), used: 4 };
  return { colour: null, used: 1 };
}

/** The colour of [5, n], [2, r, g, b] or, with a colour space, [2, space, r, g, b]. */
function colourOf([kind, ...fields]: readonly string[]): Colour | null {
  const numbers = (fields.length >= 4 ? fields.slice(1, 4) : fields).map((field) => (/^\d{1,3}$/.test(field) ? Number(field) : field === "" ? 0 : NaN));
  if (!numbers.every((number) => number <= 255)) return null;
  if (kind === "5" && fields.length >= 1) return numbers[0] ?? null;
  if (kind === "2" && numbers.length >= 3) return toHex(numbers);
  return null;
}

function isSameStyle(a: AnsiStyle, b: AnsiStyle): boolean {
  return a === b || (Object.keys(PLAIN) as (keyof AnsiStyle)[]).every((key) => a[key] === b[key]);
}

/** #rrggbb of three numbers up to 255. */
export function toHex(channels: readonly number[]): string {
  return `#${channels.slice(0, 3).map((one) => one.toString(16).padStart(2, "0")).join("")}`;
}
