import { describe, expect, it } from "vitest";
import { ConsoleStream } from "../api/console";
import { parseAnsi, parseLine, PLAIN, SPANS_MAX, stripAnsi } from "./ansi";
import { contrast, hexOf, paintOf } from "./paint";

const ESC = "\x1b";

/** Text of each styled stretch, with the style. */
function styled(text: string) {
  const { plain, spans } = parseAnsi(text);
  return spans.map(({ start, end, style }) => [plain.slice(start, end), style] as const);
}

describe("parseAnsi", () => {
  it("leaves a plain line as it is", () => {
    expect(parseAnsi("step 1\tloss 0.5 [31m")).toEqual({ plain: "step 1\tloss 0.5 [31m", spans: [] });
  });

  it("reads the 16 colours, bold and resets", () => {
    expect(styled(`a${ESC}[1;31mb${ESC}[39mc${ESC}[md${ESC}[97;44me`)).toEqual([
      ["b", { ...PLAIN, isBold: true, foreground: 1 }],
      ["c", { ...PLAIN, isBold: true }],
      ["e", { ...PLAIN, foreground: 15, background: 4 }],
    ]);
  });

  it("reads 256 and true colours, with semicolons and with colons, with and without a colour space", () => {
    const colours = ["38;5;196", "38:5:196", "38;2;1;2;3", "38:2:1:2:3", "38:2::1:2:3"].map((code) => styled(`${ESC}[${code}mx`)[0]?.[1].foreground);
    expect(colours).toEqual([196, 196, "#010203", "#010203", "#010203"]);
  });

  it("goes on behind a colour", () => {
    expect(styled(`${ESC}[38;5;1;48;2;0;0;0;4mx`)[0]?.[1]).toEqual({ ...PLAIN, foreground: 1, background: "#000000", isUnderlined: true });
  });

  it.each([
    ["a link", `${ESC}]8;;http://a.b\x07text${ESC}]8;;${ESC}\\`, "text"],
    ["movements of the cursor", `${ESC}[2K${ESC}[10;20Htext${ESC}[?25l`, "text"],
    ["other escapes", `${ESC}(Btext${ESC}7${ESC}=`, "text"],
    ["controls and the upper controls", `t\x00e\x08x\x7ft\x9b31m`, "text"],
    ["a sequence without an end", `text${ESC}[38;5`, "text"],
    ["an escape alone at the end", `text${ESC}`, "text"],
    ["a string without an end: its text stays", `${ESC}]0;title`, "0;title"],
    ["private sequences that end in m", `${ESC}[>4;2mtext${ESC}[?4m`, "text"],
  ])("takes out %s", (_, text, plain) => {
    expect(parseAnsi(text)).toEqual({ plain, spans: [] });
    expect(stripAnsi(text)).toBe(plain);
  });

  it("passes over colours that cannot be", () => {
    for (const codes of ["38;5;999", "38;2;1;2", "38", "38;7;1", "48;5;-1", "999999999999", ";;;", "38;5;"]) {
      expect(styled(`${ESC}[${codes}mx`).every(([, style]) => typeof style.foreground !== "string" || /^#[0-9a-f]{6}$/.test(style.foreground))).toBe(true);
    }
    expect(styled(`${ESC}[38;5;999mx`)).toEqual([]);
  });

  it("is linear in hostile lines, and bounds the stretches", () => {
    const began = performance.now();
    for (const part of [`${ESC}[`, `${ESC}]`, `${ESC}[1;`, `${ESC}P0`, `${ESC}[31m${ESC}[32mx`, `${ESC}[${"1;".repeat(50)}m`, "\x9b", `${ESC}[:::`]) {
      const { spans } = parseAnsi(part.repeat(Math.ceil(65_536 / part.length)));
      expect(spans.length).toBeLessThanOrEqual(SPANS_MAX + 1);
    }
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  it("loses no text whatever stands between", () => {
    const text = `a${ESC}[31mb${ESC}[0mc${ESC}]x\x07d`;
    expect(parseAnsi(text).plain).toBe("abcd");
  });

  it("reads a line once", () => {
    const line = { key: "1:1", writer: 1, line: 1, timeMs: 0, stream: ConsoleStream.STDOUT, text: "x", isMatch: true };
    expect(parseLine(line)).toBe(parseLine(line));
  });
});

describe("paintOf", () => {
  it("leaves the 16 to the theme, where no background is given", () => {
    expect(paintOf({ ...PLAIN, foreground: 1, isBold: true })).toEqual({ className: "ansi-bold ansi-1", style: undefined });
  });

  it("lets the style sheet adapt other colours", () => {
    expect(paintOf({ ...PLAIN, foreground: 21 })).toEqual({ className: "ansi-adapted", style: { "--ansi": "#0000ff" } });
  });

  it("gives a text that can be read on every background", () => {
    for (let background = 0; background < 256; background++) {
      for (const foreground of [null, 0, 1, 7, 15, 196, "#888888"]) {
        for (const isInverse of [false, true]) {
          const { style } = paintOf({ ...PLAIN, foreground, background, isInverse });
          expect(contrast(style?.["color"] ?? "", style?.["backgroundColor"] ?? "")).toBeGreaterThanOrEqual(4.5);
        }
      }
    }
  });

  it("knows the table of 256", () => {
    expect([16, 196, 231, 232, 255].map(hexOf)).toEqual(["#000000", "#ff0000", "#ffffff", "#080808", "#eeeeee"]);
  });
});
