"""What the agent tells the SDK and the next agent of a run: mark.json and run.json, each replaced whole."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, Callable

from runyard.agent.line_count import LineCount
from runyard.agent.ports import Disk, Rejection, StartedRun

CONNECTING = "connecting"
REACHABLE = "reachable"
UNREACHABLE = "unreachable"
REFUSED = "refused"
WRITE_INTERVAL_S = 0.05
REJECTION_COUNT_MAX = 100
"""Rejected metrics that are named; further ones are counted."""
REFUSED_RANGE_COUNT_MAX = 1000
SUMMARY_BYTES_MAX = 1 << 20
"""Largest summary of earlier attempts, as JSON, that a resumed run gets back."""
REFUSAL_LINE_COUNT_MAX = 20
"""Lines of the log about records set aside, per run."""

_log = logging.getLogger("runyard.agent")


class Mark:
    """How far the server has a journal. Written at most every 50 ms; `durable_sequence` never goes back."""

    def __init__(self, disk: Disk, folder: str, *, time_unix_ns: Callable[[], int]) -> None:
        self.durable_sequence = 0
        self.written_sequence = 0
        self.is_complete = False
        self.is_dropped = False
        """Whether the run was deleted on the server, and with that its data here."""
        self.is_ended = False
        """Whether the server knows of the run's end; what waits for the object store may come after it."""
        self.server = CONNECTING
        self.message = ""
        self.files_durable = 0
        self.files_failed = 0
        self.files_waiting = 0
        """Files that an object store which does not answer keeps from being sent; they are neither durable nor failed."""
        self.artifacts_waiting = 0
        self.files_total = 0
        self.files_settled = 0
        """Files of which nothing is to be sent now: durable as they are, or failed."""
        self.file_bytes_total = 0
        self.file_bytes_done = 0
        """Bytes of the run's files that are at the object store, those of files on their way too."""
        self.artifacts_durable = 0
        self.artifacts_failed = 0
        self.artifacts_total = 0
        self.artifacts_unnoted: dict[str, dict[str, Any]] = {}
        """Answers for which the disk has no room, by request: only this tells of them."""
        self.lines = LineCount()
        """Lines of a console's journal."""
        self.artifact_entries_done = 0
        self.artifact_entries_total = 0
        self.artifact_bytes_sent = 0
        """Of contents of artifacts, by this agent; what the server had is not sent."""
        self.points_rejected = 0
        self.rejections: list[dict[str, str]] = []
        self.refused_ranges: list[list[int]] = []
        self.refused_unlisted = 0
        """Refused records beyond those in `refused_ranges`, of which there are at most 1,000."""
        self._disk = disk
        self._path = f"{folder}/mark.json"
        self._time_unix_ns = time_unix_ns
        self._timer: asyncio.TimerHandle | None = None
        self._wait_message = ""
        self._is_trouble_told = False
        self._refusal_count = 0
        self._holds: dict[str, int] = {}
        self._load(read_json(disk, self._path))

    def advance(self, durable_sequence: int) -> None:
        """Moves the mark forward."""
        assert durable_sequence >= self.durable_sequence, "a mark never goes back"
        self.durable_sequence = durable_sequence
        self.lines.settle(durable_sequence)
        self.touch()

    def refuse(self, first: int, last: int, message: str) -> None:
        """Notes that a range will never be durable, and why."""
        self._refusal_count += 1
        level = logging.ERROR if self._refusal_count <= REFUSAL_LINE_COUNT_MAX else logging.DEBUG
        _log.log(level, "records_set_aside %d-%d: %s", first, last, message)
        ranges = merged(self.refused_ranges, first, last)
        if len(ranges) <= REFUSED_RANGE_COUNT_MAX:
            self.refused_ranges = ranges
        else:
            self.refused_unlisted += last - first + 1
        self.message = message
        self.touch()

    def hold(self, what: str, sequence: int) -> None:
        """Has a later agent read the record again: what it asks for could not be noted, and is nowhere else."""
        self._holds[what] = min(sequence, self._holds.get(what, sequence))

    def release(self, what: str) -> None:
        """Ends a hold; without one it does nothing."""
        if self._holds.pop(what, None) is not None:
            self.touch()

    @property
    def kept_sequence(self) -> int:
        """Returns up to which record nobody needs the journal any more."""
        if self.is_complete or not self._holds:
            return self.durable_sequence
        return min(self.durable_sequence, min(self._holds.values()) - 1)

    def wait(self, message: str) -> None:
        """Says that something waits, and for what."""
        self.message = self._wait_message = message
        self.touch()

    def go_on(self) -> None:
        """Takes back what `wait` said last."""
        if self._wait_message and self.message == self._wait_message:
            self.message = ""
            self.touch()

    @property
    def records_refused(self) -> int:
        """Returns how many records will never be durable."""
        listed = sum(last - first + 1 for first, last in self.refused_ranges)
        return listed + self.refused_unlisted

    def is_refused(self, first: int, last: int) -> bool:
        """Returns whether any record of the closed range was refused, as far as that is known."""
        if self.refused_unlisted:
            return True
        return any(start <= last and first <= stop for start, stop in self.refused_ranges)

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """Notes series that the server refused inside a success."""
        named = {entry["metric"] for entry in self.rejections}
        for rejection in rejections:
            self.points_rejected += rejection.points
            if rejection.metric not in named and len(named) < REJECTION_COUNT_MAX:
                named.add(rejection.metric)
                self.rejections.append(
                    {
                        "metric": rejection.metric,
                        "reason": rejection.reason,
                        "message": rejection.message,
                    }
                )
                _log.warning("metric_rejected %s: %s", rejection.metric, rejection.message)
        self.touch()

    def touch(self) -> None:
        """Has the file written soon."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(WRITE_INTERVAL_S, self._write_soon)

    def write(self, *, is_synced: bool = False) -> bool:
        """Writes the file now; returns False if the disk refuses, which is tried again with the next change.

        That of a complete journal lasts a power cut: its segments are removed then, and nothing else tells of it.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._disk.replace(self._path, self._content(), is_synced=is_synced or self.is_complete)
        except OSError as error:
            if not self._is_trouble_told:
                _log.error("mark_not_written %s: %s; make room there", self._path, error)
            self._is_trouble_told = True
            return False
        return True

    def _write_soon(self) -> None:
        self._timer = None
        self.write()

    def _content(self) -> bytes:
        fields = {
            "version": 1,
            "durable_sequence": self.kept_sequence,
            "written_sequence": self.written_sequence,
            "is_complete": self.is_complete,
            "is_dropped": self.is_dropped,
            "is_ended": self.is_ended,
            "files_waiting": self.files_waiting,
            "artifacts_waiting": self.artifacts_waiting,
            "server": self.server,
            "message": self.message,
            "files_durable": self.files_durable,
            "files_failed": self.files_failed,
            "files_total": self.files_total,
            "files_settled": self.files_settled,
            "file_bytes_total": self.file_bytes_total,
            "file_bytes_done": self.file_bytes_done,
            "artifacts_durable": self.artifacts_durable,
            "artifacts_failed": self.artifacts_failed,
            "artifacts_total": self.artifacts_total,
            "artifacts_unnoted": self.artifacts_unnoted,
            "lines_written": self.lines.written,
            "lines_durable": self.lines.durable,
            "lines_dropped": self.lines.dropped,
            "artifact_entries_done": self.artifact_entries_done,
            "artifact_entries_total": self.artifact_entries_total,
            "artifact_bytes_sent": self.artifact_bytes_sent,
            "points_rejected": self.points_rejected,
            "rejections": self.rejections,
            "refused_ranges": self.refused_ranges,
            "refused_unlisted": self.refused_unlisted,
            "update_unix_ns": self._time_unix_ns(),
        }
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")

    def _load(self, fields: dict[str, Any] | None) -> None:
        if fields is None:
            return
        self.durable_sequence = int(fields.get("durable_sequence") or 0)
        self.written_sequence = int(fields.get("written_sequence") or 0)
        self.is_complete = bool(fields.get("is_complete"))
        self.is_dropped = bool(fields.get("is_dropped"))
        self.is_ended = bool(fields.get("is_ended"))
        self.files_durable = int(fields.get("files_durable") or 0)
        self.files_failed = int(fields.get("files_failed") or 0)
        durable_lines = int(fields.get("lines_durable") or 0)
        dropped_lines = int(fields.get("lines_dropped") or 0)
        self.lines = LineCount(durable_lines, durable_lines, dropped_lines)
        self.artifacts_durable = int(fields.get("artifacts_durable") or 0)
        self.artifacts_failed = int(fields.get("artifacts_failed") or 0)
        self.artifacts_total = int(fields.get("artifacts_total") or 0)
        self.points_rejected = int(fields.get("points_rejected") or 0)
        self.rejections = list(fields.get("rejections") or [])
        self.refused_ranges = [list(pair) for pair in fields.get("refused_ranges") or []]
        self.refused_unlisted = int(fields.get("refused_unlisted") or 0)
        is_waiting = fields.get("files_waiting") or fields.get("artifacts_waiting")
        # Else the message is of that moment.
        if fields.get("server") != UNREACHABLE and not is_waiting:
            self.message = str(fields.get("message") or "")
        if fields.get("server") == REFUSED:
            self.server = REFUSED


def merged(ranges: Sequence[Sequence[int]], first: int, last: int) -> list[list[int]]:
    """Returns the closed ranges with one more, ascending, those that touch joined."""
    joined: list[list[int]] = []
    for start, stop in sorted([*((r[0], r[1]) for r in ranges), (first, last)]):
        if joined and start <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], stop)
        else:
            joined.append([start, stop])
    return joined


def outside(ranges: Sequence[Sequence[int]], first: int, last: int) -> list[tuple[int, int]]:
    """Returns the parts of a closed range that lie outside of the closed, ascending ranges."""
    parts, begin = [], first
    for start, stop in ranges:
        if stop < begin:
            continue
        if start > last:
            break
        if start > begin:
            parts.append((begin, start - 1))
        begin = stop + 1
    if begin <= last:
        parts.append((begin, last))
    return parts


def write_answer(
    disk: Disk,
    folder: str,
    run: StartedRun,
    *,
    base_url: str,
    next_step: int,
    summary_json: str,
) -> None:
    """Writes run.json: the run was started; of a resumed one also what earlier attempts left."""
    entity, project, run_id = run.path.split("/")
    project_url = f"{base_url}/{entity}/{project}"
    fields: dict[str, Any] = {
        "version": 1,
        "path": run.path,
        "run_key": str(run.run_key),
        "writer": run.writer,
        "attempt": run.attempt,
        "display_name": run.display_name,
        "url": f"{project_url}/runs/{run_id}",
        "project_url": project_url,
        "is_resumed": run.is_resumed,
        "next_step": next_step,
        "error": None,
    }
    if run.is_resumed:
        fields["config"] = json.loads(run.config_json or "{}")
        size_bytes = len(summary_json.encode())
        if size_bytes <= SUMMARY_BYTES_MAX:
            fields["summary"] = json.loads(summary_json or "{}")
        else:
            _log.warning("summary_not_restored %s: %d bytes", run.path, size_bytes)
    _write_json(disk, f"{folder}/run.json", fields)


def write_refusal(disk: Disk, folder: str, *, reason: str, message: str) -> None:
    """Writes run.json: the server refuses the run."""
    fields = {"version": 1, "error": {"reason": reason, "message": message}}
    _write_json(disk, f"{folder}/run.json", fields)


def read_json(disk: Disk, path: str) -> dict[str, Any] | None:
    """Returns the object that a file holds; None if it does not."""
    try:
        content = disk.read(path)
        fields = json.loads(content) if content else None
    except (OSError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None


def _write_json(disk: Disk, path: str, fields: dict[str, Any]) -> None:
    content = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
    try:
        disk.replace(path, content, is_synced=False)
    except OSError as error:  # the upload needs no file: only the SDK's links do
        _log.error("answer_not_written %s: %s; make room there", path, error)
