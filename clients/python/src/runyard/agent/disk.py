"""The real disk of an agent."""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH105, PTH108, PTH116, PTH120, PTH123, PTH208

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Sequence

from runyard.agent.digests import digest_file
from runyard.agent.ports import FileDigest

try:
    import fcntl
except ImportError:  # Windows has no flock; there only FINISH tells that a writer ended
    fcntl = None  # type: ignore[assignment]  # the module is absent there

_FULL = (errno.ENOSPC, errno.EDQUOT)


class LocalFile:
    """A file open for reading."""

    def __init__(self, number: int) -> None:
        self._number = number

    def read_at(self, offset: int, length_bytes: int) -> bytes:
        """Returns up to `length_bytes` bytes from `offset`."""
        return os.pread(self._number, length_bytes, offset)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._number)


class LocalDisk:
    """Files of this machine; see ports.Disk."""

    def names(self, folder: str) -> list[str]:
        """Returns the names in a folder, sorted."""
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def stamp(self, path: str) -> tuple[int, int] | None:
        """Returns (size in bytes, time of change in ns)."""
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size, status.st_mtime_ns

    def read(self, path: str) -> bytes | None:
        """Returns a small file whole."""
        try:
            with open(path, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, path: str) -> LocalFile | None:
        """Opens a file for reading."""
        try:
            return LocalFile(os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def replace(self, path: str, content: bytes, *, is_synced: bool) -> None:
        """Writes beside it and renames; on a full disk writes over the file, if it has the room."""
        beside = f"{path}.{os.getpid()}.new"
        try:
            with open(beside, "wb") as file:
                file.write(content)
                if is_synced:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(beside, path)
            if is_synced:
                _sync_folder(os.path.dirname(path))
        except OSError as error:
            self.remove(beside)
            if error.errno not in _FULL or not _overwrite(path, content, is_synced=is_synced):
                raise

    def remove(self, path: str) -> None:
        """Removes a file."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def is_locked(self, path: str) -> bool:
        """Asks with a shared lock, which the writer's exclusive one refuses."""
        if fcntl is None:
            return True  # type: ignore[unreachable]  # reached on Windows
        try:
            number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(number)
        return False

    async def digest(self, path: str, *, size_bytes: int, part_bytes: int) -> FileDigest:
        """Hashes in a thread, so that batches go on."""
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                None, digest_file, path, size_bytes, part_bytes, cancelled
            )
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def digest_all(
        self, paths: Sequence[str], *, size_bytes_max: int
    ) -> list[tuple[tuple[int, int], FileDigest] | None]:
        """Hashes small files in one thread."""
        cancelled = threading.Event()

        def digest() -> list[tuple[tuple[int, int], FileDigest] | None]:
            return [self._digest_small(path, size_bytes_max, cancelled) for path in paths]

        try:
            return await asyncio.get_running_loop().run_in_executor(None, digest)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def _digest_small(
        self, path: str, size_bytes_max: int, cancelled: threading.Event
    ) -> tuple[tuple[int, int], FileDigest] | None:
        try:
            stamp = None if cancelled.is_set() else self.stamp(path)
            if stamp is None or stamp[0] > size_bytes_max:
                return None
            return stamp, digest_file(path, stamp[0], size_bytes_max, cancelled)
        except OSError:
            return None


def _overwrite(path: str, content: bytes, *, is_synced: bool) -> bool:
    """Writes over a JSON file in the blocks that it has; returns False if it has too few.

    One write of a few KiB: a process that is killed leaves the one content or the other, a power cut may leave neither,
    which a reader takes for no file. Without this a full disk would keep the mark from moving, and so itself from
    getting room.
    """
    try:
        number = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        status = os.fstat(number)
        if len(content) > getattr(status, "st_blocks", 0) * 512:
            return False
        os.pwrite(number, content.ljust(status.st_size), 0)
        if is_synced:
            os.fsync(number)
    except OSError:
        return False
    finally:
        os.close(number)
    return True


def _sync_folder(folder: str) -> None:
    """Makes names last: without it a power cut may bring back what a file was before it was replaced."""
    try:
        number = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return  # not every system opens folders
    try:
        os.fsync(number)
    except OSError:
        return  # nor syncs them
    finally:
        os.close(number)
