// What stands where there are no system metrics: why, and the next step.
import type { Run } from "../api/types";
import { Empty, Snippet } from "../ui/feedback";

interface EmptySystemProps {
  readonly run: Run;
  readonly isGrowing: boolean;
  readonly keepDays: number;
  readonly endMs: number | null;
}

const DAY_MS = 86_400_000;
const SYNC = "runyard sync";
const INTERVAL = "RUNYARD_SYSTEM_INTERVAL_S=10 python train.py";

export function EmptySystem({ run, isGrowing, keepDays, endMs }: EmptySystemProps) {
  const sampling = samplingOf(run);
  if (sampling.intervalS === 0) {
    return (
      <Empty title="This run's machine was not sampled">
        <p>It was started with system_interval_s=0, which switches sampling off.</p>
        <Snippet label="Sample every 10 s (the default)" code={INTERVAL} />
      </Empty>
    );
  }
  if (keepDays > 0 && endMs !== null && endMs < Date.now() - keepDays * DAY_MS) {
    return (
      <Empty title="The system metrics of this run are gone">
        <p>This server keeps them for {keepDays} days (system.keep_days); the run ended before that.</p>
      </Empty>
    );
  }
  if (isGrowing) {
    return (
      <Empty title="Waits for the first sample">
        <p>The agent samples CPU, memory, disks, network and GPUs where the run trains; the first values come within seconds.</p>
      </Empty>
    );
  }
  return (
    <Empty title="No system metrics of this run">
      <p>
        {sampling.isOffline
          ? "It ran offline; its samples come with the next sync of its folder, if its client kept any."
          : "It ended before its first sample, its client is an older one, or its samples still lie on the machine that ran it."}
      </p>
      <Snippet label="Send what is left, on that machine" code={SYNC} />
    </Empty>
  );
}

/** What the run's client said of its sampling; absent from older clients. */
function samplingOf(run: Run): { intervalS: number | null; isOffline: boolean } {
  try {
    const extra = JSON.parse(run.host?.extraJson || "{}") as { sampling?: { interval_s?: unknown; is_offline?: unknown } };
    const intervalS = extra.sampling?.interval_s;
    return { intervalS: typeof intervalS === "number" ? intervalS : null, isOffline: extra.sampling?.is_offline === true };
  } catch {
    return { intervalS: null, isOffline: false };
  }
}
