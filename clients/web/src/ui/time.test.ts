import { expect, it } from "vitest";
import { formatAgo, formatDuration } from "./time";

it.each([
  [0, "0 ms"],
  [46, "46 ms"],
  [1_234, "1.2 s"],
  [12_900, "12 s"],
  [192_000, "3 m 12 s"],
  [3_725_000, "1 h 02 m"],
  [277_200_000, "3 d 05 h"],
  [-5, "0 ms"],
])("a duration of %d ms is %s", (durationMs, text) => {
  expect(formatDuration(durationMs)).toBe(text);
});

it("a time is told by its distance, one ahead is now", () => {
  const now = 1e12;
  const ago = (seconds: number) => formatAgo(now - seconds * 1000, now);
  expect([-90, 3, 12, 200, 7300, 100_000, 500_000].map(ago)).toEqual([
    "just now",
    "just now",
    "12 s ago",
    "3 min ago",
    "2 h ago",
    "yesterday",
    "5 days ago",
  ]);
});
