// Deletes a run: asks first, moves it to the trash, and says until when it can be had back.
import { useState } from "react";
import { describeError } from "../api/errors";
import { Refused, useDeleteRun } from "../api/lifeQueries";
import { isLive } from "../api/runState";
import type { Run } from "../api/types";
import { Button, IconButton } from "../ui/controls";
import { Dialog, DialogActions } from "../ui/dialog";
import { TrashIcon } from "../ui/icons";

export function DeleteRun({ run, onDeleted }: { run: Run; onDeleted: () => void }) {
  const [isOpen, setOpen] = useState(false);
  const remove = useDeleteRun(run.path);
  const isRunning = isLive(run.state);
  return (
    <>
      <IconButton
        label="Delete this run"
        onClick={() => {
          setOpen(true);
        }}
      >
        <TrashIcon />
      </IconButton>
      <Dialog
        isOpen={isOpen}
        onOpenChange={setOpen}
        title={`Delete ${run.displayName}?`}
        description={
          isRunning ? (
            <p>It is still running. Stop it first: a live run cannot be deleted.</p>
          ) : (
            <>
              <p>It goes to the trash with all that it logged, and can be restored from there for some days. Then its space is freed.</p>
              <p>
                Its id <code>{run.runId}</code> can never be used again in this project.
              </p>
            </>
          )
        }
      >
        <DialogActions error={remove.error === null ? "" : remove.error instanceof Refused ? remove.error.message : describeError(remove.error).detail}>
          <Button
            onClick={() => {
              setOpen(false);
            }}
          >
            Cancel
          </Button>
          <Button
            className="danger filled"
            disabled={isRunning || remove.isPending}
            onClick={() => {
              remove.mutate(undefined, { onSuccess: onDeleted });
            }}
          >
            Move to the trash
          </Button>
        </DialogActions>
      </Dialog>
    </>
  );
}
