import { describe, expect, it } from "vitest";
import type { RunWriter } from "../api/types";
import { labelsOf, LINES_MAX, linesOf } from "./lineChoice";

const CHOICE = { labels: [], isByAttempt: false, isAllAttempts: false };

function writer(number: number, label: string, attempt = 1, rank?: number): RunWriter {
  return { writer: number, label, attempt, ...(rank === undefined ? {} : { identity: { rank } }) } as RunWriter;
}

const WRITERS = [writer(1, "rank10", 1, 10), writer(2, "rank2", 1, 2), writer(3, "eval"), writer(4, "rank2", 2, 2)];

describe("lines of a run's charts", () => {
  it("are the band over all where nothing is chosen, without asking for writers", () => {
    expect(linesOf(CHOICE, [])).toEqual({ lines: [], problems: [] });
  });

  it("are not known before the writers are", () => {
    expect(linesOf({ ...CHOICE, labels: ["rank2"] }, undefined).lines).toBeNull();
  });

  it("are one per label, over all attempts of its process", () => {
    const { lines, problems } = linesOf({ ...CHOICE, labels: ["rank2", "rank99", "eval"] }, WRITERS);
    expect(lines?.map(({ name, selection }) => [name, selection.writers])).toEqual([
      ["rank2", [2, 4]],
      ["eval", [3]],
    ]);
    expect(problems).toEqual(["This run has no writer “rank99”."]);
  });

  it("are one per attempt, with what was superseded", () => {
    const { lines } = linesOf({ ...CHOICE, isByAttempt: true }, WRITERS);
    expect(lines?.map(({ name, selection }) => [name, selection])).toEqual([
      ["attempt 1", { writers: [1, 2, 3], isAllAttempts: true }],
      ["attempt 2", { writers: [4], isAllAttempts: true }],
    ]);
  });

  it("are the whole run with what was superseded", () => {
    const { lines } = linesOf({ ...CHOICE, isAllAttempts: true }, []);
    expect(lines).toEqual([{ key: "", name: "", selection: { writers: [], isAllAttempts: true } }]);
  });

  it("are no more than the charts can bear: the latest attempts", () => {
    const many = Array.from({ length: 50 }, (_, i) => writer(i + 1, "main", i + 1));
    const { lines, problems } = linesOf({ ...CHOICE, isByAttempt: true }, many);
    expect(lines).toHaveLength(LINES_MAX);
    expect(lines?.at(-1)?.name).toBe("attempt 50");
    expect(problems).toEqual(["Of 50 attempts the last 20 are drawn."]);
  });

  it("leave out an attempt of more writers than a request may name, and say so", () => {
    const many = Array.from({ length: 1_001 }, (_, i) => writer(i + 1, `rank${i}`));
    const { lines, problems } = linesOf({ ...CHOICE, isByAttempt: true }, [...many, writer(1_002, "rank0", 2)]);
    expect(lines?.map(({ name }) => name)).toEqual(["attempt 2"]);
    expect(problems).toEqual(["Attempt 1 has more than 1000 writers, too many to be drawn alone."]);
  });

  it("fall back to the band where no named writer is there", () => {
    expect(linesOf({ ...CHOICE, labels: ["x"] }, WRITERS)).toEqual({ lines: [], problems: ["This run has no writer “x”."] });
  });
});

describe("labels of writers", () => {
  it("come by rank, those without one last by name, each once", () => {
    expect(labelsOf(WRITERS)).toEqual(["rank2", "rank10", "eval"]);
  });
});
