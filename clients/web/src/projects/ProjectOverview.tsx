// A project at a glance.
import { Link } from "react-router";
import { type Project, timestampMs } from "../api/types";
import { formatCount } from "../charts/format";
import { Skeleton } from "../ui/feedback";
import { StateIcon } from "../ui/StateIcon";
import { formatAgo, formatTime, useNow } from "../ui/time";
import { FirstRun } from "./FirstRun";
import "./projects.css";

export function ProjectOverview({ project, runsAddress }: { project: Project | undefined; runsAddress: string }) {
  const now = useNow(5_000);
  const time = (timestamp: Project["createTime"]) =>
    timestamp === undefined ? "–" : `${formatTime(timestampMs(timestamp))} (${formatAgo(timestampMs(timestamp), now)})`;
  const rows: [string, React.ReactNode][] =
    project === undefined
      ? ["Path", "Runs", "Live", "Last activity", "Created"].map((name) => [name, <Skeleton key={name} width={160} />])
      : [
          ["Path", <code key="path">{project.path}</code>],
          [
            "Runs",
            <Link key="runs" to={runsAddress} className="link">
              {formatCount(project.runCount)}
            </Link>,
          ],
          [
            "Live",
            project.liveRunCount > 0n ? (
              <span key="live" className="live-count">
                <StateIcon state="running" /> {formatCount(project.liveRunCount)}
              </span>
            ) : (
              "none"
            ),
          ],
          ["Last activity", time(project.activityTime)],
          ["Created", time(project.createTime)],
        ];
  return (
    <div className="scroll">
      <div className="column-page">
        <section className="card facts">
          <dl>
            {rows.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
          {project !== undefined && project.description !== "" ? <p className="description">{project.description}</p> : null}
        </section>
        <h2 className="section-title">Log another run</h2>
        {project === undefined ? <Skeleton width="100%" height={180} /> : <FirstRun entity={project.entity} project={project.name} />}
      </div>
    </div>
  );
}
