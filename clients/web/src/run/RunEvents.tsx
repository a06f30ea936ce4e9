// What happened to a run, newest first: changes of its state with cause and evidence, stops, stalls, alerts, rewinds.
import type { ReactNode } from "react";
import { useRunEvents } from "../api/lifeQueries";
import { causeText, eventText, eventWeight, isLive, stateName } from "../api/runState";
import { type Run, type RunEvent, timestampMs } from "../api/types";
import { SkeletonRows } from "../ui/feedback";
import { BellIcon, DotIcon } from "../ui/icons";
import { StateBadge, StateIcon } from "../ui/StateIcon";
import { formatAgo, formatDuration, formatTime, useNow } from "../ui/time";

interface RunEventsProps {
  readonly run: Run;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

export function RunEvents({ run, renderError }: RunEventsProps) {
  const answer = useRunEvents(run.path, isLive(run.state));
  const now = useNow(5_000);
  if (answer.error !== null && answer.data === undefined) return renderError(answer.error, () => void answer.refetch());
  const events = answer.data?.events;
  return (
    <div className="scroll">
      <div className="column-page">
        {events === undefined ? (
          <SkeletonRows count={3} height={56} />
        ) : events.length === 0 ? (
          <p className="muted">Nothing happened to this run yet.</p>
        ) : (
          <ol className="events">
            {events.toReversed().map((event, i) => (
              <Event
                key={String(event.number)}
                event={event}
                before={lastTransition(events, events.length - 2 - i)}
                hasAttempts={run.attemptCount > 1}
                now={now}
              />
            ))}
          </ol>
        )}
        {answer.data?.isCut === true ? <p className="muted">Only the first {events?.length} events are shown.</p> : null}
      </div>
    </div>
  );
}

/** The last change of state at or before the index. */
function lastTransition(events: readonly RunEvent[], index: number): RunEvent | undefined {
  for (let i = index; i >= 0; i--) if (events[i]?.transition !== undefined) return events[i];
  return undefined;
}

interface EventProps {
  readonly event: RunEvent;
  readonly before: RunEvent | undefined;
  readonly hasAttempts: boolean;
  readonly now: number;
}

function Event({ event, before, hasAttempts, now }: EventProps) {
  const { transition, evidence, actor, recordTime, attempt, kind, level } = event;
  const timeMs = recordTime === undefined ? null : timestampMs(recordTime);
  const beforeMs = transition === undefined || before?.recordTime === undefined ? null : timestampMs(before.recordTime);
  const from = transition === undefined ? "pending" : stateName(transition.from);
  return (
    <li className={`event card ${transition === undefined ? eventWeight(kind, level) : ""}`}>
      <div className="event-line">
        {transition === undefined ? <Happening event={event} /> : <Change event={event} isFirst={before === undefined} />}
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
          timeMs !== null && beforeMs !== null ? `after ${formatDuration(timeMs - beforeMs)} ${from}` : "",
        ]
          .filter((part) => part !== "")
          .join(" · ")}
      </p>
    </li>
  );
}

function Change({ event, isFirst }: { event: RunEvent; isFirst: boolean }) {
  const { transition } = event;
  if (transition === undefined) return null;
  const from = stateName(transition.from);
  return (
    <>
      {isFirst ? null : (
        <>
          <StateIcon state={from} />
          <span className="muted">{from}</span>
          <span className="muted" aria-label="became">
            →
          </span>
        </>
      )}
      <StateBadge state={stateName(transition.to)} />
      <span>{causeText(transition.cause)}</span>
    </>
  );
}

function Happening({ event }: { event: RunEvent }) {
  return (
    <>
      <span className="event-mark">{event.title === "" ? <DotIcon /> : <BellIcon />}</span>
      <span className="event-name">{event.title === "" ? eventText(event.kind) : event.title}</span>
      {event.writer === 0 ? null : <span className="muted">writer {event.writer}</span>}
    </>
  );
}
