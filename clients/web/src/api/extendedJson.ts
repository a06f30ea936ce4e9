// Extended JSON, as configs and summaries are written: integers exact to 64 bits, {"$float": "NaN"} for what JSON cannot say.
// JSON.parse would round 9007199254740993; numbers therefore keep their text.

/** A number with the text it was written as. */
export class ExactNumber {
  readonly value: number;
  readonly text: string;

  constructor(text: string) {
    this.text = text;
    this.value = Number(text);
  }

  /** True if the text is an integer that a double cannot hold. */
  get isBeyondDouble(): boolean {
    return /^-?\d+$/.test(this.text) && !Number.isSafeInteger(this.value) && BigInt(this.text) !== BigInt(this.value);
  }
}

export type ExtendedValue = null | boolean | string | ExactNumber | ExtendedValue[] | ExtendedObject;
export interface ExtendedObject {
  [key: string]: ExtendedValue;
}

const FLOATS = new Set(["NaN", "Infinity", "-Infinity"]);
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const SPACE = /[ \t\n\r]*/y;
const DEPTH_MAX = 200;

/** Parses a text; throws SyntaxError with the position if it is not extended JSON. */
export function parseExtendedJson(text: string): ExtendedValue {
  const parser = new Parser(text);
  return parser.whole();
}

/** Parses an object; an empty text is an empty object. */
export function parseExtendedObject(text: string): ExtendedObject {
  if (text === "") return {};
  const value = parseExtendedJson(text);
  if (!isObject(value)) throw new SyntaxError("expected a JSON object");
  return value;
}

/** True for objects, not for arrays, numbers or null. */
export function isObject(value: ExtendedValue): value is ExtendedObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof ExactNumber);
}

/** Leaves by dotted key, in the order written. Empty objects and all arrays are leaves. */
export function flatten(object: ExtendedObject, prefix = ""): [string, ExtendedValue][] {
  const rows: [string, ExtendedValue][] = [];
  for (const [key, value] of Object.entries(object)) {
    const path = prefix === "" ? key : `${prefix}.${key}`;
    if (isObject(value) && Object.keys(value).length > 0) rows.push(...flatten(value, path));
    else rows.push([path, value]);
  }
  return rows;
}

/** The value as compact text: strings bare at the top, numbers as written. */
export function valueText(value: ExtendedValue): string {
  return typeof value === "string" ? value : nestedText(value);
}

function nestedText(value: ExtendedValue): string {
  if (value instanceof ExactNumber) return value.text;
  if (Array.isArray(value)) return `[${value.map(nestedText).join(", ")}]`;
  if (isObject(value)) {
    return `{${Object.entries(value)
      .map(([key, item]) => `${JSON.stringify(key)}: ${nestedText(item)}`)
      .join(", ")}}`;
  }
  return JSON.stringify(value);
}

class Parser {
  private at = 0;
  private depth = 0;

  constructor(private readonly text: string) {}

  whole(): ExtendedValue {
    const value = this.value();
    this.space();
    if (this.at !== this.text.length) throw this.error("end of text");
    return value;
  }

  private value(): ExtendedValue {
    this.space();
    switch (this.text[this.at]) {
      case "{":
        return this.nested(() => this.object());
      case "[":
        return this.nested(() => this.array());
      case '"':
        return this.string();
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  private nested<T>(read: () => T): T {
    if (++this.depth > DEPTH_MAX) throw this.error(`at most ${String(DEPTH_MAX)} levels`);
    const value = read();
    this.depth--;
    return value;
  }

  private object(): ExtendedObject | ExactNumber {
    const object: ExtendedObject = {};
    this.at++;
    this.space();
    if (this.skip("}")) return object;
    for (;;) {
      this.space();
      const key = this.string();
      this.space();
      if (!this.skip(":")) throw this.error('":"');
      const value = this.value();
      // A key such as __proto__ must become a key, nothing else.
      Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
      this.space();
      if (this.skip("}")) return asFloat(object) ?? object;
      if (!this.skip(",")) throw this.error('"," or "}"');
    }
  }

  private array(): ExtendedValue[] {
    const items: ExtendedValue[] = [];
    this.at++;
    this.space();
    if (this.skip("]")) return items;
    for (;;) {
      items.push(this.value());
      this.space();
      if (this.skip("]")) return items;
      if (!this.skip(",")) throw this.error('"," or "]"');
    }
  }

  private string(): string {
    if (this.text[this.at] !== '"') throw this.error("a string");
    let end = this.at + 1;
    while (end < this.text.length && this.text[end] !== '"') end += this.text[end] === "\\" ? 2 : 1;
    const quoted = this.text.slice(this.at, end + 1);
    this.at = end + 1;
    return JSON.parse(quoted) as string;
  }

  private number(): ExactNumber {
    NUMBER.lastIndex = this.at;
    const found = NUMBER.exec(this.text);
    if (found === null) throw this.error("a value");
    this.at = NUMBER.lastIndex;
    return new ExactNumber(found[0]);
  }

  private word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.at)) throw this.error(word);
    this.at += word.length;
    return value;
  }

  private space(): void {
    SPACE.lastIndex = this.at;
    SPACE.exec(this.text);
    this.at = SPACE.lastIndex;
  }

  private skip(mark: string): boolean {
    if (this.text[this.at] !== mark) return false;
    this.at++;
    return true;
  }

  private error(expected: string): SyntaxError {
    return new SyntaxError(`extended JSON: expected ${expected} at character ${String(this.at)}`);
  }
}

function asFloat(object: ExtendedObject): ExactNumber | null {
  const float = object["$float"];
  if (typeof float !== "string" || !FLOATS.has(float) || Object.keys(object).length !== 1) return null;
  return new ExactNumber(float);
}
