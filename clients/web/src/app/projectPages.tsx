// Frame and overview of a project.
import { Outlet } from "react-router";
import { describeError } from "../api/errors";
import { useProject } from "../api/queries";
import { formatCount } from "../charts/format";
import { FirstRun } from "../projects/FirstRun";
import { ProjectOverview } from "../projects/ProjectOverview";
import { TabLinks } from "../ui/controls";
import { Empty } from "../ui/feedback";
import { CallError } from "./pages";
import { projectAddress, usePlace } from "./paths";

export function ProjectLayout() {
  const { entity, project, projectPath } = usePlace();
  const answer = useProject(projectPath);
  const base = projectAddress(entity, project);
  if (answer.error !== null && answer.data === undefined) {
    return describeError(answer.error).isMissing ? (
      <Empty isPage title={`There is no project ${projectPath}`}>
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
      <h1 className="visually-hidden">{projectPath}</h1>
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
