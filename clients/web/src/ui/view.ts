// View state lives in the address: a copied link shows the same, back undoes navigation.
import { useCallback, useEffect, useState } from "react";
import { useSearchParams } from "react-router";

/** Values to set; null or "" removes. */
export type ViewPatch = Record<string, string | null>;

/**
 * The address's parameters and a function that changes some of them. Typing and dragging replace the entry in the
 * history (isStep false); what a user would want to go back from makes a new one.
 */
export function useView(): [URLSearchParams, (patch: ViewPatch, isStep?: boolean) => void] {
  const [params, setParams] = useSearchParams();
  const change = useCallback(
    (patch: ViewPatch, isStep = false) => {
      // The address bar, not the last render: two changes in one moment must both hold.
      const next = new URLSearchParams(window.location.search);
      for (const [key, value] of Object.entries(patch)) {
        if (value === null || value === "") next.delete(key);
        else next.set(key, value);
      }
      setParams(next, { replace: !isStep, preventScrollReset: true });
    },
    [setParams],
  );
  return [params, change];
}

/** A text field's state: what is typed shows at once, and is passed on after a pause. */
export function useDelayed(value: string, pass: (value: string) => void, delayMs = 150): [string, (text: string) => void] {
  const [text, setText] = useState(value);
  const [passed, setPassed] = useState(value);
  // The address changed from outside (back, a link): follow it.
  if (value !== passed) {
    setPassed(value);
    setText(value);
  }
  useEffect(() => {
    if (text === passed) return;
    const timer = setTimeout(() => {
      setPassed(text);
      pass(text);
    }, delayMs);
    return () => {
      clearTimeout(timer);
    };
  }, [text, passed, pass, delayMs]);
  return [text, setText];
}
