// What happened to a run: each change of its state with cause and evidence, newest first.
import type { ReactNode } from "react";
import { useTransitions } from "../api/queries";
import { causeText, isLive, stateName } from "../api/runState";
import { type Run, type RunTransition, timestampMs } from "../api/types";
import { SkeletonRows } from "../ui/feedback";
import { StateBadge, StateIcon } from "../ui/StateIcon";
import { formatAgo, formatDuration, formatTime, useNow } from "../ui/time";

interface RunEventsProps {
  readonly run: Run;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

export function RunEvents({ run, renderError }: RunEventsProps) {
  const answer = useTransitions(run.path, isLive(run.state));
  const now = useNow(5_000);
  if (answer.error !== null && answer.data === undefined) return renderError(answer.error, () => void answer.refetch());
  const transitions = answer.data?.transitions;
  return (
    <div className="scroll">
      <div className="column-page">
        {transitions === undefined ? (
          <SkeletonRows count={3} height={56} />
        ) : transitions.length === 0 ? (
          <p className="muted">Nothing happened to this run yet.</p>
        ) : (
          <ol className="events">
            {transitions.toReversed().map((transition, i) => (
              <Event
                key={transitions.length - i}
                transition={transition}
                before={transitions[transitions.length - 2 - i]}
                hasAttempts={run.attemptCount > 1}
                now={now}
              />
            ))}
          </ol>
        )}
        {answer.data?.isCut === true ? <p className="muted">Only the first {transitions?.length} events are shown.</p> : null}
      </div>
    </div>
  );
}

interface EventProps {
  readonly transition: RunTransition;
  readonly before: RunTransition | undefined;
  readonly hasAttempts: boolean;
  readonly now: number;
}

function Event({ transition, before, hasAttempts, now }: EventProps) {
  const { from, to, cause, evidence, actor, recordTime, attempt } = transition;
  const timeMs = recordTime === undefined ? null : timestampMs(recordTime);
  const beforeMs = before?.recordTime === undefined ? null : timestampMs(before.recordTime);
  return (
    <li className="event card">
      <div className="event-line">
        {before === undefined ? null : (
          <>
            <StateIcon state={stateName(from)} />
            <span className="muted">{stateName(from)}</span>
            <span className="muted" aria-label="became">
              →
            </span>
          </>
        )}
        <StateBadge state={stateName(to)} />
        <span>{causeText(cause)}</span>
        <span className="spacer" />
        {timeMs === null ? null : (
          <time dateTime={new Date(timeMs).toISOString()} title={formatTime(timeMs)} className="muted">
            {formatTime(timeMs)} · {formatAgo(timeMs, now)}
          </time>
        )}
      </div>
      {evidence === "" ? null : <pre className="evidence">{evidence}</pre>}
      <p className="event-foot">
        {[
          actor === "" ? "" : `by ${actor}`,
          hasAttempts ? `attempt ${attempt}` : "",
          timeMs !== null && beforeMs !== null ? `after ${formatDuration(timeMs - beforeMs)} ${stateName(from)}` : "",
        ]
          .filter((part) => part !== "")
          .join(" · ")}
      </p>
    </li>
  );
}
