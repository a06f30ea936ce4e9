// What a run is: where it came from, how it is, what it was given and what came out.
import { useMemo } from "react";
import { describeError } from "../api/errors";
import { type ExtendedObject, parseExtendedObject } from "../api/extendedJson";
import { useSummary } from "../api/queries";
import { isLive } from "../api/runState";
import type { Run } from "../api/types";
import { formatCount } from "../charts/format";
import { CopyButton } from "../ui/controls";
import { ErrorBox } from "../ui/feedback";
import { EditableNotes, EditableTags } from "./editable";
import { Fact } from "./Fact";
import { OriginCard } from "./OriginCard";
import { StateCard } from "./StateCard";
import { ValueTable } from "./ValueTable";

export function RunOverview({ run, runAddress }: { run: Run; runAddress: (path: string) => string }) {
  const isRunning = isLive(run.state);
  const summary = useSummary(run.path, isRunning);
  const config = useMemo(() => parsed(run.configJson), [run.configJson]);
  const summaryJson = summary.data?.summaryJson;
  const summaryValues = useMemo(() => (summaryJson === undefined ? null : parsed(summaryJson)), [summaryJson]);
  const omitted = Number(summary.data?.omittedCount ?? 0n);
  return (
    <div className="scroll">
      <div className="overview">
        <div className="overview-column">
          <StateCard run={run} runAddress={runAddress} />
          <section className="card">
            <h2 className="card-title">Notes</h2>
            <EditableNotes run={run} />
            <h2 className="card-title">Tags</h2>
            <EditableTags run={run} />
          </section>
          <Facts run={run} />
          <OriginCard run={run} />
        </div>
        <div className="overview-column">
          <ValueTable title="Config" values={config} empty="This run has no config: give init(config=…) a dict." param="config" />
        </div>
        <div className="overview-column">
          {summary.error !== null && summaryValues === null ? (
            <ErrorBox {...describeError(summary.error)} onRetry={() => void summary.refetch()} />
          ) : (
            <ValueTable
              title="Summary"
              values={summaryValues}
              empty="No summary yet: it holds the last value of every metric."
              param="summary"
              note={omitted > 0 ? `${formatCount(omitted)} more metrics are not listed` : ""}
            />
          )}
        </div>
      </div>
    </div>
  );
}

/** The object, or the text itself if it cannot be read: never nothing. */
function parsed(json: string): ExtendedObject {
  try {
    return parseExtendedObject(json);
  } catch {
    return { "(not readable as extended JSON)": json };
  }
}

/** What the run is called and belongs to. */
function Facts({ run }: { run: Run }) {
  const facts: [string, string][] = [
    ["Group", run.group],
    ["Job type", run.jobType],
  ];
  return (
    <section className="card facts">
      <dl>
        <Fact name="Run path">
          <span className="copyable">
            <code>{run.path}</code>
            <CopyButton text={run.path} />
          </span>
        </Fact>
        {facts
          .filter(([, value]) => value !== "")
          .map(([name, value]) => (
            <Fact key={name} name={name}>
              {value}
            </Fact>
          ))}
      </dl>
    </section>
  );
}
