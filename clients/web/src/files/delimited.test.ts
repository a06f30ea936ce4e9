import { describe, expect, it } from "vitest";
import { COLUMNS_MAX, readDelimited, ROWS_MAX } from "./delimited";

describe("tables of text", () => {
  it("reads quotes, breaks within cells, and every kind of line end", () => {
    const table = readDelimited('\uFEFFa,b\r\n"x, ""y""\nz",2\r\n\n3,\n', ",", false);
    expect(table).toEqual({ head: ["a", "b"], rows: [['x, "y"\nz', "2"], ["3", ""]], isCut: false });
    expect(readDelimited("a\tb\n1\t2", "\t", false).rows).toEqual([["1", "2"]]);
  });

  it("leaves out the last line of a part, which is not whole", () => {
    expect(readDelimited("a,b\n1,2\n3,", ",", true)).toEqual({ head: ["a", "b"], rows: [["1", "2"]], isCut: true });
  });

  it("reads no more than it shows", () => {
    const wide = Array.from({ length: COLUMNS_MAX + 5 }, (_, i) => i).join(",");
    const table = readDelimited(`${wide}\n`.repeat(ROWS_MAX + 50), ",", false);
    expect([table.head.length, table.rows.length, table.isCut]).toEqual([COLUMNS_MAX, ROWS_MAX, true]);
    expect(readDelimited("", ",", false)).toEqual({ head: [], rows: [], isCut: false });
  });
});
