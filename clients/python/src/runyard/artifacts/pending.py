"""What becomes of an artifact that was logged: its files and manifest in the run folder, and the agent's answer there.

<run folder>/artifacts/<request_id>.manifest      what it holds, a line of JSON for each entry, by path
<run folder>/artifacts/staged/<request_id>.<sha256>   contents, as further names of those in the cache
<run folder>/artifacts/<request_id>.json          the agent's answer
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from runyard.artifacts.cache import Cache
from runyard.artifacts.entries import Entry
from runyard.artifacts.staging import link_or_copy
from runyard.errors import Error, FailedPrecondition, UsageError, WaitTimeout, error_of
from runyard.run_folder import REFUSED, UNREACHABLE, Mark

POLL_MIN_S, POLL_MAX_S = 0.02, 0.25
MARK_INTERVAL_S = 0.5
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
        read_mark: Callable[[], Mark | None],
        revive: Callable[[], None],
        note: Callable[[str, str], None],
    ) -> None:
        self.name = name
        self._path = folder / f"{request_id}.json"
        self._is_offline = is_offline
        self._read_mark = read_mark
        self._revive = revive
        self._note = note
        self._answer: dict[str, Any] | None = None

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
        end_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        pause_s, mark_time_s = POLL_MIN_S, time.monotonic() + MARK_INTERVAL_S
        while True:
            answer = self.answer()
            if answer is not None:
                return _version_of(answer, self.name)
            if self._is_offline:
                raise UsageError(
                    f"artifact {self.name} is of an offline run: `runyard sync` sends it, and until then it is no version"
                )
            now_s = time.monotonic()
            if now_s >= end_s:
                raise WaitTimeout(
                    f"artifact {self.name} is no version after {timeout_s:g} s; it goes on being sent"
                )
            if now_s >= mark_time_s:
                mark_time_s = now_s + MARK_INTERVAL_S
                self._look_at_mark()
            time.sleep(min(pause_s, max(0.0, end_s - now_s)))
            pause_s = min(POLL_MAX_S, pause_s * 1.3)

    def _look_at_mark(self) -> None:
        mark = self._read_mark()
        if mark is not None and (mark.server == REFUSED or mark.is_dropped):
            raise FailedPrecondition(
                f"artifact {self.name} cannot be sent, for the server refuses the run: {mark.message}"
            )
        if mark is not None and mark.server == UNREACHABLE:
            self._note("artifact_wait", f"waiting for artifact {self.name}: {mark.message}")
        self._revive()


def hand_over(entries: Sequence[Entry], cache: Cache | None, folder: Path, request_id: str) -> None:
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
    with contextlib.suppress(OSError):
        (folder / f"{request_id}.manifest.new").unlink()
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
