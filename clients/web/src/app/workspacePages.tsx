// Charts: of a project's runs side by side, and of one run.
import { useMemo } from "react";
import { isLive } from "../api/runState";
import type { Run } from "../api/types";
import { FirstRun } from "../projects/FirstRun";
import { RunSelector } from "../runs/RunSelector";
import { useShownRuns } from "../runs/shownRuns";
import { Empty } from "../ui/feedback";
import { type ShownRun, Workspace } from "../workspace/Workspace";
import { CallError } from "./pages";
import { runAddress, usePlace } from "./paths";
import { useThisRun } from "./thisRun";

export function ProjectWorkspacePage() {
  const { entity, project, projectPath } = usePlace();
  const shown = useShownRuns(projectPath);
  const { totalCount, isPending } = shown;
  const empty = useMemo(
    () =>
      totalCount === 0 && !isPending ? (
        <Empty title="No runs yet">
          <FirstRun entity={entity} project={project} />
        </Empty>
      ) : (
        <Empty title="No run is shown">
          <p>Open an eye at the left to see its charts.</p>
        </Empty>
      ),
    [totalCount, isPending, entity, project],
  );
  if (shown.error !== null && shown.rows.length === 0) return <CallError error={shown.error} onRetry={shown.retry} />;
  return (
    <div className="side-by-side">
      <RunSelector shown={shown} runAddress={(runId) => runAddress(entity, project, runId)} />
      <Workspace
        runs={shown.runs}
        totalRunCount={totalCount}
        isPending={isPending}
        empty={empty}
        emphasis={shown.emphasis}
        renderError={(error, retry) => <CallError error={error} onRetry={retry} />}
      />
    </div>
  );
}

export function RunWorkspacePage() {
  const run = useThisRun();
  const runs = useMemo((): ShownRun[] => (run === undefined ? [] : [shownRun(run)]), [run]);
  const isRunning = run !== undefined && isLive(run.state);
  return (
    <Workspace
      runs={runs}
      totalRunCount={1}
      isPending={run === undefined}
      emphasis={null}
      empty={
        <Empty title={isRunning ? "Waiting for the first log()" : "This run logged no metrics"}>
          <p>
            {isRunning
              ? "Charts appear here by themselves, within two seconds of the first call."
              : "Numbers that a script gives to run.log() are drawn here."}
          </p>
          <pre className="card sample">{'run.log({"loss": loss, "accuracy": accuracy})'}</pre>
        </Empty>
      }
      renderError={(error, retry) => <CallError error={error} onRetry={retry} />}
    />
  );
}

function shownRun(run: Run): ShownRun {
  return {
    path: run.path,
    runId: run.runId,
    name: run.displayName,
    isRunning: isLive(run.state),
    definitions: run.metricDefinitions,
  };
}
