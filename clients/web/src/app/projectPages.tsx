// Pages of a project, put together from the features.
import { useMemo } from "react";
import { Outlet, useParams } from "react-router";
import { useProject, useProjects } from "../api/queries";
import { describeError } from "../api/errors";
import { formatCount } from "../charts/format";
import { ProjectList } from "../projects/ProjectList";
import { ProjectOverview } from "../projects/ProjectOverview";
import { FirstRun } from "../projects/FirstRun";
import { RunSelector } from "../runs/RunSelector";
import { RunsTable } from "../runs/RunsTable";
import { useShownRuns } from "../runs/shownRuns";
import { TabLinks } from "../ui/controls";
import { Empty } from "../ui/feedback";
import { Workspace } from "../workspace/Workspace";
import { CallError } from "./pages";
import { projectAddress, runAddress, usePlace } from "./paths";

export function HomePage() {
  const projects = useProjects();
  if (projects.error !== null && projects.data === undefined) {
    return <CallError error={projects.error} onRetry={() => void projects.refetch()} />;
  }
  return <ProjectList projects={projects.data?.projects} isCut={projects.data?.nextPageToken !== undefined && projects.data.nextPageToken !== ""} address={projectAddress} />;
}

export function EntityPage() {
  const { entity = "" } = useParams();
  const projects = useProjects(entity);
  if (projects.error !== null && projects.data === undefined) {
    return <CallError error={projects.error} onRetry={() => void projects.refetch()} />;
  }
  return <ProjectList entity={entity} projects={projects.data?.projects} isCut={false} address={projectAddress} />;
}

export function ProjectLayout() {
  const { entity, project, projectPath } = usePlace();
  const answer = useProject(projectPath);
  const base = projectAddress(entity, project);
  if (answer.error !== null && answer.data === undefined) {
    return describeError(answer.error).isMissing ? (
      <Empty title={`There is no project ${projectPath}`}>
        <p>The first run makes it:</p>
        <FirstRun entity={entity} project={project} />
      </Empty>
    ) : (
      <CallError error={answer.error} onRetry={() => void answer.refetch()} />
    );
  }
  const count = answer.data?.project?.runCount;
  return (
    <div className="page">
      <TabLinks
        label="Project"
        tabs={[
          { to: `${base}/workspace`, label: "Workspace" },
          { to: `${base}/runs`, label: "Runs", ...(count === undefined ? {} : { count: formatCount(count) }) },
          { to: `${base}/overview`, label: "Overview" },
        ]}
      />
      <Outlet />
    </div>
  );
}

export function ProjectOverviewPage() {
  const { projectPath, entity, project } = usePlace();
  const answer = useProject(projectPath);
  return <ProjectOverview project={answer.data?.project} runsAddress={`${projectAddress(entity, project)}/runs`} />;
}

export function RunsPage() {
  const { entity, project, projectPath } = usePlace();
  return (
    <RunsTable
      projectPath={projectPath}
      runAddress={(runId) => runAddress(entity, project, runId)}
      empty={<FirstRun entity={entity} project={project} />}
      renderError={(error, retry) => <CallError error={error} onRetry={retry} />}
    />
  );
}

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
