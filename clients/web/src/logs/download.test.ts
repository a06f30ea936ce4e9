import { expect, test } from "vitest";
import { downloadAddress } from "./download";

test("the address names the run, and what is wanted of its log", () => {
  const whole = { runPath: "nico/deep learning/a+b", writer: null, hasTimes: false, hasLabels: false };
  expect(downloadAddress(whole)).toBe("/.download/log?run=nico%2Fdeep+learning%2Fa%2Bb");
  expect(downloadAddress({ ...whole, writer: 7, hasTimes: true, hasLabels: true })).toBe(
    "/.download/log?run=nico%2Fdeep+learning%2Fa%2Bb&writer=7&times=1&labels=1",
  );
});
