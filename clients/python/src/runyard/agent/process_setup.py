"""What processes beside training do first: take the lock of their journal root, and open their log."""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH105, PTH202

from __future__ import annotations

import logging
import os
import sys

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]  # the module is absent there

LOG_BYTES_MAX = 4 << 20


def take_lock(root: str, name: str = "agent.lock") -> int | None:
    """Returns the descriptor that holds the root's lock; None if another process has it. Raises OSError."""
    number = os.open(f"{root}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if fcntl is not None:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            return None
    os.ftruncate(number, 0)
    os.pwrite(number, f"{os.getpid()}\n".encode(), 0)
    return number


def set_up_log(path: str) -> None:
    """Sends the agent's log to a file; one that has grown too large is set aside first."""
    try:
        if os.path.getsize(path) > LOG_BYTES_MAX:
            os.replace(path, f"{path}.old")
    except OSError:
        pass  # there is none yet
    try:
        handler: logging.Handler = logging.FileHandler(path, encoding="utf-8")
    except OSError:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))  # fmt: skip
    logger = logging.getLogger("runyard")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def is_named(path: str, held: os.stat_result) -> bool:
    """Returns whether the path names the file still, whose descriptor may have been given up."""
    try:
        there = os.stat(path)  # noqa: PTH116 (paths are texts here)
    except OSError:
        return False
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
