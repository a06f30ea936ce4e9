"""The folder that holds all data of a process, and the lock that keeps a second process out of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psutil

from runyard_server.domain.errors import StartRefused

LOCK_NAME: Final = "lock"
FREE_BYTES_MIN: Final = 16 * 1024 * 1024
"""What the stores need to start, and somewhat more."""
_MODE: Final = 0o700


class DataFolder:
    """A folder held by this process until `release`; the kernel lets go of the lock however the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def acquire(self) -> None:
        """Makes the folder and takes its lock; raises StartRefused naming the process that holds it, or why it cannot."""
        assert self._lock is None
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=_MODE)
            lock = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartRefused(
                f"the data folder {self.path} cannot be used: {error.strerror}; "
                "choose another with --data-dir or change its permissions"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _describe_holder(lock)
            os.close(lock)
            raise StartRefused(
                f"the data folder {self.path} is in use by {holder}; stop it, or choose another folder with --data-dir"
            ) from error
        self._lock = lock
        with contextlib.suppress(
            OSError
        ):  # a full disk: the lock holds all the same, its holder stays unnamed
            os.ftruncate(lock, 0)
            os.pwrite(lock, json.dumps(_describe_self()).encode(), 0)

    def release(self) -> None:
        """Lets go of the lock. Safe to repeat."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> DataFolder:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def require_room(folder: Path) -> None:
    """Raises StartRefused if a store cannot start in the folder for want of space: each would say so in words of its own."""
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_MIN:
        raise StartRefused(
            f"the disk of the data folder {folder} is full: {free >> 20} MiB are free, a start needs {FREE_BYTES_MIN >> 20} MiB; "
            "make room, or choose another folder with --data-dir. What was acknowledged is kept, and agents keep what is not"
        )


def _describe_self() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "pid": process.pid,
        "command": " ".join(process.cmdline()),
        "start_time_unix_s": round(process.create_time()),
    }


def _describe_holder(lock: int) -> str:
    try:
        said = json.loads(os.pread(lock, 65_536, 0))
        started = _time_text(int(said["start_time_unix_s"]))
        return f"pid {said['pid']}, started {started} as: {said['command']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"


def _time_text(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s).astimezone().isoformat(sep=" ", timespec="seconds")
