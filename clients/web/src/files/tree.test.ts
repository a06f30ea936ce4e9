import { describe, expect, it } from "vitest";
import type { RunFile } from "../api/types";
import { findFiles, listFolder, stepsTo } from "./tree";

function file(name: string, size: number, seconds = 0): RunFile {
  const time = seconds === 0 ? {} : { updateTime: { seconds: BigInt(seconds), nanos: 5e8 } };
  return { name, sizeBytes: BigInt(size), ...time } as RunFile;
}

const FILES = [file("b.txt", 1), file("a10.txt", 2), file("a9.txt", 3), file("d/x", 4, 7), file("d/e/y", 5, 9), file("dd/z", 6)];

describe("folders of files", () => {
  it("shows what lies directly in a folder, numbers in their order", () => {
    const top = listFolder(FILES, "");
    expect(top.files.map(({ label }) => label)).toEqual(["a9.txt", "a10.txt", "b.txt"]);
    expect(top.folders).toEqual([
      { label: "d", path: "d/", count: 2, bytes: 9n, newestMs: 9500 },
      { label: "dd", path: "dd/", count: 1, bytes: 6n, newestMs: null },
    ]);
    const deep = listFolder(FILES, "d/");
    expect([deep.files.map(({ label }) => label), deep.folders.map(({ path }) => path)]).toEqual([["x"], ["d/e/"]]);
    expect(listFolder(FILES, "none/")).toEqual({ folders: [], files: [] });
  });

  it("finds by any part of the name beneath the folder, not in the folder's own name", () => {
    expect(findFiles(FILES, "", "E/Y").map(({ label }) => label)).toEqual(["d/e/y"]);
    expect(findFiles(FILES, "d/", "d")).toEqual([]);
  });

  it("names the steps to a file", () => {
    expect(stepsTo("d/e/y")).toEqual([
      { label: "d", path: "d/" },
      { label: "e", path: "d/e/" },
      { label: "y", path: "d/e/y/" },
    ]);
    expect(stepsTo("")).toEqual([]);
  });
});
