import { describe, expect, it } from "vitest";
import { ExactNumber } from "../api/extendedJson";
import { automaticColumns, compareValues } from "./columns";

const number = (text: string) => new ExactNumber(text);

describe("columns of the runs table", () => {
  it("are chosen by what differs and by loss and accuracy", () => {
    const key = (id: string, isVarying: boolean) => ({ id, count: 3, isVarying });
    const keys = [key("c:same", false), key("c:lr", true), key("s:_step", true), key("s:epoch", true), key("s:train/loss", true)];
    expect(automaticColumns(keys)).toEqual(["c:lr", "c:same", "s:train/loss", "s:epoch"]);
  });

  it("sort numbers by size, then NaN, then texts, then what is missing", () => {
    const values = [undefined, "b10", number("NaN"), number("10"), "b9", number("-2.5"), null, true];
    const sorted = [...values].sort(compareValues);
    expect(sorted.slice(0, 3)).toEqual([number("-2.5"), number("10"), number("NaN")]);
    expect(sorted.filter((value) => typeof value === "string")).toEqual(["b9", "b10"]);
    expect(sorted.at(-1)).toBeUndefined();
  });

  it("sort integers beyond 2^53 exactly", () => {
    expect(compareValues(number("9007199254740993"), number("9007199254740992"))).toBe(1);
    expect(compareValues(number("9007199254740992"), number("9007199254740993"))).toBe(-1);
  });
});
