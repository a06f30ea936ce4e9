// States of runs, causes of their changes, kinds of events, stages of a stop: as words.
import { AlertLevel, AttemptKind, RunEventKind, RunState, StopStage, TransitionCause } from "../gen/runyard/metadata/v1/metadata_pb";

export const STATE_NAMES = [
  "pending",
  "running",
  "finished",
  "failed",
  "crashed",
  "killed",
  "preempted",
  "stopping",
] as const;

export type StateName = (typeof STATE_NAMES)[number];

const NAMES: Record<RunState, StateName> = {
  [RunState.UNSPECIFIED]: "pending",
  [RunState.PENDING]: "pending",
  [RunState.RUNNING]: "running",
  [RunState.FINISHED]: "finished",
  [RunState.FAILED]: "failed",
  [RunState.CRASHED]: "crashed",
  [RunState.KILLED]: "killed",
  [RunState.PREEMPTED]: "preempted",
  [RunState.STOPPING]: "stopping",
};

const CAUSES: Record<TransitionCause, string> = {
  [TransitionCause.UNSPECIFIED]: "cause not given",
  [TransitionCause.STARTED]: "init() started it",
  [TransitionCause.RESUMED]: "init() started a further attempt",
  [TransitionCause.FINISH_CALLED]: "finish() was called",
  [TransitionCause.PROCESS_EXITED]: "the process ended",
  [TransitionCause.UNHANDLED_EXCEPTION]: "an exception that nobody handled",
  [TransitionCause.SIGNAL]: "a signal ended the process",
  [TransitionCause.PROCESS_VANISHED]: "the process vanished without a word",
  [TransitionCause.HEARTBEAT_LOST]: "no heartbeat for the crash timeout",
  [TransitionCause.HEARTBEAT_RETURNED]: "a heartbeat came after all",
  [TransitionCause.USER_REQUEST]: "a user asked for it",
  [TransitionCause.PREEMPTED]: "the machine was taken away",
  [TransitionCause.OUT_OF_MEMORY]: "memory ran out: the system ended the process",
};

const EVENTS: Record<RunEventKind, string> = {
  [RunEventKind.UNSPECIFIED]: "an event that this page does not know",
  [RunEventKind.TRANSITION]: "the state changed",
  [RunEventKind.STOP_REQUESTED]: "asked to stop",
  [RunEventKind.STOP_ACKNOWLEDGED]: "the agent has the request to stop",
  [RunEventKind.STOP_DRAINING]: "the script was told, and winds up",
  [RunEventKind.STOP_FORCED]: "the time to wind up is over",
  [RunEventKind.STALLED]: "stalled: alive, but no new step",
  [RunEventKind.PROGRESSED]: "steps come again",
  [RunEventKind.WRITER_LOST]: "a writer fell silent",
  [RunEventKind.WRITER_RETURNED]: "a silent writer is back",
  [RunEventKind.ALERT]: "alert",
  [RunEventKind.REWOUND]: "rewound",
  [RunEventKind.FORKED]: "forked",
  [RunEventKind.DELETED]: "moved to the trash",
  [RunEventKind.RESTORED]: "taken out of the trash",
  [RunEventKind.PREEMPTION_NOTICED]: "the machine will be taken away",
};

const STAGES: Record<StopStage, string> = {
  [StopStage.UNSPECIFIED]: "",
  [StopStage.REQUESTED]: "waiting for the agent",
  [StopStage.ACKNOWLEDGED]: "the agent has it",
  [StopStage.DRAINING]: "the script winds up",
  [StopStage.TERMINATED]: "SIGTERM was sent",
  [StopStage.KILLED]: "SIGKILL was sent",
};

const ATTEMPTS: Record<AttemptKind, string> = {
  [AttemptKind.UNSPECIFIED]: "started",
  [AttemptKind.START]: "started",
  [AttemptKind.RESUME]: "resumed",
  [AttemptKind.REWIND]: "rewound",
  [AttemptKind.FORK]: "forked",
};

/** The state as a word; one that this page does not know counts as pending. */
export function stateName(state: RunState): StateName {
  return (NAMES as Partial<Record<RunState, StateName>>)[state] ?? "pending";
}

/** Why a run changed state, in words. */
export function causeText(cause: TransitionCause): string {
  return (CAUSES as Partial<Record<TransitionCause, string>>)[cause] ?? "a cause that this page does not know";
}

/** What happened, in words. */
export function eventText(kind: RunEventKind): string {
  return (EVENTS as Partial<Record<RunEventKind, string>>)[kind] ?? EVENTS[RunEventKind.UNSPECIFIED];
}

/** How far a stop has come, in words; empty if none was asked for. */
export function stopText(stage: StopStage): string {
  return (STAGES as Partial<Record<StopStage, string>>)[stage] ?? "";
}

/** How an attempt began, in a word. */
export function attemptText(kind: AttemptKind): string {
  return (ATTEMPTS as Partial<Record<AttemptKind, string>>)[kind] ?? "started";
}

/** Weight of an event for the eye: trouble, worth a look, or a plain fact. */
export function eventWeight(kind: RunEventKind, level: AlertLevel): "bad" | "warn" | "plain" {
  if (kind === RunEventKind.ALERT) {
    if (level === AlertLevel.ERROR) return "bad";
    return level === AlertLevel.WARN ? "warn" : "plain";
  }
  if (kind === RunEventKind.STOP_FORCED || kind === RunEventKind.WRITER_LOST) return "bad";
  if (kind === RunEventKind.STALLED || kind === RunEventKind.PREEMPTION_NOTICED || kind === RunEventKind.DELETED) return "warn";
  return "plain";
}

/** True while more may come from the run: also when crashed, since a late heartbeat reverses it. */
export function isLive(state: RunState): boolean {
  return state === RunState.PENDING || state === RunState.RUNNING || state === RunState.STOPPING;
}
