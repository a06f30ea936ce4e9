// When a run began and ended, from what is known.
import { isLive } from "../api/runState";
import { type Run, timestampMs } from "../api/types";

export interface RunTimes {
  readonly startMs: number | null;
  /** End; now while the run lives; the last sign of life if it ended without a word. */
  readonly endMs: number | null;
}

export function runTimes(run: Run, nowMs: number): RunTimes {
  const start = run.startTime ?? run.createTime;
  const end = run.endTime ?? (isLive(run.state) ? undefined : (run.heartbeatTime ?? run.updateTime));
  return {
    startMs: start === undefined ? null : timestampMs(start),
    endMs: end !== undefined ? timestampMs(end) : isLive(run.state) ? nowMs : null,
  };
}

/** Time spent computing, all attempts, without the pauses between them; null where the server does not say. */
export function activeMs(run: Run): number | null {
  const active = run.activeDuration;
  return active === undefined ? null : Number(active.seconds) * 1_000 + active.nanos / 1e6;
}
