// Stops a run: asks how, and shows how far the stop has come.
import { useState } from "react";
import { describeError } from "../api/errors";
import { useStopRun } from "../api/lifeQueries";
import { isLive, stopText } from "../api/runState";
import { type Run, timestampMs } from "../api/types";
import { Button } from "../ui/controls";
import { Dialog, DialogActions } from "../ui/dialog";
import { formatAgo, formatTime, useNow } from "../ui/time";

const GRACES: readonly (readonly [number, string])[] = [
  [10, "10 seconds"],
  [60, "1 minute"],
  [300, "5 minutes"],
  [1_800, "30 minutes"],
  [7_200, "2 hours"],
];
const GRACE_DEFAULT_S = 60;

export function StopButton({ run }: { run: Run }) {
  const [isOpen, setOpen] = useState(false);
  if (!isLive(run.state)) return null;
  return (
    <>
      <Button
        className="small danger"
        onClick={() => {
          setOpen(true);
        }}
      >
        {run.stop === undefined ? "Stop" : "Stop again"}
      </Button>
      <Dialog
        isOpen={isOpen}
        onOpenChange={setOpen}
        title={`Stop ${run.displayName}?`}
        description={
          <p>
            The script is told by Ctrl-C (or by its own <code>on_stop</code>), so that it can write a last checkpoint. What it logs until it
            ends is kept.
          </p>
        }
      >
        <StopForm
          path={run.path}
          onDone={() => {
            setOpen(false);
          }}
        />
      </Dialog>
    </>
  );
}

function StopForm({ path, onDone }: { path: string; onDone: () => void }) {
  const [graceSeconds, setGrace] = useState(GRACE_DEFAULT_S);
  const [mayKill, setMayKill] = useState(false);
  const [reason, setReason] = useState("");
  const stop = useStopRun(path);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        stop.mutate({ graceSeconds, mayKill, reason: reason.trim() }, { onSuccess: onDone });
      }}
    >
      <div className="dialog-fields">
        <label>
          Time to wind up, before SIGTERM
          <select
            value={graceSeconds}
            onChange={(event) => {
              setGrace(Number(event.target.value));
            }}
          >
            {GRACES.map(([seconds, name]) => (
              <option key={seconds} value={seconds}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          Reason, shown to all (may be left empty)
          <input
            type="text"
            value={reason}
            maxLength={1024}
            onChange={(event) => {
              setReason(event.target.value);
            }}
          />
        </label>
        <label className="check">
          <input
            type="checkbox"
            checked={mayKill}
            onChange={(event) => {
              setMayKill(event.target.checked);
            }}
          />
          <span>If SIGTERM does not end it within 10 seconds, kill it (SIGKILL)</span>
        </label>
      </div>
      <DialogActions error={stop.error === null ? "" : describeError(stop.error).detail}>
        <Button onClick={onDone}>Cancel</Button>
        <button type="submit" className="button danger filled" disabled={stop.isPending}>
          {stop.isPending ? "Asking …" : "Stop the run"}
        </button>
      </DialogActions>
    </form>
  );
}

/** How far the stop has come, and who asked. */
export function StopProgress({ run }: { run: Run }) {
  const now = useNow(1_000);
  const stop = run.stop;
  if (stop === undefined) return null;
  const askedMs = stop.requestTime === undefined ? null : timestampMs(stop.requestTime);
  const words = [
    isLive(run.state) ? `Stop asked for${stop.requestedBy === "" ? "" : ` by ${stop.requestedBy}`}` : `Stopped by ${stop.requestedBy || "a user"}`,
    askedMs === null ? "" : formatAgo(askedMs, now),
    isLive(run.state) ? stopText(stop.stage) : "",
    stop.reason === "" ? "" : `“${stop.reason}”`,
  ];
  return (
    <span className="flag" title={askedMs === null ? "" : formatTime(askedMs)}>
      {words.filter((word) => word !== "").join(" · ")}
    </span>
  );
}
