// What stands where no lines are: why, and the next step.
import { Button } from "../ui/controls";
import { Empty, Snippet } from "../ui/feedback";
import type { LogsAddress } from "./address";

const SNIPPET = `RUNYARD_CONSOLE=auto python train.py`;

interface EmptyLogProps {
  readonly isGrowing: boolean;
  /** Shows lines of all writers and streams; null: that is what is shown. */
  readonly onAll: (() => void) | null;
}

export function EmptyLog({ isGrowing, onAll }: EmptyLogProps) {
  if (onAll !== null) {
    return (
      <Empty title="No line of these writers and streams">
        <Button onClick={onAll}>Show all lines</Button>
      </Empty>
    );
  }
  return isGrowing ? (
    <Empty title="Waits for output">
      <p>What this run prints shows up here within seconds. If it has printed already, its console is not kept:</p>
      <Snippet label="Keep what the script prints (auto is the default, off keeps nothing)" code={SNIPPET} />
    </Empty>
  ) : (
    <Empty title="No output of this run was kept">
      <p>It printed nothing, or its console was not kept: an older client, RUNYARD_CONSOLE=off, or nothing sent yet from where it ran.</p>
      <Snippet label="Keep what the script prints (auto is the default, off keeps nothing)" code={SNIPPET} />
    </Empty>
  );
}

interface EmptySearchProps {
  readonly address: LogsAddress;
  readonly onClear: () => void;
  readonly onAll: (() => void) | null;
}

export function EmptySearch({ address, onClear, onAll }: EmptySearchProps) {
  const what = address.isExpression ? "matches" : "contains";
  return (
    <Empty title={`No line ${what} “${address.search}”`}>
      <p>
        The whole log was searched{address.timeMs === null ? "" : " from the chosen time on"}
        {onAll === null ? "" : ", of the chosen writer and stream only"}
        {address.isCaseSensitive ? "; capital letters count" : ""}.
      </p>
      <div className="log-empty-actions">
        <Button onClick={onClear}>Clear the search</Button>
        {onAll === null ? null : <Button onClick={onAll}>Search all writers and streams</Button>}
      </div>
    </Empty>
  );
}

interface UnreadableProps {
  readonly isExpression: boolean;
  readonly onText: () => void;
  readonly onClear: () => void;
}

/** The server says beneath the field what is wrong. */
export function UnreadableSearch({ isExpression, onText, onClear }: UnreadableProps) {
  return (
    <Empty title={isExpression ? "The regular expression cannot be read" : "The search cannot be read"}>
      <p>Go on typing, or search in another way.</p>
      <div className="log-empty-actions">
        {isExpression ? <Button onClick={onText}>Search it as plain text</Button> : null}
        <Button onClick={onClear}>Clear the search</Button>
      </div>
    </Empty>
  );
}
