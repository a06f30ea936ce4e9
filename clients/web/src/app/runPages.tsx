// Pages of a run, put together from the features.
import { Outlet } from "react-router";
import { describeError } from "../api/errors";
import { useRun } from "../api/queries";
import { isLive } from "../api/runState";
import { FileList } from "../files/FileList";
import { RunEvents } from "../run/RunEvents";
import { RunHeader } from "../run/RunHeader";
import { RunOverview } from "../run/RunOverview";
import { TabLinks } from "../ui/controls";
import { Empty, SkeletonRows } from "../ui/feedback";
import { CallError } from "./pages";
import { runAddress, usePlace } from "./paths";
import { useThisRun } from "./thisRun";

export function RunLayout() {
  const { entity, project, run, runPath } = usePlace();
  const answer = useRun(runPath);
  const base = runAddress(entity, project, run);
  if (answer.error !== null && answer.data === undefined) {
    const failure = describeError(answer.error);
    return failure.isMissing ? (
      <Empty isPage title={failure.reason === "RUN_DELETED" ? "This run was deleted" : `There is no run ${run} in ${entity}/${project}`}>
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
