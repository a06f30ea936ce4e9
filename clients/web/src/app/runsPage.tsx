// The table of a project's runs.
import { FirstRun } from "../projects/FirstRun";
import { RunsTable } from "../runs/RunsTable";
import { CallError } from "./pages";
import { runAddress, usePlace } from "./paths";

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
