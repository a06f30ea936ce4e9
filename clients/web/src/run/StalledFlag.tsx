// Says that a run is alive but makes no progress, and since when.
import { isLive } from "../api/runState";
import { type Run, timestampMs } from "../api/types";
import { HourglassIcon } from "../ui/icons";
import { formatDuration, formatTime, useNow } from "../ui/time";

export function StalledFlag({ run }: { run: Run }) {
  const now = useNow(5_000);
  if (run.stalledSinceTime === undefined || !isLive(run.state)) return null;
  const sinceMs = timestampMs(run.stalledSinceTime);
  return (
    <span className="flag" title={`It beats, but the last new step came ${formatTime(sinceMs)}`}>
      <HourglassIcon size={12} /> stalled for {formatDuration(now - sinceMs)}
    </span>
  );
}
