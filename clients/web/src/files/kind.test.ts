import { describe, expect, it } from "vitest";
import { kindOf, textOf } from "./kind";

describe("kinds of files", () => {
  it.each([
    ["a.png", "image/png", "image"],
    ["a.svg", "", "image"],
    ["a.json", "application/json", "json"],
    ["a/b.tsv", "text/tab-separated-values", "table"],
    ["a.csv", "application/vnd.ms-excel", "table"],
    ["report.html", "text/html; charset=utf-8", "html"],
    ["a.md", "text/plain", "text"],
    ["LICENSE", "application/octet-stream", "text"],
    ["model.PT", "application/octet-stream", "binary"],
    ["talk.wav", "audio/x-wav", "audio"],
    ["film.mp4", "video/mp4", "video"],
    ["paper.pdf", "application/pdf", "pdf"],
  ])("%s of %s is shown as %s", (name, contentType, kind) => {
    expect(kindOf({ name, contentType })).toBe(kind);
  });

  it("tells text from other bytes, also where the end cuts a character", () => {
    const bytes = new TextEncoder().encode("aé");
    expect(textOf(bytes)).toBe("aé");
    expect(textOf(bytes.slice(0, 2))).toBe("a");
    expect(textOf(new Uint8Array([97, 0]))).toBeNull();
    expect(textOf(new Uint8Array([97, 255, 97]))).toBeNull();
  });
});
