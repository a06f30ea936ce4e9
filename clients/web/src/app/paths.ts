// What the address says: owner, project, run; and the addresses of pages.
import { useParams } from "react-router";

export interface Place {
  readonly entity: string;
  readonly project: string;
  readonly run: string;
  /** entity/project, as the services name it. */
  readonly projectPath: string;
  /** entity/project/run, as the services name it. */
  readonly runPath: string;
}

export function usePlace(): Place {
  const { entity = "", project = "", run = "" } = useParams();
  const projectPath = `${entity}/${project}`;
  return { entity, project, run, projectPath, runPath: `${projectPath}/${run}` };
}

export function projectAddress(entity: string, project: string): string {
  return `/${encodeURIComponent(entity)}/${encodeURIComponent(project)}`;
}

export function runAddress(entity: string, project: string, runId: string): string {
  return `${projectAddress(entity, project)}/runs/${encodeURIComponent(runId)}`;
}

/** Address of the run of a path entity/project/run_id. */
export function addressOfRun(path: string): string {
  const [entity = "", project = "", run = ""] = path.split("/");
  return runAddress(entity, project, run);
}
