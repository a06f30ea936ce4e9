// Pages of a run, put together from the features.
import { Link, Outlet, useNavigate } from "react-router";
import { describeError } from "../api/errors";
import { useRun } from "../api/queries";
import { isLive } from "../api/runState";
import { formatCount } from "../charts/format";
import { FileList } from "../files/FileList";
import { RunLogs } from "../logs/RunLogs";
import { RunEvents } from "../run/RunEvents";
import { RunHeader } from "../run/RunHeader";
import { RunOverview } from "../run/RunOverview";
import { RunWriters } from "../run/RunWriters";
import { RunSystem } from "../system/RunSystem";
import { TabLinks } from "../ui/controls";
import { Empty, SkeletonRows } from "../ui/feedback";
import { CallError } from "./pages";
import { addressOfRun, projectAddress, runAddress, usePlace } from "./paths";
import { useThisRun } from "./thisRun";

export function RunLayout() {
  const { entity, project, run, runPath } = usePlace();
  const answer = useRun(runPath);
  const base = runAddress(entity, project, run);
  const navigate = useNavigate();
  if (answer.error !== null && answer.data === undefined) {
    const failure = describeError(answer.error);
    return failure.isMissing ? (
      <Empty isPage title={failure.reason === "RUN_DELETED" ? "This run was deleted" : `There is no run ${run} in ${entity}/${project}`}>
        <p>{failure.detail}</p>
        {failure.reason === "RUN_DELETED" ? (
          <Link to="/trash" className="link">
            Look in the trash
          </Link>
        ) : null}
      </Empty>
    ) : (
      <CallError error={answer.error} onRetry={() => void answer.refetch()} />
    );
  }
  return (
    <div className="page">
      <RunHeader run={answer.data} onDeleted={() => void navigate(`${projectAddress(entity, project)}/runs`)} />
      <TabLinks
        label="Run"
        tabs={[
          { to: `${base}/overview`, label: "Overview" },
          { to: `${base}/workspace`, label: "Workspace" },
          { to: `${base}/system`, label: "System" },
          { to: `${base}/logs`, label: "Logs" },
          { to: `${base}/files`, label: "Files" },
          { to: `${base}/events`, label: "Events" },
          ...((answer.data?.writerCount ?? 0) > 1
            ? [{ to: `${base}/writers`, label: "Writers", count: formatCount(answer.data?.writerCount ?? 0) }]
            : []),
        ]}
      />
      <Outlet />
    </div>
  );
}

export function RunOverviewPage() {
  const run = useThisRun();
  return run === undefined ? <SkeletonRows count={12} /> : <RunOverview key={run.path} run={run} runAddress={addressOfRun} />;
}

export function RunEventsPage() {
  const run = useThisRun();
  return run === undefined ? (
    <SkeletonRows count={4} height={56} />
  ) : (
    <RunEvents run={run} renderError={(error, retry) => <CallError error={error} onRetry={retry} />} />
  );
}

export function RunWritersPage() {
  const run = useThisRun();
  return run === undefined ? (
    <SkeletonRows count={8} height={30} />
  ) : (
    <RunWriters
      run={run}
      chartsOf={(label) => `${addressOfRun(run.path)}/workspace?${new URLSearchParams({ writer: label }).toString()}`}
      renderError={(error, retry) => <CallError error={error} onRetry={retry} />}
    />
  );
}

export function RunLogsPage() {
  const run = useThisRun();
  return run === undefined ? (
    <SkeletonRows count={24} height={20} />
  ) : (
    <RunLogs key={run.path} run={run} renderError={(error, retry) => <CallError error={error} onRetry={retry} />} />
  );
}

export function RunSystemPage() {
  const run = useThisRun();
  return run === undefined ? (
    <SkeletonRows count={12} />
  ) : (
    <RunSystem key={run.path} run={run} renderError={(error, retry) => <CallError error={error} onRetry={retry} />} />
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
