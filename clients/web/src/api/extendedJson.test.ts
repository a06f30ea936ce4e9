import { describe, expect, it } from "vitest";
import { ExactNumber, flatten, parseExtendedJson, parseExtendedObject, valueText } from "./extendedJson";

function text(json: string): string {
  return valueText(parseExtendedJson(json));
}

describe("extended JSON", () => {
  it.each(["9007199254740993", "-9223372036854775808", "18446744073709551615"])("keeps the integer %s whole", (integer) => {
    const value = parseExtendedJson(integer);
    expect(value).toBeInstanceOf(ExactNumber);
    expect(valueText(value)).toBe(integer);
    expect((value as ExactNumber).isBeyondDouble).toBe(integer !== "-9223372036854775808");
  });

  it.each([
    ['{"$float": "NaN"}', "NaN"],
    ['{"$float": "Infinity"}', "Infinity"],
    ['{"$float": "-Infinity"}', "-Infinity"],
  ])("reads %s as a number", (json, shown) => {
    expect(parseExtendedJson(json)).toBeInstanceOf(ExactNumber);
    expect(text(json)).toBe(shown);
  });

  it("leaves other objects with that key alone", () => {
    expect(parseExtendedJson('{"$float": "NaN", "a": 1}')).not.toBeInstanceOf(ExactNumber);
    expect(parseExtendedJson('{"$float": "7"}')).toEqual({ $float: "7" });
  });

  it("reads what JSON.parse reads", () => {
    const json = ' {"a": [1, -2.5e-3, true, false, null, "x\\n\\u00e9\\\\\\""], "b": {}, "c": [] , "": {"d": {"e": "f"}}} ';
    const plain = JSON.stringify(JSON.parse(json));
    expect(text(json).replaceAll(/([:,]) /g, "$1")).toBe(plain.replace("-0.0025", "-2.5e-3"));
  });

  it.each(["", "{", "[1,]", '{"a" 1}', "nul", "01", "1 2", '{"a": 1,}', '"open', "NaN", "[" + "[".repeat(500)])(
    "refuses %j",
    (json) => {
      expect(() => parseExtendedJson(json)).toThrow(SyntaxError);
    },
  );

  it("takes keys as keys, whatever they are called", () => {
    const object = parseExtendedObject('{"__proto__": 1, "constructor": 2}');
    expect(Object.keys(object)).toEqual(["__proto__", "constructor"]);
    expect(Object.getPrototypeOf(object)).toBe(Object.prototype);
  });

  it("is flattened with dots; empty objects and arrays are leaves", () => {
    const rows = flatten(parseExtendedObject('{"a": {"b": {"c": 1}, "d": {}}, "e": [1, {"f": 2}]}'));
    expect(rows.map(([key, value]) => [key, valueText(value)])).toEqual([
      ["a.b.c", "1"],
      ["a.d", "{}"],
      ["e", '[1, {"f": 2}]'],
    ]);
  });

  it("of an empty text is an empty object", () => {
    expect(parseExtendedObject("")).toEqual({});
  });
});
