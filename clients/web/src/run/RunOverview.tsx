// What a run is: where it came from, how it is, what it was given and what came out.
import { type ReactNode, useMemo } from "react";
import { type ExtendedObject, parseExtendedObject } from "../api/extendedJson";
import { useLiveness, useReceipt, useSummary, useTransitions } from "../api/queries";
import { describeError } from "../api/errors";
import { causeText, isLive, stateName } from "../api/runState";
import { type Run, timestampMs } from "../api/types";
import { formatCount } from "../charts/format";
import { CopyButton } from "../ui/controls";
import { ErrorBox, Skeleton } from "../ui/feedback";
import { StateBadge } from "../ui/StateIcon";
import { formatDuration, formatTime, useNow } from "../ui/time";
import { EditableNotes, EditableTags } from "./editable";
import { receiptWords } from "./receipt";
import { runTimes } from "./runTimes";
import { ValueTable } from "./ValueTable";

export function RunOverview({ run }: { run: Run }) {
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
          <StateCard run={run} />
          <section className="card">
            <h2 className="card-title">Notes</h2>
            <EditableNotes run={run} />
            <h2 className="card-title">Tags</h2>
            <EditableTags run={run} />
          </section>
          <Facts run={run} />
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

function StateCard({ run }: { run: Run }) {
  const isRunning = isLive(run.state);
  const now = useNow(1_000);
  const transitions = useTransitions(run.path, isRunning);
  const last = transitions.data?.transitions.at(-1);
  const { startMs, endMs } = runTimes(run, now);
  return (
    <section className="card facts">
      <dl>
        <Fact name="State">
          <StateBadge state={stateName(run.state)} />
          {last === undefined ? null : <span className="muted">{causeText(last.cause)}</span>}
          {last === undefined || last.evidence === "" ? null : <pre className="evidence">{last.evidence}</pre>}
        </Fact>
        {run.exitCode === undefined ? null : <Fact name="Exit code">{run.exitCode}</Fact>}
        <Fact name="Records">
          <ReceiptLine path={run.path} isRunning={isRunning} />
        </Fact>
        <Fact name="Started">{startMs === null ? "–" : formatTime(startMs)}</Fact>
        <Fact name="Ended">{run.endTime === undefined ? (isRunning ? "still running" : "–") : formatTime(timestampMs(run.endTime))}</Fact>
        <Fact name="Duration">{startMs === null || endMs === null ? "–" : formatDuration(endMs - startMs)}</Fact>
        {run.attemptCount > 1 ? <Fact name="Attempts">{run.attemptCount}</Fact> : null}
        {run.writerCount > 1 ? <Fact name="Writers">{run.writerCount}</Fact> : null}
      </dl>
    </section>
  );
}

function ReceiptLine({ path, isRunning }: { path: string; isRunning: boolean }) {
  const receipt = useReceipt(path, isRunning);
  const liveness = useLiveness(path, isRunning);
  if (receipt.data === undefined) {
    return receipt.error === null ? <Skeleton width={180} /> : <span className="muted">not known: {describeError(receipt.error).title}</span>;
  }
  const words = receiptWords(receipt.data, isRunning ? (liveness.data ?? null) : null);
  return (
    <>
      <span className={`receipt ${words.kind}`}>{words.text}</span>
      {words.details.length > 0 ? (
        <ul className="receipt-details">
          {words.details.map((detail) => (
            <li key={detail}>{detail}</li>
          ))}
        </ul>
      ) : null}
    </>
  );
}

function Facts({ run }: { run: Run }) {
  const host = run.host;
  const facts: [string, string, boolean][] = [
    ["Run path", run.path, true],
    ["Author", host?.username ?? "", false],
    ["Command", host?.command ?? "", true],
    ["Folder", host?.workingDirectory ?? "", true],
    ["Host", host?.hostname ?? "", false],
    ["OS", host?.os ?? "", false],
    ["Python", [host?.pythonVersion ?? "", host?.pythonExecutable ?? ""].filter((part) => part !== "").join("  "), false],
    ["CPUs", host?.cpuCount === undefined || host.cpuCount === 0 ? "" : String(host.cpuCount), false],
    ["Process", host?.pid === undefined || host.pid === 0n ? "" : String(host.pid), false],
    ["Client", host?.clientVersion ?? "", false],
    ["Group", run.group, false],
    ["Job type", run.jobType, false],
  ];
  return (
    <section className="card facts">
      <dl>
        {facts
          .filter(([, value]) => value !== "")
          .map(([name, value, isCode]) => (
            <Fact key={name} name={name}>
              {isCode ? (
                <span className="copyable">
                  <code>{value}</code>
                  <CopyButton text={value} />
                </span>
              ) : (
                value
              )}
            </Fact>
          ))}
      </dl>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
