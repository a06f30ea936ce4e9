// The theme: light, dark, or as the system says; kept per browser, set on <html data-theme>. First set by public/theme.js.
import { useSyncExternalStore } from "react";

export type ThemeChoice = "light" | "dark" | "system";

const KEY = "runyard.theme";
const listeners = new Set<() => void>();
const system = window.matchMedia("(prefers-color-scheme: dark)");
system.addEventListener("change", apply);

function choice(): ThemeChoice {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system";
  }
}

function apply(): void {
  const wanted = choice();
  const isDark = wanted === "dark" || (wanted === "system" && system.matches);
  document.documentElement.dataset["theme"] = isDark ? "dark" : "light";
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Keeps the choice and applies it. */
export function setTheme(wanted: ThemeChoice): void {
  try {
    if (wanted === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, wanted);
  } catch {
    // Storage refused: the choice holds for this page only.
  }
  apply();
}

/** The user's choice. */
export function useThemeChoice(): ThemeChoice {
  return useSyncExternalStore(subscribe, choice);
}
