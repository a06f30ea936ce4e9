// How a run is or how it ended: state with cause and evidence, exception, stop, receipt, times, attempts.
import { useRunAttempts, useRunEvents } from "../api/lifeQueries";
import { describeError } from "../api/errors";
import { useLiveness, useReceipt } from "../api/queries";
import { attemptText, causeText, isLive, stateName } from "../api/runState";
import { type Run, type RunException, timestampMs } from "../api/types";
import { formatCount } from "../charts/format";
import { CopyButton } from "../ui/controls";
import { Skeleton } from "../ui/feedback";
import { StateBadge } from "../ui/StateIcon";
import { formatDuration, formatTime, useNow } from "../ui/time";
import { Fact } from "./Fact";
import { receiptWords } from "./receipt";
import { activeMs, runTimes } from "./runTimes";
import { StalledFlag } from "./StalledFlag";
import { StopButton, StopProgress } from "./StopButton";

export function StateCard({ run, runAddress }: { run: Run; runAddress: (path: string) => string }) {
  const isRunning = isLive(run.state);
  const now = useNow(1_000);
  const events = useRunEvents(run.path, isRunning);
  const last = events.data?.events.findLast((event) => event.transition !== undefined);
  const { startMs, endMs } = runTimes(run, now);
  const active = activeMs(run);
  return (
    <section className="card facts">
      <dl>
        <Fact name="State">
          <StateBadge state={stateName(run.state)} />
          {last?.transition === undefined ? null : <span className="muted">{causeText(last.transition.cause)}</span>}
          <StopButton run={run} />
          <StalledFlag run={run} />
          <StopProgress run={run} />
          {last === undefined || last.evidence === "" || run.exception !== undefined ? null : <pre className="evidence">{last.evidence}</pre>}
        </Fact>
        {run.exception === undefined ? null : <Exception exception={run.exception} hasWriters={run.writerCount > 1} />}
        {run.exitCode === undefined ? null : <Fact name="Exit code">{run.exitCode}</Fact>}
        {run.preemptionNotice === "" ? null : <Fact name="Preemption">{run.preemptionNotice}</Fact>}
        <Fact name="Records">
          <ReceiptLine run={run} isRunning={isRunning} />
        </Fact>
        <Fact name="Started">{startMs === null ? "–" : formatTime(startMs)}</Fact>
        <Fact name="Ended">{run.endTime === undefined ? (isRunning ? "still running" : "–") : formatTime(timestampMs(run.endTime))}</Fact>
        {active === null ? null : (
          <Fact name="Duration">
            {formatDuration(active)} <span className="muted">computing</span>
          </Fact>
        )}
        <Fact name="Runtime">
          {startMs === null || endMs === null ? "–" : formatDuration(endMs - startMs)} <span className="muted">pauses included</span>
        </Fact>
        {run.fork === undefined ? null : (
          <Fact name="Forked from">
            <a className="link" href={runAddress(run.fork.runPath)}>
              {run.fork.runPath}
            </a>
            <span className="muted">at step {formatCount(run.fork.step)}</span>
          </Fact>
        )}
        {run.attemptCount > 1 ? <Attempts run={run} isRunning={isRunning} /> : null}
      </dl>
    </section>
  );
}

function Exception({ exception, hasWriters }: { exception: RunException; hasWriters: boolean }) {
  const { type, message, traceback, writerLabel } = exception;
  return (
    <Fact name="Exception">
      <strong className="exception">{type}</strong>
      {message === "" ? null : <span>{message}</span>}
      {hasWriters && writerLabel !== "" ? <span className="muted">in {writerLabel}</span> : null}
      {traceback === "" ? null : (
        <div className="traceback">
          <pre className="evidence">{traceback}</pre>
          <CopyButton text={traceback} label="Copy the traceback" />
        </div>
      )}
    </Fact>
  );
}

function Attempts({ run, isRunning }: { run: Run; isRunning: boolean }) {
  const attempts = useRunAttempts(run.path, isRunning);
  if (attempts.data === undefined) return <Fact name="Attempts">{run.attemptCount}</Fact>;
  return (
    <Fact name="Attempts">
      <ol className="attempts">
        {attempts.data.map(({ attempt, kind, state, startTime, endTime, rewoundToStep, hostname }) => (
          <li key={attempt}>
            <span className="muted number">{attempt}</span>
            <span>
              {attemptText(kind)}
              {rewoundToStep === undefined ? "" : ` ${attemptText(kind) === "forked" ? "at" : "to"} step ${formatCount(rewoundToStep)}`}
            </span>
            <StateBadge state={stateName(state)} />
            <span className="muted">
              {[
                startTime === undefined || endTime === undefined ? "" : formatDuration(timestampMs(endTime) - timestampMs(startTime)),
                hostname,
              ]
                .filter((part) => part !== "")
                .join(" · ")}
            </span>
          </li>
        ))}
      </ol>
    </Fact>
  );
}

function ReceiptLine({ run, isRunning }: { run: Run; isRunning: boolean }) {
  const receipt = useReceipt(run.path, isRunning);
  const liveness = useLiveness(run.path, isRunning);
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
