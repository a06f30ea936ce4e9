// Name and state of a run, and whether it is alive: above all its tabs.
import { type ReactNode, useState } from "react";
import { useLiveness, useReceipt, useUpdateRun } from "../api/queries";
import { isLive, stateName } from "../api/runState";
import { type Run, timestampMs } from "../api/types";
import { formatCount } from "../charts/format";
import { runColour } from "../charts/colour";
import { CopyButton, IconButton } from "../ui/controls";
import { Skeleton } from "../ui/feedback";
import { PencilIcon } from "../ui/icons";
import { StateBadge } from "../ui/StateIcon";
import { formatAgo, formatDuration, formatTime, useNow } from "../ui/time";
import { DeleteRun } from "./DeleteRun";
import { activeMs, runTimes } from "./runTimes";
import { StalledFlag } from "./StalledFlag";
import { StopButton, StopProgress } from "./StopButton";
import "./run.css";

export function RunHeader({ run, onDeleted }: { run: Run | undefined; onDeleted: () => void }) {
  return (
    <header className="run-head">
      {run === undefined ? (
        <>
          <Skeleton width={180} height={16} />
          <Skeleton width={70} />
        </>
      ) : (
        <>
          <span className="swatch" style={{ background: runColour(run.runId) }} aria-hidden="true" />
          <RunName key={run.displayName} run={run} />
          <StateBadge state={stateName(run.state)} />
          <StopButton run={run} />
          <StalledFlag run={run} />
          <StopProgress run={run} />
          <RunPulse run={run} />
          <span className="spacer" />
          <DeleteRun run={run} onDeleted={onDeleted} />
        </>
      )}
    </header>
  );
}

function RunName({ run }: { run: Run }) {
  const [draft, setDraft] = useState<string | null>(null);
  const update = useUpdateRun(run.path);
  if (draft === null) {
    return (
      <span className="run-name">
        <h1 className="cut" title={run.displayName}>
          {run.displayName}
        </h1>
        <IconButton
          label="Rename"
          onClick={() => {
            setDraft(run.displayName);
          }}
        >
          <PencilIcon size={12} />
        </IconButton>
        <CopyButton text={run.path} label={`Copy the path ${run.path}`} />
      </span>
    );
  }
  const save = (): void => {
    const displayName = draft.trim();
    if (displayName !== "" && displayName !== run.displayName) update.mutate({ displayName });
    setDraft(null);
  };
  return (
    <input
      className="run-rename"
      aria-label="Name of the run"
      value={draft}
      autoFocus
      onChange={(event) => {
        setDraft(event.target.value);
      }}
      onBlur={save}
      onKeyDown={(event) => {
        if (event.key === "Enter") save();
        if (event.key === "Escape") setDraft(null);
      }}
    />
  );
}

/** Is it alive, and how far is it: moves by itself. */
function RunPulse({ run }: { run: Run }) {
  const isRunning = isLive(run.state);
  const now = useNow(1_000);
  const receipt = useReceipt(run.path, isRunning);
  const liveness = useLiveness(run.path, isRunning);
  const { startMs, endMs } = runTimes(run, now);
  const facts: { key: string; text: ReactNode; title: string }[] = [];
  const active = isRunning && run.attemptCount === 1 && startMs !== null && endMs !== null ? endMs - startMs : activeMs(run);
  if (active !== null) {
    facts.push({ key: "for", text: `${isRunning ? "for " : ""}${formatDuration(active)}`, title: "Duration: time spent computing" });
  }
  const step = receipt.data?.lastStep;
  if (step !== undefined) facts.push({ key: "step", text: `step ${formatCount(step)}`, title: "Largest step logged" });
  const beat = liveness.data?.lastBeatTime;
  if (isRunning && beat !== undefined) {
    const beatMs = timestampMs(beat);
    facts.push({ key: "beat", text: `heartbeat ${formatAgo(beatMs, now)}`, title: formatTime(beatMs) });
  }
  const silent = liveness.data?.writersSilent ?? 0;
  if (isRunning && silent > 0) {
    facts.push({ key: "silent", text: `${silent} of ${silent + (liveness.data?.writersBeating ?? 0)} writers silent`, title: "No heartbeat for the crash timeout" });
  }
  const stragglers = liveness.data?.stragglerCount ?? 0;
  if (isRunning && stragglers > 0) facts.push({ key: "lag", text: `${stragglers} lagging`, title: "Writers far behind the median step" });
  if (!isRunning && startMs !== null) facts.push({ key: "start", text: formatAgo(startMs, now), title: formatTime(startMs) });
  return (
    <span className="run-facts">
      {facts.map(({ key, text, title }) => (
        <span key={key} title={title}>
          {text}
        </span>
      ))}
    </span>
  );
}
