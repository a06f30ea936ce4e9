"""One run folder that `runyard sync` deals with, and what became of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyard import journal_format as form
from runyard.agent import run as runs
from runyard.agent.disk import LocalDisk
from runyard.agent.mark import read_json
from runyard.agent.run import RunUpload
from runyard.agent.start import read_start
from runyard.errors import UsageError
from runyard.journal_status import refused_count
from runyard.journal_walk import segments_of
from runyard.text_format import count_text

LOOKED_AT_BYTES = 64 << 10
"""Bytes of a segment that are looked at where no START was found."""
EMPTY, DAMAGED = "no_start", "damaged"
LEFT_TO_AGENT, UNREACHABLE = "left_to_agent", "unreachable"
DONE = (runs.COMPLETE, runs.CURRENT, EMPTY)
"""Outcomes after which the server has all that there is."""
_SAID = {
    "": "not sent yet",
    runs.COMPLETE: "synced",
    runs.CURRENT: "synced so far; its process goes on",
    runs.WAITING: "not all sent: the object store does not answer; nothing is lost, try again later",
    runs.REFUSED: "refused",
    runs.BLOCKED: "needs a newer runyard",
    EMPTY: "passed over: no run was begun in it",
    DAMAGED: "damaged: the beginning of its journal cannot be read, so nothing of it can be sent",
    LEFT_TO_AGENT: "its agent is still sending it",
    UNREACHABLE: "not sent: the server does not answer; nothing is lost, try again later",
}


@dataclasses.dataclass
class Job:
    """A run folder; `outcome` is "" until it is done with."""

    folder: Path
    start: dict[str, Any] | None = None
    outcome: str = ""
    message: str = ""
    path: str = ""
    url: str = ""
    mark: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    records_durable: int = 0
    records_written: int = 0
    records_refused: int = 0
    files_durable: int = 0
    files_failed: int = 0
    files_waiting: int = 0
    artifacts_waiting: int = 0
    artifacts_durable: int = 0
    artifacts_failed: int = 0
    files_total: int = 0
    file_bytes_total: int = 0
    file_bytes_done: int = 0
    bytes_total: int = 0
    """Of its journal, as far as it was unsent when the command looked."""
    bytes_done: int = 0
    was_complete: bool = False
    is_told: bool = False

    @classmethod
    def of(cls, disk: LocalDisk, folder: Path) -> Job:
        """Returns the job of a folder."""
        job = cls(folder)
        job.refresh(disk)
        job.was_complete = job.outcome == runs.COMPLETE
        if not job.outcome:
            job.bytes_total = _unsent_bytes(folder, int(job.mark.get("durable_sequence") or 0))
        return job

    @property
    def is_offline(self) -> bool:
        """Returns whether agents leave it alone."""
        return (self.start or {}).get("mode") == "offline"

    @property
    def is_done(self) -> bool:
        """Returns whether the server has all that there is of it."""
        is_sent = self.outcome == "" and 0 < self.records_written <= (
            self.records_durable + self.records_refused
        )
        return self.outcome in DONE or is_sent

    def refresh(self, disk: LocalDisk) -> str:
        """Looks at the folder anew; returns the outcome."""
        self.mark = read_json(disk, f"{self.folder}/mark.json") or {}
        if self.start is None:
            self.start = read_start(disk, f"{self.folder}/journal")
        refused = refused_count(self.mark)
        self.records_refused = refused
        self.records_durable = max(0, int(self.mark.get("durable_sequence") or 0) - refused)
        self.records_written = int(self.mark.get("written_sequence") or 0)
        self.files_durable = int(self.mark.get("files_durable") or 0)
        self.files_failed = int(self.mark.get("files_failed") or 0)
        self.files_waiting = int(self.mark.get("files_waiting") or 0)
        self.artifacts_waiting = int(self.mark.get("artifacts_waiting") or 0)
        self.artifacts_durable = int(self.mark.get("artifacts_durable") or 0)
        self.artifacts_failed = int(self.mark.get("artifacts_failed") or 0)
        self.read_answer(disk)
        if self.mark.get("is_complete"):
            self.end(runs.COMPLETE, str(self.mark.get("message") or ""))
        elif self.start is None:
            self.end(DAMAGED if _holds_records(self.folder / "journal") else EMPTY, "")
        elif self.outcome in (DAMAGED, EMPTY):
            self.outcome = ""
        return self.outcome

    def take(self, upload: RunUpload) -> None:
        """Takes how far an upload is."""
        mark = upload.mark
        self.records_refused = mark.records_refused
        self.records_durable = max(0, mark.durable_sequence - mark.records_refused)
        self.records_written = mark.written_sequence
        self.files_durable, self.files_failed = mark.files_durable, mark.files_failed
        self.artifacts_durable, self.artifacts_failed = (
            mark.artifacts_durable,
            mark.artifacts_failed,
        )
        self.files_waiting, self.artifacts_waiting = mark.files_waiting, mark.artifacts_waiting
        self.files_total = mark.files_total
        self.file_bytes_total, self.file_bytes_done = mark.file_bytes_total, mark.file_bytes_done
        self.bytes_done = upload.bytes_settled
        self.bytes_total = max(self.bytes_total, self.bytes_done)

    def end(self, outcome: str, message: str) -> None:
        """Notes what became of it."""
        self.outcome, self.message = outcome, message
        if outcome in DONE:
            self.bytes_done = self.bytes_total

    def try_again(self) -> None:
        """Has it sent, and told of, once more."""
        self.outcome, self.is_told = "", False

    def read_answer(self, disk: LocalDisk) -> None:
        """Reads what the server answered to its start, if it has."""
        answer = read_json(disk, f"{self.folder}/run.json") or {}
        self.path, self.url = str(answer.get("path") or ""), str(answer.get("url") or "")

    def said(self) -> str:
        """Returns what became of it, in words."""
        said = _SAID[self.outcome]
        if self.outcome == runs.COMPLETE and self.records_refused:
            said += f" but for {count_text(self.records_refused, 'record')} that cannot be"
        said += f": {self.message}" if self.message else ""
        counts = f"{self.records_durable:,} of {self.records_written:,} records durable"
        if self.files_durable:
            counts += f", {count_text(self.files_durable, 'file')}"
        if self.files_failed:
            counts += f", {count_text(self.files_failed, 'file')} failed"
        if self.files_waiting:
            counts += f", {count_text(self.files_waiting, 'file')} waiting"
        if self.artifacts_durable:
            counts += f", {count_text(self.artifacts_durable, 'artifact')}"
        if self.artifacts_failed:
            counts += f", {count_text(self.artifacts_failed, 'artifact')} failed"
        if self.artifacts_waiting:
            counts += f", {count_text(self.artifacts_waiting, 'artifact')} waiting"
        return f"{said} ({counts})"

    def fields(self) -> dict[str, Any]:
        """Returns it as JSON can say it."""
        return {
            "folder": str(self.folder),
            "path": self.path,
            "url": self.url,
            "outcome": self.outcome,
            "message": self.message,
            "records_durable": self.records_durable,
            "records_written": self.records_written,
            "records_refused": self.records_refused,
            "files_durable": self.files_durable,
            "files_failed": self.files_failed,
            "files_waiting": self.files_waiting,
            "artifacts_durable": self.artifacts_durable,
            "artifacts_failed": self.artifacts_failed,
            "artifacts_waiting": self.artifacts_waiting,
        }


def _holds_records(journal: Path) -> bool:
    """Returns whether anything was ever written behind the header of a segment."""
    for path in journal.glob("*.seg"):
        try:
            with path.open("rb") as file:
                if any(file.read(LOOKED_AT_BYTES)[form.HEADER_BYTES :]):
                    return True
        except OSError:
            return True
    return False


def _unsent_bytes(folder: Path, durable_sequence: int) -> int:
    """Returns about how many bytes of journal are to be sent: whole segments, their unused rest included."""
    try:
        segments = segments_of(folder)
    except UsageError:
        return 0
    total = 0
    for index, segment in enumerate(segments):
        following = segments[index + 1].first_sequence if index + 1 < len(segments) else None
        if following is None or following > durable_sequence + 1:
            total += segment.size_bytes
    return total
