"""What lies in the run folders of this disk, and how much of it a server has: told without asking one."""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runyard import journal_format as form
from runyard.agent.disk import LocalDisk
from runyard.agent.mark import REFUSED, read_json
from runyard.agent.start import read_start
from runyard.artifacts.answers import count_unsent
from runyard.errors import UsageError
from runyard.journal_walk import Damage, last_line, segments_of, walk
from runyard.settings import DEFAULT_ENTITY, DEFAULT_PROJECT

LIVE = "live"
"""Its process lives."""
COMPLETE = "complete"
"""The server has all of it that could be sent, and its end."""
UNSENT = "unsent"
"""Its process is gone and something of it is not at the server: an agent or `runyard sync` sends it."""
REFUSED_STATE = "refused"
"""The server refuses the run for good."""
DAMAGED = "damaged"
"""Something of what was not sent yet cannot be read."""
EMPTY = "empty"
"""No run was begun in it."""


@dataclasses.dataclass(frozen=True)
class JournalStatus:
    """One run folder."""

    folder: str
    path: str
    """entity/project/run_id, as the server says it, else as the run was begun."""
    mode: str
    """online or offline; "" if its beginning is gone, as that of a complete one is, or damaged."""
    state: str
    is_live: bool
    """Whether its process lives."""
    size_bytes: int
    """What the folder takes on the disk."""
    records_written: int
    records_durable: int
    records_refused: int
    records_unsent: int
    """Whole records on this disk that are neither durable nor refused."""
    files_unsent: int
    """Files that were saved and are not at the server."""
    artifacts_unsent: int
    """Artifacts that were logged and are no versions."""
    lines_written: int
    """Lines of the console, as far as they are known: those on this disk, and those that an agent has read."""
    lines_durable: int
    """Of these, how many the server has."""
    message: str
    """Why the server refuses it, or what is damaged."""
    start_unix_ns: int
    """When init() ran; 0 where that is not known."""
    change_unix_ns: int
    """When its journal last grew; 0 where there is none."""

    def fields(self) -> dict[str, Any]:
        """Returns it as JSON can say it."""
        return dataclasses.asdict(self)


def find_run_folders(paths: Sequence[Path]) -> list[Path]:
    """Returns the run folders that the paths are or hold, each once, in order of name."""
    found: dict[Path, None] = {}
    for path in paths:
        folder = path.resolve()  # need not be there (yet)
        if folder.name in ("journal", "files", "logs") and (folder.parent / "writer.lock").exists():
            folder = folder.parent
        if (folder / "journal").is_dir() or (folder / "mark.json").is_file():
            found[folder] = None
            continue
        for root in (folder, folder / "runyard"):
            for child in sorted(root.glob("run-*")):
                if child.is_dir():
                    found[child] = None
    return list(found)


def read_status(folder: Path, disk: LocalDisk | None = None) -> JournalStatus:
    """Returns what lies in a run folder; reads what is unsent of its journal: seconds per million records."""
    disk = disk or LocalDisk()
    mark = read_json(disk, f"{folder}/mark.json") or {}
    answer = read_json(disk, f"{folder}/run.json") or {}
    start = read_start(disk, f"{folder}/journal")
    is_complete = bool(mark.get("is_complete"))
    settled = int(mark.get("durable_sequence") or 0)
    refused = refused_count(mark)
    look = _Look() if is_complete else _look(folder, settled)
    is_live = disk.is_locked(f"{folder}/writer.lock")
    written = max(int(mark.get("written_sequence") or 0), look.last_sequence, settled)
    state, message = _state(mark, start, look, is_live=is_live)
    lines_written, lines_durable = _line_counts(disk, folder)
    return JournalStatus(
        folder=str(folder),
        path=str(answer.get("path") or "") or _path(start or {}),
        mode=str((start or {}).get("mode") or ""),
        state=state,
        is_live=is_live,
        size_bytes=disk_bytes(folder),
        records_written=written,
        records_durable=max(0, settled - refused),
        records_refused=refused,
        records_unsent=0 if is_complete else look.record_count,
        files_unsent=_files_unsent(disk, folder, look, is_complete=is_complete),
        artifacts_unsent=count_unsent(folder / "artifacts"),
        lines_written=lines_written,
        lines_durable=lines_durable,
        message=message,
        start_unix_ns=int((start or {}).get("start_time_unix_ns") or _named_unix_ns(folder.name)),
        change_unix_ns=_change_unix_ns(folder),
    )


@dataclasses.dataclass
class _Look:
    """What is behind the mark of a journal."""

    record_count: int = 0
    last_sequence: int = 0
    file_names: set[str] = dataclasses.field(default_factory=set)
    damages: list[Damage] = dataclasses.field(default_factory=list)


def _look(folder: Path, settled: int) -> _Look:
    look = _Look()
    try:
        segments = segments_of(folder)
    except UsageError:
        return look
    for one in walk(segments, from_sequence=settled + 1):
        if isinstance(one, Damage):
            if one.size_bytes or one.records_lost:
                look.damages.append(one)
            continue
        frame = one.frame
        look.last_sequence = max(look.last_sequence, frame.sequence)
        if frame.sequence <= settled:
            continue
        if not look.record_count and settled and frame.sequence > settled + 1 and not look.damages:
            what = f"records {settled + 1:,} to {frame.sequence - 1:,} are missing"
            look.damages.append(Damage(one.segment, 0, 0, what, frame.sequence - settled - 1))
        look.record_count += 1
        if frame.kind == form.FILE and not one.problem:
            look.file_names.add(str(frame.content.get("name") or ""))
    return look


def _state(
    mark: Mapping[str, Any], start: Mapping[str, Any] | None, look: _Look, *, is_live: bool
) -> tuple[str, str]:
    """Returns (state, message)."""
    told = str(mark.get("message") or "")
    if mark.get("is_complete"):
        return COMPLETE, told
    if mark.get("server") == REFUSED:
        return REFUSED_STATE, told
    if is_live:  # what looks torn may be written this moment
        return LIVE, told if mark.get("refused_ranges") else ""
    if start is None and not look.record_count and not look.damages:
        return EMPTY, ""
    if start is None:
        first = f": {look.damages[0]}" if look.damages else ""
        return DAMAGED, f"its beginning cannot be read{first}"
    if look.damages:
        more = f" (and {len(look.damages) - 1} more)" if len(look.damages) > 1 else ""
        return DAMAGED, f"{look.damages[0]}{more}"
    return UNSENT, told


def _line_counts(disk: LocalDisk, folder: Path) -> tuple[int, int]:
    """Returns how many lines of the console were written and how many of them are durable."""
    console = folder / form.CONSOLE_JOURNAL
    mark = read_json(disk, f"{console}/mark.json") or {}
    durable = int(mark.get("lines_durable") or 0)
    written = max(durable, int(mark.get("lines_written") or 0))
    if not mark.get("is_complete") and console.is_dir():
        with contextlib.suppress(UsageError):  # it has no segment (any more)
            written = max(written, last_line(console))
    return written, durable


def _files_unsent(disk: LocalDisk, folder: Path, look: _Look, *, is_complete: bool) -> int:
    known = (read_json(disk, f"{folder}/files.json") or {}).get("files") or {}
    unsent = {name for name, entry in known.items() if entry.get("state") != "durable"}
    if is_complete:  # what is left failed, and is told as such
        return len(unsent)
    return len(unsent | {name for name in look.file_names if name not in known})


def refused_count(mark: Mapping[str, Any]) -> int:
    """Returns how many records the fields of a mark.json call refused for good."""
    listed = sum(int(last) - int(first) + 1 for first, last in mark.get("refused_ranges") or ())
    return listed + int(mark.get("refused_unlisted") or 0)


def disk_bytes(folder: Path) -> int:
    """Returns the bytes of disk that the files of a folder take; what cannot be looked at counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = Path(parent, name).lstat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                total += getattr(status, "st_blocks", -(-status.st_size // 512)) * 512
    return total


def _path(start: Mapping[str, Any]) -> str:
    run_id = str(start.get("run_id") or "")
    if not run_id:
        return ""
    entity, project = start.get("entity"), start.get("project")
    return f"{entity or DEFAULT_ENTITY}/{project or DEFAULT_PROJECT}/{run_id}"


def _named_unix_ns(name: str) -> int:
    """Returns the moment that the name of a run folder tells: run-YYYYMMDD_HHMMSS-…"""
    try:
        return calendar.timegm(time.strptime(name[4:19], "%Y%m%d_%H%M%S")) * 1_000_000_000
    except ValueError:
        return 0


def _change_unix_ns(folder: Path) -> int:
    latest = 0
    for path in (folder / "journal").glob("*.seg"):
        try:
            latest = max(latest, path.stat().st_mtime_ns)
        except OSError:
            continue
    return latest
