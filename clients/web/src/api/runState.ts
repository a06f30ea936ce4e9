// States of runs and causes of their changes, as words.
import { RunState, TransitionCause } from "../gen/runyard/metadata/v1/metadata_pb";

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
};

/** The state as a word; one that this page does not know counts as pending. */
export function stateName(state: RunState): StateName {
  return (NAMES as Partial<Record<RunState, StateName>>)[state] ?? "pending";
}

/** Why a run changed state, in words. */
export function causeText(cause: TransitionCause): string {
  return (CAUSES as Partial<Record<TransitionCause, string>>)[cause] ?? "a cause that this page does not know";
}

/** True while more may come from the run: also when crashed, since a late heartbeat reverses it. */
export function isLive(state: RunState): boolean {
  return state === RunState.PENDING || state === RunState.RUNNING || state === RunState.STOPPING;
}
