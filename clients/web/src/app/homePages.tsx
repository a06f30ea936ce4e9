// Lists of projects: of all owners, of one.
import { useParams } from "react-router";
import { useProjects } from "../api/queries";
import { ProjectList } from "../projects/ProjectList";
import { CallError } from "./pages";
import { projectAddress } from "./paths";

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
