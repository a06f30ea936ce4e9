// The projects of this server, latest activity first.
import { Link } from "react-router";
import { type Project, timestampMs } from "../api/types";
import { formatCount } from "../charts/format";
import { SearchInput } from "../ui/controls";
import { Empty, SkeletonRows } from "../ui/feedback";
import { StateIcon } from "../ui/StateIcon";
import { formatAgo, formatTime, useNow } from "../ui/time";
import { useDelayed, useView } from "../ui/view";
import { FirstRun } from "./FirstRun";
import "./projects.css";

interface ProjectListProps {
  /** Undefined while loading. */
  readonly projects: readonly Project[] | undefined;
  readonly isCut: boolean;
  readonly entity?: string;
  readonly address: (entity: string, project: string) => string;
}

export function ProjectList({ projects, isCut, entity, address }: ProjectListProps) {
  const [view, change] = useView();
  const filter = view.get("q") ?? "";
  const [text, setText] = useDelayed(filter, (q) => {
    change({ q });
  });
  const now = useNow(5_000);
  if (projects?.length === 0) {
    return (
      <Empty isPage title={entity === undefined ? "No projects yet" : `${entity} has no projects yet`}>
        <p>The server is up and waits for a first run. Paste this into a terminal's Python, or a script:</p>
        <FirstRun {...(entity === undefined ? {} : { entity })} />
        <p>This page shows the project as soon as the run starts.</p>
      </Empty>
    );
  }
  const shown = projects?.filter(({ path }) => path.toLowerCase().includes(filter.toLowerCase()));
  return (
    <div className="scroll">
      <div className="column-page">
        <div className="page-head">
          <h1>{entity ?? "Projects"}</h1>
          <SearchInput label="Filter projects" text={text} onText={setText} hasShortcut />
        </div>
        <div className="card">
          <table className="list">
            <thead>
              <tr>
                <th>Project</th>
                <th className="number">Runs</th>
                <th className="number">Live</th>
                <th className="number">Last activity</th>
                <th className="number">Created</th>
              </tr>
            </thead>
            <tbody>
              {shown?.map((project) => (
                <ProjectRow key={project.path} project={project} to={address(project.entity, project.name)} now={now} />
              ))}
            </tbody>
          </table>
          {shown === undefined ? <SkeletonRows count={6} height={36} /> : null}
          {shown?.length === 0 ? <p className="nothing">No project's name contains “{filter}”.</p> : null}
        </div>
        {isCut ? <p className="muted">The 1,000 latest projects are shown; open an owner's page to see all of theirs.</p> : null}
      </div>
    </div>
  );
}

function ProjectRow({ project, to, now }: { project: Project; to: string; now: number }) {
  const activity = project.activityTime ?? project.createTime;
  const live = Number(project.liveRunCount);
  return (
    <tr>
      <td className="cut">
        <Link to={to} className="row-link">
          <span className="muted">{project.entity} / </span>
          <strong>{project.name}</strong>
        </Link>
      </td>
      <td className="number">{formatCount(project.runCount)}</td>
      <td className="number">
        {live > 0 ? (
          <span className="live-count">
            <StateIcon state="running" label={`${live} running`} /> {formatCount(live)}
          </span>
        ) : (
          <span className="muted">–</span>
        )}
      </td>
      <Time timestamp={activity} now={now} />
      <Time timestamp={project.createTime} now={now} />
    </tr>
  );
}

function Time({ timestamp, now }: { timestamp: Project["createTime"]; now: number }) {
  if (timestamp === undefined) return <td className="number muted">–</td>;
  const ms = timestampMs(timestamp);
  return (
    <td className="number" title={formatTime(ms)}>
      {formatAgo(ms, now)}
    </td>
  );
}
