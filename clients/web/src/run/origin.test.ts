import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
// eslint-disable-next-line no-restricted-imports -- a test may make messages
import { HostSchema } from "../gen/runyard/metadata/v1/metadata_pb";
import { commitUrl, type OriginFact, originGroups } from "./origin";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";

function factsOf(extra: object, title: string): Record<string, OriginFact> {
  const host = create(HostSchema, { extraJson: JSON.stringify(extra) });
  const group = originGroups(host).find((one) => one.title === title);
  return Object.fromEntries((group?.facts ?? []).map((fact) => [fact.name, fact]));
}

describe("where a run came from", () => {
  it("has no group for what is not known, and none for what cannot be read", () => {
    expect(originGroups(undefined)).toEqual([]);
    expect(originGroups(create(HostSchema, {}))).toEqual([]);
    expect(originGroups(create(HostSchema, { extraJson: "{" }))).toEqual([]);
    expect(originGroups(create(HostSchema, { hostname: "h" })).map(({ title }) => title)).toEqual(["Machine"]);
  });

  it("links the commit and the diff of a dirty repository", () => {
    const git = {
      remote: "https://github.com/o/r.git", branch: "main", commit: COMMIT, is_dirty: true, changed_count: 1,
      diff: { file: "diff.patch", size_bytes: 2048 }, untracked_count: 2, untracked: ["a", "b/"],
    };
    const facts = factsOf({ git }, "Git");
    expect(facts["Commit"]).toMatchObject({ text: "0123456789", url: `https://github.com/o/r/commit/${COMMIT}`, aside: "on main" });
    expect(facts["Changes"]?.text).toBe("1 file differs from the commit");
    expect(facts["Diff"]).toEqual({ name: "Diff", text: "diff.patch", file: "diff.patch", aside: "2 KiB" });
    expect(facts["Untracked"]).toMatchObject({ text: "2 not in git", lines: ["a", "b/"] });
    expect(facts["Not known"]).toBeUndefined();
  });

  it("says why a diff is not kept, and what git would not tell", () => {
    const facts = factsOf({ git: { branch: "main", is_dirty: true, changed_count: 3, diff: { problem: "larger than 10 bytes" }, problem: "no commit" } }, "Git");
    expect(facts["Changes"]?.text).toBe("3 files differ from the commit");
    expect(facts["Diff"]).toMatchObject({ text: "larger than 10 bytes", isProblem: true });
    expect(facts["Branch"]?.text).toBe("main");
    expect(facts["Not known"]).toMatchObject({ text: "no commit", isProblem: true });
  });

  it("counts GPUs by kind", () => {
    const gpu = { names: ["H100", "H100", "L4"], memory_bytes: [85899345920, 85899345920, 0], cuda_version: "12.4", driver_version: "550" };
    const facts = factsOf({ gpu }, "Machine");
    expect(facts["GPUs"]?.text).toBe("2 × H100 (80 GiB), 1 × L4");
    expect(facts["CUDA"]).toMatchObject({ text: "12.4", aside: "driver 550" });
  });

  it("keeps the environment closed and quotes arguments as a shell takes them", () => {
    const extra = { environment: { RANK: "0", OMP_NUM_THREADS: "3" }, arguments: ["--name", "two words"] };
    expect(factsOf(extra, "Environment")["Variables"]).toMatchObject({ text: "2", lines: ["RANK=0", "OMP_NUM_THREADS=3"] });
    expect(factsOf(extra, "Program")["Arguments"]?.text).toBe("--name 'two words'");
  });

  it("makes links of commits for hosts that it knows", () => {
    expect(commitUrl("git@gitlab.example.org:group/sub/r.git", "c")).toBe("https://gitlab.example.org/group/sub/r/-/commit/c");
    expect(commitUrl("ssh://github.com:22/o/r", "c")).toBe("https://github.com/o/r/commit/c");
    expect(commitUrl("https://bitbucket.org/o/r", "c")).toBe("https://bitbucket.org/o/r/commits/c");
    expect(commitUrl("https://git.example.org/o/r", "c")).toBe("");
    expect(commitUrl("/srv/r.git", "c")).toBe("");
    expect(commitUrl("javascript://github.com/%0aalert(1)", "c")).toBe("");
    expect(commitUrl("", "c")).toBe("");
  });
});
