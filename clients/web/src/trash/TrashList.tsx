// Deleted runs: until when each can be had back, and what the purge of those that are gone has freed.
import { type ReactNode, useState } from "react";
import { describeError } from "../api/errors";
import { Refused, useDeletedRuns, usePurgeRun, useRestoreRun } from "../api/lifeQueries";
import { stateName } from "../api/runState";
import { type DeletedRun, timestampMs } from "../api/types";
import { formatBytes, formatCount } from "../charts/format";
import { Button } from "../ui/controls";
import { Dialog, DialogActions } from "../ui/dialog";
import { Empty, SkeletonRows } from "../ui/feedback";
import { StateBadge } from "../ui/StateIcon";
import { formatAgo, formatDuration, formatTime, useNow } from "../ui/time";
import "./trash.css";

interface TrashListProps {
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

export function TrashList({ renderError }: TrashListProps) {
  const answer = useDeletedRuns();
  if (answer.error !== null && answer.data === undefined) return renderError(answer.error, () => void answer.refetch());
  const rows = answer.data?.pages.flatMap((page) => page.deletedRuns);
  return (
    <div className="scroll">
      <div className="trash-page">
        <h1>Trash</h1>
        <p className="muted">Deleted runs can be restored until they are purged. A purge frees their space; what it freed stays listed here.</p>
        {rows === undefined ? (
          <SkeletonRows count={5} height={44} />
        ) : rows.length === 0 ? (
          <Empty title="The trash is empty">
            <p>
              Runs are deleted on their page, or with <code>runyard runs delete ENTITY/PROJECT/RUN</code>.
            </p>
          </Empty>
        ) : (
          <ul className="trash-rows">
            {rows.map((run) => (
              <TrashRow key={run.runPath} run={run} />
            ))}
          </ul>
        )}
        {answer.hasNextPage ? (
          <Button disabled={answer.isFetchingNextPage} onClick={() => void answer.fetchNextPage()}>
            Show more
          </Button>
        ) : null}
      </div>
    </div>
  );
}

function TrashRow({ run }: { run: DeletedRun }) {
  const now = useNow(5_000);
  const restore = useRestoreRun();
  const deletedMs = run.deleteTime === undefined ? null : timestampMs(run.deleteTime);
  const isPurged = run.purgeTime !== undefined;
  return (
    <li className="card trash-row">
      <div className="trash-what">
        <strong className="cut" title={run.displayName}>
          {run.displayName === "" ? run.runPath : run.displayName}
        </strong>
        <code className="cut" title={run.runPath}>
          {run.runPath}
        </code>
      </div>
      <StateBadge state={stateName(run.state)} />
      <div className="trash-when">
        <span title={deletedMs === null ? "" : formatTime(deletedMs)}>
          {deletedMs === null ? "deleted" : `deleted ${formatAgo(deletedMs, now)}`}
          {run.deletedBy === "" ? "" : ` by ${run.deletedBy}`}
        </span>
        <Fate run={run} now={now} />
      </div>
      {isPurged ? null : (
        <div className="trash-actions">
          <Button
            className="small"
            disabled={restore.isPending}
            onClick={() => {
              restore.mutate(run.runPath);
            }}
          >
            Restore
          </Button>
          <PurgeButton run={run} />
        </div>
      )}
      {restore.error === null ? null : (
        <p className="dialog-error" role="alert">
          {problem(restore.error)}
        </p>
      )}
    </li>
  );
}

/** What becomes, or became, of it. */
function Fate({ run, now }: { run: DeletedRun; now: number }) {
  const { receipt, purgeTime, purgeDueTime } = run;
  if (purgeTime !== undefined || (receipt?.stores.length ?? 0) > 0) {
    const stores = receipt?.stores ?? [];
    const bytes = stores.reduce((sum, store) => sum + store.bytes, 0n);
    const rows = stores.reduce((sum, store) => sum + store.rows, 0n);
    const objects = stores.reduce((sum, store) => sum + store.objects, 0n);
    const detail = stores.map(
      (store) => `${store.store}: ${formatCount(store.rows)} rows, ${formatCount(store.objects)} objects, ${formatBytes(Number(store.bytes))}`,
    );
    return (
      <span className="muted" title={detail.join("\n")}>
        {receipt?.isComplete === true ? "purged" : "being purged"}: {formatBytes(Number(bytes))} freed, {formatCount(rows)} rows, {formatCount(objects)}{" "}
        objects
        {receipt?.trouble === undefined || receipt.trouble === "" ? "" : ` (held up: ${receipt.trouble})`}
      </span>
    );
  }
  if (purgeDueTime === undefined) return null;
  const dueMs = timestampMs(purgeDueTime);
  return (
    <span className="muted" title={formatTime(dueMs)}>
      {dueMs <= now ? "purge is due" : `purged in ${formatDuration(dueMs - now)}`}
    </span>
  );
}

function PurgeButton({ run }: { run: DeletedRun }) {
  const [isOpen, setOpen] = useState(false);
  const purge = usePurgeRun();
  return (
    <>
      <Button
        className="small danger"
        onClick={() => {
          setOpen(true);
        }}
      >
        Purge now
      </Button>
      <Dialog
        isOpen={isOpen}
        onOpenChange={setOpen}
        title={`Purge ${run.displayName}?`}
        description={<p>All that it logged, and its files, are removed for good. This cannot be undone.</p>}
      >
        <DialogActions error={purge.error === null ? "" : problem(purge.error)}>
          <Button
            onClick={() => {
              setOpen(false);
            }}
          >
            Cancel
          </Button>
          <Button
            className="danger filled"
            disabled={purge.isPending}
            onClick={() => {
              purge.mutate(run.runPath, {
                onSuccess: () => {
                  setOpen(false);
                },
              });
            }}
          >
            Purge for good
          </Button>
        </DialogActions>
      </Dialog>
    </>
  );
}

function problem(error: unknown): string {
  return error instanceof Refused ? error.message : describeError(error).detail;
}
