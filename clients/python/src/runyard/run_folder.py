"""The folder of one run on this disk: journal, lock, log, and the two files through which the agent answers."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple

from runyard import extended_json
from runyard.journal import SEGMENT_BYTES, reserve
from runyard.process_identity import own_identity

try:
    import fcntl
except (
    ImportError
):  # Windows has no flock; there the agent sees the end of a process by its FINISH alone
    fcntl = None  # type: ignore[assignment]  # the module is absent there

CONNECTING = "connecting"
REACHABLE = "reachable"
UNREACHABLE = "unreachable"
REFUSED = "refused"


@dataclasses.dataclass(frozen=True)
class RunAnswer:
    """What the server answered to the start of the run (run.json)."""

    path: str
    display_name: str
    url: str
    project_url: str
    is_resumed: bool
    next_step: int
    error_reason: str = ""
    error_message: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of a resumed run: what earlier attempts and this one's START set."""
    summary: Mapping[str, Any] | None = None
    """Of a resumed run, by flat keys; None where it is too large to be handed over."""


class LineCounts(NamedTuple):
    """Lines of the console that the agent has read, those of them that are durable, and those that came too fast to be kept."""

    written: int = 0
    durable: int = 0
    dropped: int = 0


@dataclasses.dataclass(frozen=True)
class Mark:
    """How far the server has the journal (mark.json)."""

    durable_sequence: int = 0
    is_complete: bool = False
    is_dropped: bool = False
    """Whether the run was deleted on the server, and with that its data here."""
    is_ended: bool = False
    """Whether the server knows of the run's end; what waits for the object store may come after it."""
    server: str = CONNECTING
    message: str = ""
    files_durable: int = 0
    files_failed: int = 0
    files_waiting: int = 0
    """Files that an object store which does not answer keeps from being sent."""
    artifacts_durable: int = 0
    artifacts_failed: int = 0
    artifacts_waiting: int = 0
    artifacts_total: int = 0
    artifacts_unnoted: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Answers for which the disk had no room, by the id of the request; of many, the last."""
    artifact_entries_done: int = 0
    artifact_entries_total: int = 0
    artifact_bytes_sent: int = 0
    files_total: int = 0
    file_bytes_total: int = 0
    file_bytes_done: int = 0
    files_settled: int = 0
    """Files of which nothing is to be sent now: durable as they are, or failed."""
    points_rejected: int = 0
    rejections: tuple[dict[str, Any], ...] = ()
    records_refused: int = 0
    """Records up to `durable_sequence` that the server refused for good: they are not durable."""
    refused_ranges: tuple[tuple[int, int], ...] = ()
    """Where they are; of very many, some."""
    update_unix_ns: int = 0


@dataclasses.dataclass(frozen=True)
class StopRequest:
    """A stop that somebody asked for (stop.json)."""

    requested_by: str
    reason: str
    request_time_unix_ns: int
    """Tells a further request from the same one."""
    grace_s: float
    """How long the process may take, from when its agent had the request."""


class RunFolder:
    """Owns run-YYYYMMDD_HHMMSS-ID under the root and holds its writer's lock until `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal_path = path / "journal"
        self.console_path = path / "console"
        self.files_path = path / "files"
        self.logs_path = path / "logs"
        self._lock_file = -1

    @classmethod
    def create(cls, root: Path, run_id: str, start_time_unix_ns: int) -> RunFolder:
        """Makes a new folder with its lock taken; raises OSError if the disk refuses, or has no room for a journal."""
        moment = time.gmtime(start_time_unix_ns // 1_000_000_000)
        stem = f"run-{time.strftime('%Y%m%d_%H%M%S', moment)}-{run_id}"
        root.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = cls(root / (stem if number == 1 else f"{stem}-{number}"))
            try:
                folder.path.mkdir()
                break
            except FileExistsError:
                number += 1
        try:
            folder._take_lock()
            for path in (folder.journal_path, folder.files_path, folder.logs_path):
                path.mkdir()
            folder._look_for_room()
        except OSError:
            folder.release()
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        return folder

    def read_answer(self) -> RunAnswer | None:
        """Returns the server's answer; None while there is none."""
        fields = _read_json(self.path / "run.json", extended_json.loads)
        if fields is None:
            return None
        error = fields.get("error") or {}
        return RunAnswer(
            path=str(fields.get("path") or ""),
            display_name=str(fields.get("display_name") or ""),
            url=str(fields.get("url") or ""),
            project_url=str(fields.get("project_url") or ""),
            is_resumed=bool(fields.get("is_resumed")),
            next_step=int(fields.get("next_step") or 0),
            error_reason=str(error.get("reason") or ""),
            error_message=str(error.get("message") or ""),
            config=_object(fields.get("config")) or {},
            summary=_object(fields.get("summary")),
        )

    def read_line_counts(self) -> LineCounts:
        """Returns what the agent last said of the console."""
        fields = _read_json(self.console_path / "mark.json") or {}
        names = ("lines_written", "lines_durable", "lines_dropped")
        return LineCounts(*(int(fields.get(name) or 0) for name in names))

    def read_mark(self) -> Mark | None:
        """Returns the agent's mark; None while there is none."""
        fields = _read_json(self.path / "mark.json")
        if fields is None:
            return None
        refused_ranges = tuple(
            (int(first), int(last)) for first, last in fields.get("refused_ranges") or ()
        )
        return Mark(
            durable_sequence=int(fields.get("durable_sequence") or 0),
            is_complete=bool(fields.get("is_complete")),
            is_dropped=bool(fields.get("is_dropped")),
            is_ended=bool(fields.get("is_ended")),
            files_waiting=int(fields.get("files_waiting") or 0),
            artifacts_waiting=int(fields.get("artifacts_waiting") or 0),
            server=str(fields.get("server") or CONNECTING),
            message=str(fields.get("message") or ""),
            files_durable=int(fields.get("files_durable") or 0),
            files_failed=int(fields.get("files_failed") or 0),
            artifacts_durable=int(fields.get("artifacts_durable") or 0),
            artifacts_failed=int(fields.get("artifacts_failed") or 0),
            artifacts_total=int(fields.get("artifacts_total") or 0),
            artifacts_unnoted=_object(fields.get("artifacts_unnoted")) or {},
            artifact_entries_done=int(fields.get("artifact_entries_done") or 0),
            artifact_entries_total=int(fields.get("artifact_entries_total") or 0),
            artifact_bytes_sent=int(fields.get("artifact_bytes_sent") or 0),
            files_total=int(fields.get("files_total") or 0),
            file_bytes_total=int(fields.get("file_bytes_total") or 0),
            file_bytes_done=int(fields.get("file_bytes_done") or 0),
            files_settled=int(fields.get("files_settled") or 0),
            points_rejected=int(fields.get("points_rejected") or 0),
            rejections=tuple(fields.get("rejections") or ()),
            records_refused=int(fields.get("refused_unlisted") or 0)
            + sum(last - first + 1 for first, last in refused_ranges),
            refused_ranges=refused_ranges,
            update_unix_ns=int(fields.get("update_unix_ns") or 0),
        )

    def read_stop(self) -> StopRequest | None:
        """Returns the stop that was asked for; None while there is none."""
        fields = _read_json(self.path / "stop.json")
        if fields is None:
            return None
        return StopRequest(
            requested_by=str(fields.get("requested_by") or ""),
            reason=str(fields.get("reason") or ""),
            request_time_unix_ns=int(fields.get("request_time_unix_ns") or 0),
            grace_s=float(fields.get("grace_s") or 0),
        )

    def read_origin(self, bytes_max: int) -> tuple[dict[str, Any], list[str]] | None:
        """Returns (facts, names of files made) as `runyard.origin` wrote them; None while it has not, or above the limit."""
        path = self.path / "origin.json"
        try:
            if path.stat().st_size > bytes_max:
                return None
        except OSError:
            return None
        fields = _read_json(path)
        if fields is None:
            return None
        return _object(fields.get("facts")) or {}, [str(name) for name in fields.get("files") or ()]

    def write_log(self, text: str) -> None:
        """Appends a line to the SDK's log of the run; a disk that refuses is passed over."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            with (self.logs_path / "debug.log").open("a", encoding="utf-8") as file:
                file.write(f"{stamp} {text}\n")
        except (OSError, ValueError):
            return

    def release(self) -> None:
        """Lets go of the lock: the process has no more to write."""
        file, self._lock_file = self._lock_file, -1
        if file >= 0:
            os.close(file)

    def _look_for_room(self) -> None:
        path = self.journal_path / "room.new"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            reserve(file, SEGMENT_BYTES[0])
        finally:
            os.close(file)
            path.unlink()

    def _take_lock(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        self._lock_file = os.open(self.path / "writer.lock", flags, 0o644)
        if fcntl is not None:
            # Blocks for the moment in which an agent may be looking whether the lock is held.
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        os.write(self._lock_file, own_identity())


def fallback_root() -> Path:
    """Makes the folder for journals where the wanted one cannot be written; raises OSError if that fails too.

    Its name can be known, so somebody else may have put a folder or link there: then it is a fresh one.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"runyard-{user}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:  # a file, or a link to nothing
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user:
        return Path(tempfile.mkdtemp(prefix=f"runyard-{user}-"))
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _read_json(path: Path, loads: Callable[[str], Any] = json.loads) -> dict[str, Any] | None:
    """Returns the object in the file; None if there is none, or none that can be read yet."""
    try:
        fields = loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return _object(fields)


def is_held(folder: Path) -> bool:
    """Returns whether a process lives that writes the run; never where there is no flock."""
    if fcntl is None:
        return False  # type: ignore[unreachable]  # reached on Windows
    try:
        file = os.open(folder / "writer.lock", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
