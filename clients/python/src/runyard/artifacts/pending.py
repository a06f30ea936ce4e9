"""What becomes of an artifact that was logged: its files and manifest in the run folder, and the agent's answer there.

<run folder>/artifacts/<request_id>.manifest      what it holds, a line of JSON for each entry, by path
<run folder>/artifacts/staged/<request_id>.<sha256>   contents, as further names of those in the cache
<run folder>/artifacts/<request_id>.json          the agent's answer
<run folder>/artifacts/<request_id>.request       the record, once the agent has read past it in the journal

The last two are made here, of spaces: an agent whose disk is full then writes over them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from runyard.artifacts.cache import Cache
from runyard.artifacts.entries import Entry
from runyard.artifacts.records import VersionRecord
from runyard.artifacts.staging import link_or_copy
from runyard.errors import (
    Error,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
    UsageError,
    WaitTimeout,
    error_of,
)
from runyard.run_folder import REFUSED, UNREACHABLE, Mark

POLL_MIN_S, POLL_MAX_S = 0.02, 0.25
MARK_INTERVAL_S = 0.5
SILENT_S = 60.0
"""Longest wait for an agent that tells nothing, though the server is not said to be away."""
ANSWER_BYTES = 4096
"""Room for an answer, beside what the record itself takes."""
LINK_TRY_COUNT = 5
LINK_PAUSE_S = 0.02


class Pending:
    """One artifact on its way to the server."""

    def __init__(
        self,
        folder: Path,
        request_id: str,
        *,
        name: str,
        is_offline: bool,
        read_sequence: Callable[[], int],
        read_mark: Callable[[], Mark | None],
        is_held: Callable[[], bool],
        read_version: Callable[[str], VersionRecord],
        revive: Callable[[], None],
        note: Callable[[str, str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read_sequence`: that of the last record. `is_held`: whether the journal has no room for records."""
        self.name = name
        self._folder = folder
        self._request_id = request_id
        self._path = folder / f"{request_id}.json"
        self._is_offline = is_offline
        self._read_sequence = read_sequence
        self._sequence: int | None = None
        """One that its record does not come behind, once it is in the journal."""
        self._read_mark = read_mark
        self._is_held = is_held
        self._read_version = read_version
        self._revive = revive
        self._note = note
        self._monotonic = monotonic
        self._answer: dict[str, Any] | None = None
        self._heard: tuple[int, float] = (-1, monotonic())
        """When the mark was written, as it says, and when that was seen."""

    def answer(self) -> dict[str, Any] | None:
        """Returns what the agent has told; None while it has not."""
        if self._answer is None:
            try:
                fields = json.loads(self._path.read_bytes())
            except (OSError, ValueError):
                return None
            self._answer = fields if isinstance(fields, dict) else None
        return self._answer

    def wait(self, timeout_s: float | None) -> dict[str, Any]:
        """Returns the fields of the version; raises the error that kept it from becoming one, WaitTimeout after the time."""
        end_s = float("inf") if timeout_s is None else self._monotonic() + timeout_s
        pause_s, mark_time_s = POLL_MIN_S, self._monotonic() + MARK_INTERVAL_S
        self._heard = (-1, self._monotonic())
        while True:
            answer = self.answer()
            if answer is not None:
                return _version_of(answer, self.name)
            if self._is_offline:
                raise UsageError(
                    f"artifact {self.name} is of an offline run: `runyard sync` sends it, and until then it is no version"
                )
            now_s = self._monotonic()
            if now_s >= end_s:
                raise WaitTimeout(
                    f"artifact {self.name} is no version after {timeout_s:g} s; it goes on being sent"
                )
            if now_s >= mark_time_s:
                mark_time_s = now_s + MARK_INTERVAL_S
                told = self._look_at_mark()
                if told is not None:
                    return told
            time.sleep(min(pause_s, max(0.0, end_s - now_s)))
            pause_s = min(POLL_MAX_S, pause_s * 1.3)

    def _look_at_mark(self) -> dict[str, Any] | None:
        """Returns the version of which only the mark tells; raises where waiting on is of no use."""
        mark = self._read_mark()
        if mark is not None and self.answer() is None:
            told = mark.artifacts_unnoted.get(self._request_id)
            if isinstance(told, dict):
                return _version_of(self._with_version(told), self.name)
            self._check_end(mark)
        self._check_heard(mark)
        if mark is not None and (mark.server == REFUSED or mark.is_dropped):
            raise FailedPrecondition(
                f"artifact {self.name} cannot be sent, for the server refuses the run: {mark.message}"
            )
        if mark is not None and mark.server == UNREACHABLE:
            self._note("artifact_wait", f"waiting for artifact {self.name}: {mark.message}")
        self._revive()
        return None

    def _with_version(self, told: dict[str, Any]) -> dict[str, Any]:
        """Returns an answer of the mark with what the server says of its version."""
        if "error" in told:
            return told
        return {"version": dataclasses.asdict(self._read_version(str(told.get("path") or "")))}

    def _check_end(self, mark: Mark) -> None:
        """Raises if the agent is through with all artifacts: an answer that is not there now was not noted."""
        if mark.is_ended and mark.artifacts_waiting:
            raise Unavailable(
                f"artifact {self.name} is no version yet, for the object store does not answer ({mark.message}). What was logged lies "
                f"in {self._folder.parent}, and is sent by the next agent, or `runyard sync {self._folder.parent}`",
                reason="STORE_UNAVAILABLE",
            )
        settled = mark.artifacts_durable + mark.artifacts_failed
        if self._sequence is None and not self._is_held():
            self._sequence = self._read_sequence()
        is_read = self._sequence is not None and mark.durable_sequence >= self._sequence > 0
        if mark.is_complete or (is_read and settled >= mark.artifacts_total > 0):
            raise FailedPrecondition(
                f"what became of artifact {self.name} could not be noted in {self._folder}: make room there. "
                f"`runyard artifacts ls {self.name} --versions` lists what the server has",
                reason="ANSWER_NOT_NOTED",
            )

    def _check_heard(self, mark: Mark | None) -> None:
        """Raises if nothing was heard of the agent for long, and it does not just wait for a server."""
        written, now_s = 0 if mark is None else mark.update_unix_ns, self._monotonic()
        if written != self._heard[0] or (mark is not None and mark.server == UNREACHABLE):
            self._heard = (written, now_s)
        if now_s - self._heard[1] < SILENT_S:
            return
        run_folder = self._folder.parent
        if self._is_held():
            raise ResourceExhausted(
                f"artifact {self.name} is not sent, for the journal in {run_folder} has had no room for its record for "
                f"{SILENT_S:.0f} s: make room on that disk",
                reason="DISK_FULL",
            )
        if not run_folder.exists():
            raise FailedPrecondition(
                f"artifact {self.name} is no version, and {run_folder} was removed: log it again"
            )
        raise Unavailable(
            f"artifact {self.name} is no version, and for {SILENT_S:.0f} s the agent has told nothing in {run_folder}: its disk "
            f"may be full, or cannot be written; {run_folder.parent / 'agent.log'} says more. What was logged lies there, and "
            f"is sent by the next agent, or `runyard sync {run_folder}`",
            reason="AGENT_SILENT",
        )


def hand_over(
    entries: Sequence[Entry],
    cache: Cache | None,
    folder: Path,
    request_id: str,
    *,
    record_bytes: int = 0,
) -> None:
    """Puts contents and manifest where the agent takes them; `entries` MUST come by path. Raises runyard.errors.Error.

    When it returns, the run folder holds what is to be sent, whatever becomes of the cache.
    """
    staged = folder / "staged"
    staged.mkdir(parents=True, exist_ok=True)
    linked: set[bytes] = set()
    manifest = folder / f"{request_id}.manifest"
    beside = folder / f"{request_id}.manifest.new"
    try:
        with beside.open("w", encoding="utf-8") as file:
            for entry in entries:
                if entry.is_copy and entry.sha256 not in linked:
                    linked.add(entry.sha256)
                    _link(cache, entry, f"{staged}/{request_id}.{entry.sha256.hex()}")
                file.write(_line(entry, request_id))
            file.flush()
            os.fsync(file.fileno())
        (folder / f"{request_id}.request").write_bytes(b" " * (record_bytes + ANSWER_BYTES))
        (folder / f"{request_id}.json").write_bytes(b" " * (record_bytes + ANSWER_BYTES))
        beside.replace(manifest)
    except OSError as error:
        _take_back(folder, request_id)
        full = cache.full(error) if cache is not None else None
        raise full or FailedPrecondition(
            f"the artifact cannot be kept in {folder}: {error.strerror or error}",
            reason="DISK_FULL",
        ) from error
    except Error:
        _take_back(folder, request_id)
        raise


def _link(cache: Cache | None, entry: Entry, target: str) -> None:
    for count in range(LINK_TRY_COUNT):
        try:
            link_or_copy(entry.local_path, target)
            return
        except FileNotFoundError:
            # A cleaning of the cache has it aside for a moment, to see whether it is used.
            if count < LINK_TRY_COUNT - 1:
                time.sleep(LINK_PAUSE_S)
    raise FailedPrecondition(
        f"the content of {entry.path!r} is in the cache no longer: the artifact was logged before, or the cache was emptied "
        f"by hand; add the file again, to a new artifact",
        reason="FILE_NOT_FOUND",
    )


def _line(entry: Entry, request_id: str) -> str:
    fields: dict[str, Any] = {
        "path": entry.path,
        "size_bytes": entry.size,
        "sha256": entry.sha256.hex(),
    }
    if entry.ref:
        fields["reference"], fields["etag"] = entry.ref, entry.etag
    elif entry.is_copy:
        fields["source"] = f"staged/{request_id}.{entry.sha256.hex()}"
    elif entry.local_path:
        fields["source"], fields["mtime_ns"] = entry.local_path, entry.stamp_ns
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"


def _take_back(folder: Path, request_id: str) -> None:
    for ending in ("manifest.new", "request", "json"):
        with contextlib.suppress(OSError):
            (folder / f"{request_id}.{ending}").unlink()
    for path in (folder / "staged").glob(f"{request_id}.*"):
        with contextlib.suppress(OSError):
            path.unlink()


def _version_of(answer: dict[str, Any], name: str) -> dict[str, Any]:
    version = answer.get("version")
    if isinstance(version, dict):
        return version
    error = answer.get("error") or {}
    reason = str(error.get("reason") or "")
    raise error_of(
        str(error.get("code") or ""),
        f"artifact {name} did not become a version: {error.get('message') or 'the agent does not say why'}",
        reason=reason,
    )
