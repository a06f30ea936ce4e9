// Charts: of a project's runs side by side, and of one run.
import { useMemo } from "react";
import { isLive } from "../api/runState";
import type { Run } from "../api/types";
import { FirstRun } from "../projects/FirstRun";
import { type Line, useRunLines } from "../run/lineChoice";
import { LineLegend, LineMenu } from "../run/LineMenu";
import { RunSelector } from "../runs/RunSelector";
import { useShownRuns } from "../runs/shownRuns";
import { Empty } from "../ui/feedback";
import { MediaPanel } from "../media/MediaPanel";
import { type MediaSlot, type ShownRun, Workspace } from "../workspace/Workspace";
import { CallError } from "./pages";
import { runAddress, usePlace } from "./paths";
import { useThisRun } from "./thisRun";

function renderMedia(slot: MediaSlot) {
  return <MediaPanel {...slot} />;
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
        renderMedia={renderMedia}
      />
    </div>
  );
}

export function RunWorkspacePage() {
  const run = useThisRun();
  return run === undefined ? (
    <Workspace runs={NO_RUNS} totalRunCount={1} isPending emphasis={null} empty={null} renderError={() => null} renderMedia={renderMedia} />
  ) : (
    <RunWorkspace key={run.path} run={run} />
  );
}

const NO_RUNS: readonly ShownRun[] = [];

function RunWorkspace({ run }: { run: Run }) {
  const lines = useRunLines(run);
  const runs = useMemo(() => shownLines(run, lines.lines ?? []), [run, lines.lines]);
  const isRunning = isLive(run.state);
  if (lines.error !== null) return <CallError error={lines.error} onRetry={lines.retry} />;
  return (
    <Workspace
      runs={runs}
      totalRunCount={1}
      isPending={lines.lines === null}
      emphasis={null}
      controls={run.writerCount > 1 ? <LineMenu run={run} lines={lines} /> : null}
      note={<LineLegend lines={lines} />}
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
      renderMedia={renderMedia}
    />
  );
}

/** The run as one, or as the lines that were chosen. */
function shownLines(run: Run, lines: readonly Line[]): ShownRun[] {
  const whole: ShownRun = {
    path: run.path,
    runId: run.runId,
    name: run.displayName,
    isRunning: isLive(run.state),
    definitions: run.metricDefinitions,
  };
  if (lines.length === 0) return [whole];
  return lines.map(({ key, name, selection, style }) => ({ ...whole, name: name === "" ? whole.name : name, part: { key, selection, style } }));
}
