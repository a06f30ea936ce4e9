// Pages of a run, put together from the features.
import { useMemo } from "react";
import { Outlet } from "react-router";
import { describeError } from "../api/errors";
import { useRun } from "../api/queries";
import { isLive } from "../api/runState";
import type { Run } from "../api/types";
import { FileList } from "../files/FileList";
import { RunEvents } from "../run/RunEvents";
import { RunHeader } from "../run/RunHeader";
import { RunOverview } from "../run/RunOverview";
import { TabLinks } from "../ui/controls";
import { Empty, SkeletonRows } from "../ui/feedback";
import { type ShownRun, Workspace } from "../workspace/Workspace";
import { CallError } from "./pages";
import { runAddress, usePlace } from "./paths";

export function RunLayout() {
  const { entity, project, run, runPath } = usePlace();
  const answer = useRun(runPath);
  const base = runAddress(entity, project, run);
  if (answer.error !== null && answer.data === undefined) {
    const failure = describeError(answer.error);
    return failure.isMissing ? (
      <Empty title={failure.reason === "RUN_DELETED" ? "This run was deleted" : `There is no run ${run} in ${entity}/${project}`}>
        <p>{failure.detail}</p>
      </Empty>
    ) : (
      <CallError error={answer.error} onRetry={() => void answer.refetch()} />
    );
  }
  return (
    <div className="page">
      <RunHeader run={answer.data} />
      <TabLinks
        label="Run"
        tabs={[
          { to: `${base}/overview`, label: "Overview" },
          { to: `${base}/workspace`, label: "Workspace" },
          { to: `${base}/files`, label: "Files" },
          { to: `${base}/events`, label: "Events" },
        ]}
      />
      <Outlet />
    </div>
  );
}

/** The run of this address; RunLayout has dealt with its absence. */
function useThisRun(): Run | undefined {
  const { runPath } = usePlace();
  return useRun(runPath).data;
}

export function RunOverviewPage() {
  const run = useThisRun();
  return run === undefined ? <SkeletonRows count={12} /> : <RunOverview key={run.path} run={run} />;
}

export function RunEventsPage() {
  const run = useThisRun();
  return run === undefined ? (
    <SkeletonRows count={4} height={56} />
  ) : (
    <RunEvents run={run} renderError={(error, retry) => <CallError error={error} onRetry={retry} />} />
  );
}

export function RunFilesPage() {
  const run = useThisRun();
  return run === undefined ? (
    <SkeletonRows count={6} />
  ) : (
    <FileList
      runPath={run.path}
      isRunning={isLive(run.state)}
      renderError={(error, retry) => <CallError error={error} onRetry={retry} />}
    />
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
