// Whether the server answers: told by every call, and asked for when no call has told it for a while.
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { useSyncExternalStore } from "react";

export interface Connection {
  /** connecting until the first answer; lost once a call did not reach the server. */
  readonly state: "connecting" | "live" | "lost";
  /** When the state began, Unix milliseconds. */
  readonly sinceMs: number;
}

const PROBE_INTERVAL_MS = 5_000;
const LOST_PROBE_INTERVAL_MS = 2_000;

let current: Connection = { state: "connecting", sinceMs: Date.now() };
let lastWordMs = 0;
const listeners = new Set<() => void>();

function enter(state: Connection["state"]): void {
  lastWordMs = Date.now();
  if (current.state === state) return;
  current = { state, sinceMs: lastWordMs };
  for (const listener of listeners) listener();
}

/** True for errors that say that the call did not reach the server: no headers came back, and nobody gave the call up. */
export function isConnectionError(error: unknown): boolean {
  const { code, metadata } = ConnectError.from(error);
  return (code === Code.Unavailable || code === Code.Unknown) && [...metadata].length === 0;
}

/** Learns from each call whether the server answers. */
export const watchConnection: Interceptor = (next) => async (request) => {
  try {
    const answer = await next(request);
    enter("live");
    return answer;
  } catch (error) {
    if (isConnectionError(error)) enter("lost");
    else if (ConnectError.from(error).code !== Code.Canceled) enter("live");
    throw error;
  }
};

async function probe(): Promise<void> {
  if (document.hidden) return;
  const interval = current.state === "lost" ? LOST_PROBE_INTERVAL_MS : PROBE_INTERVAL_MS;
  if (Date.now() - lastWordMs < interval) return;
  try {
    const answer = await fetch("/.well-known/runyard", { cache: "no-store", signal: AbortSignal.timeout(4_000) });
    enter(answer.ok ? "live" : "lost");
  } catch {
    enter("lost");
  }
}

let probeTimer: ReturnType<typeof setInterval> | undefined;

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  probeTimer ??= setInterval(() => void probe(), 1_000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(probeTimer);
      probeTimer = undefined;
    }
  };
}

/** Calls back each time the connection returns; the answer ends that. */
export function onReconnect(callback: () => void): () => void {
  let before = current.state;
  const listener = (): void => {
    if (before === "lost" && current.state === "live") callback();
    before = current.state;
  };
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The connection, as a component sees it. */
export function useConnection(): Connection {
  return useSyncExternalStore(subscribe, () => current);
}
