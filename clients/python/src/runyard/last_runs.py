"""What this folder knows of runs of before: which was the last, for resume="auto", and how far each came, while no server answers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard import journal_format as form
from runyard.journal_reader import JournalReader
from runyard.run_folder import RunFolder, is_held
from runyard.settings import ResolvedSettings

if TYPE_CHECKING:
    from runyard.active_run import Run

STEPS_FILE = "steps.json"
_FOLDER = re.compile(r"run-[0-9]{8}_[0-9]{6}-(.+?)(?:-[0-9]+)?")


def note_started(root: Path, settings: ResolvedSettings, *, run_id: str) -> None:
    """Notes that a run began here; the file is replaced whole. A disk that refuses is no reason to stop."""
    _write(root / _file_of(settings), {"run_id": run_id, "is_finished": False})


def run_to_resume(root: Path, settings: ResolvedSettings) -> str:
    """Returns the id of the run of this project and writer that began here last and did not end well; "" if there is none."""
    last = _read(root / _file_of(settings))
    return "" if last.get("is_finished") else str(last.get("run_id") or "")


def leave_word(run: Run, folder: RunFolder | None, *, last_step: int) -> None:
    """Tells those who may continue the run here how far it came, and whether it ended well; of one killed the journal tells."""
    if folder is None:
        return
    _write(folder.path / STEPS_FILE, {"last_step": last_step})
    file = folder.path.parent / _file_of(run.settings)
    if run.state == "finished" and _read(file).get("run_id") == run.id:
        _write(file, {"run_id": run.id, "is_finished": True})


def last_local_step(
    root: Path, run_id: str, *, but: Path | None = None, writer_label: str = "", launch: str = ""
) -> int | None:
    """Returns the highest step that processes of before logged into the run from this folder; None if nothing tells.

    The other ranks of a job are not before the one with that label: those of its launch, and those that still live.
    """
    steps = []
    with contextlib.suppress(OSError):
        for folder in root.iterdir():
            found = _FOLDER.fullmatch(folder.name)
            if (
                found
                and folder != but
                and run_id in (found[1], folder.name[20:])
                and not _is_beside(folder, writer_label, launch)
            ):
                step = _step_of(folder)
                if step is not None:
                    steps.append(step)
    return max(steps, default=None)


def _is_beside(folder: Path, writer_label: str, launch: str) -> bool:
    """Returns whether another rank of the caller's own job writes, or wrote, the journal."""
    try:
        # The beginning alone: a journal of before may be large, and its steps may be noted beside it.
        first = min((folder / "journal").glob("*.seg"), default=None)
        start = None if first is None else next(JournalReader.open(first).frames(), None)
        fields = start.content if start is not None and start.kind == form.START else {}
    except (OSError, ValueError):
        return False
    if str(fields.get("writer_label") or "") == writer_label:
        return False
    is_same_launch = bool(launch) and (fields.get("identity") or {}).get("launch") == launch
    return is_same_launch or is_held(folder)


def _step_of(folder: Path) -> int | None:
    noted = _read(folder / STEPS_FILE).get("last_step")
    if isinstance(noted, int):
        return noted
    try:
        frames = JournalReader.open(folder).frames()
        rows = (frame.payload[:8] for frame in frames if frame.kind == form.ROW)
        return max((int.from_bytes(row, "little", signed=True) for row in rows), default=None)
    except (OSError, ValueError):  # no journal, or none that can be read
        return None


def _file_of(settings: ResolvedSettings) -> str:
    """Returns the file for the last run of this project and writer: of its own, so that ranks do not race for one."""
    key = "\n".join((settings.entity, settings.project, settings.writer_label))
    return f"last-run-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _write(path: Path, fields: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(fields), encoding="utf-8")
        temporary.replace(path)
