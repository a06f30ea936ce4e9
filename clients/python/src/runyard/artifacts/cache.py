"""The cache of artifact contents on this machine, shared by all runs and processes of a user.

<root>/objects/ab/cdef…   one content, named by its SHA-256; read only, put there whole by rename
<root>/tmp/…              what is being written, and what is being removed
<root>/partial/<sha256>   a download that goes on where it ended; locked while one is at it
<root>/leases/…           locked by processes that hold contents which no run folder holds yet
<root>/usage.json         about how many bytes there are; usage.lock guards it
"""

# Many small files: texts as paths and os functions cost half of what Path objects do.
# ruff: noqa: PTH101, PTH103, PTH104, PTH105, PTH108, PTH116, PTH120, PTH123

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from runyard.errors import ResourceExhausted, UsageError
from runyard.text_format import bytes_text

try:
    import fcntl
except ImportError:  # Windows has no flock; there what was used within a day is kept
    fcntl = None  # type: ignore[assignment]  # the module is absent there

BYTES_MAX_DEFAULT = 50 << 30
FILL_SHARE = 0.8
"""A cache over its limit is emptied down to this share of it, so that not every download has to look."""
LEFTOVER_S = 7 * 86_400.0
"""What a process that was killed left half done goes after so long."""
CHUNK_BYTES = 1 << 20
_SECONDS_KEPT_WITHOUT_LOCKS = 86_400.0


@dataclasses.dataclass(frozen=True)
class CacheObject:
    """One content in the cache."""

    path: str
    sha256: str
    size_bytes: int
    used_s: float
    """When it was last used, Unix seconds."""


@dataclasses.dataclass(frozen=True)
class CacheInfo:
    """What the cache holds."""

    folder: str
    bytes_max: int
    object_count: int
    size_bytes: int
    oldest_use_s: float | None
    partial_count: int
    partial_bytes: int


class Lease:
    """Keeps contents used since it was taken from being removed, until it is given back or the process ends."""

    def __init__(self, folder: Path) -> None:
        self._file = -1
        self._pid = os.getpid()
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        if fcntl is not None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def close(self) -> None:
        """Gives it back."""
        file, self._file = self._file, -1
        if file >= 0 and self._pid == os.getpid():  # in a forked child it is the parent's
            with contextlib.suppress(OSError):
                self._path.unlink()
        if file >= 0:
            os.close(file)


class Cache:
    """Finds, takes and removes contents; safe with any number of processes and threads."""

    def __init__(self, root: Path, bytes_max: int = 0) -> None:
        self.root = root
        self._bytes_max = bytes_max
        self._made: set[str] = set()
        self._objects = str(root / "objects")
        try:
            for name in ("objects", "tmp", "partial", "leases"):
                (root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the cache {root} cannot be made: {error.strerror}; RUNYARD_CACHE_DIR names another folder"
            ) from error

    @property
    def bytes_max(self) -> int:
        """Returns how much it may hold."""
        if self._bytes_max:
            return self._bytes_max
        free_bytes = shutil.disk_usage(self.root).free
        return min(BYTES_MAX_DEFAULT, (free_bytes + self._usage()) // 2)

    def path_of(self, sha256: bytes) -> str:
        """Returns where the content is, or would be."""
        text = sha256.hex()
        return f"{self._objects}/{text[:2]}/{text[2:]}"

    def find(self, sha256: bytes, size_bytes: int) -> str | None:
        """Returns the path of a content, which counts as used now; None if it is not there or has another size."""
        path = self.path_of(sha256)
        try:
            status = os.stat(path)
            if status.st_size != size_bytes:
                os.unlink(path)
                return None
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        except OSError:
            return None
        return path

    def temporary(self) -> str:
        """Returns a path of a file that does not exist, on the disk of the cache."""
        return f"{self.root}/tmp/{os.getpid()}-{secrets.token_hex(8)}"

    def adopt(self, temporary: str, sha256: bytes) -> str:
        """Takes a file of the cache's own disk in as the content that it is; returns its path."""
        path = self.path_of(sha256)
        self._make_folder(path)
        os.chmod(temporary, 0o444)
        os.replace(temporary, path)
        return path

    def put(self, content: bytes, sha256: bytes) -> str:
        """Takes a small content in; returns its path."""
        found = self.find(sha256, len(content))
        if found is not None:
            return found
        temporary = self.temporary()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            file = os.open(
                temporary, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o444
            )
            try:
                if os.write(file, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(file)
            path = self.path_of(sha256)
            self._make_folder(path)
            os.replace(temporary, path)
            return path
        except OSError as error:
            _remove(temporary)
            raise self.full(error) or error from None

    def full(self, error: OSError) -> ResourceExhausted | None:
        """Returns what to raise instead of an OSError that says that the disk is full; None for another."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return None
        free_bytes = shutil.disk_usage(self.root).free
        return ResourceExhausted(
            f"the disk of the cache {self.root} is full ({bytes_text(free_bytes)} free): make room there, name another folder "
            f"(RUNYARD_CACHE_DIR), or add files with policy='immutable', which copies nothing",
            reason="DISK_FULL",
        )

    def remove(self, sha256: bytes) -> None:
        """Removes a content that has turned out to be another than its name says."""
        _remove(self.path_of(sha256))

    def lease(self) -> Lease:
        """Returns a lease: contents that are used from now on stay until it is given back."""
        return Lease(self.root / "leases")

    def note_added(self, size_bytes: int) -> None:
        """Counts bytes that were taken in; removes the contents unused for longest if there are too many now."""
        with self._usage_locked():
            total_bytes = self._usage(default=-1)
            is_known = total_bytes >= 0
            total_bytes += size_bytes
            if is_known:
                self._write_usage(total_bytes)
        if not is_known or total_bytes > self.bytes_max:
            self.evict()

    def evict(self, bytes_max: int | None = None) -> tuple[int, int]:
        """Brings the cache below a limit (its own); returns how many contents went, and their bytes."""
        limit = self.bytes_max if bytes_max is None else bytes_max
        self._remove_leftovers()
        objects = sorted(self.objects(), key=lambda one: one.used_s)
        total_bytes = sum(one.size_bytes for one in objects)
        target_bytes = limit if bytes_max is not None else int(limit * FILL_SHARE)
        count = freed_bytes = 0
        if total_bytes > limit:
            kept_since_s = self._leased_since_s()
            for one in objects:
                if total_bytes - freed_bytes <= target_bytes or one.used_s >= kept_since_s:
                    break
                if self._remove_unused(one):
                    count += 1
                    freed_bytes += one.size_bytes
        with self._usage_locked():
            self._write_usage(total_bytes - freed_bytes)
        return count, freed_bytes

    def objects(self) -> Iterator[CacheObject]:
        """Yields what there is."""
        for folder in _entries(self._objects):
            for entry in _entries(folder.path):
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                sha256 = folder.name + entry.name
                yield CacheObject(entry.path, sha256, status.st_size, status.st_atime)

    def info(self) -> CacheInfo:
        """Returns what it holds."""
        objects = list(self.objects())
        partial = [entry.stat().st_size for entry in _entries(str(self.root / "partial"))]
        return CacheInfo(
            folder=str(self.root),
            bytes_max=self.bytes_max,
            object_count=len(objects),
            size_bytes=sum(one.size_bytes for one in objects),
            oldest_use_s=min((one.used_s for one in objects), default=None),
            partial_count=len(partial),
            partial_bytes=sum(partial),
        )

    def verify(self) -> tuple[int, list[CacheObject]]:
        """Reads all that there is; returns how many contents are what their names say, and those that are not, which are removed."""
        count, damaged = 0, []
        for one in self.objects():
            try:
                is_good = file_sha256(one.path).hex() == one.sha256
            except FileNotFoundError:
                continue
            except OSError:
                is_good = False
            count += is_good
            if not is_good:
                damaged.append(one)
                _remove(one.path)
        return count, damaged

    @contextlib.contextmanager
    def partial(self, sha256: bytes) -> Iterator[str]:
        """Gives the path of the download of a content, which only the caller writes meanwhile; waits for others that do."""
        path = f"{self.root}/partial/{sha256.hex()}"
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_same(path, file):  # it was done and moved meanwhile
                    continue
                yield path
                return
            finally:
                os.close(file)

    def _remove_unused(self, one: CacheObject) -> bool:
        """Removes a content unless somebody has used it meanwhile; returns whether it went."""
        aside = self.temporary()
        try:
            os.rename(one.path, aside)
        except OSError:
            return False
        # Who finds a content touches it: what was touched before the rename is put back, and later nobody finds it.
        if os.stat(aside).st_atime > one.used_s:
            os.rename(aside, one.path)
            return False
        _remove(aside)
        return True

    def _leased_since_s(self) -> float:
        """Returns since when contents that are used stay."""
        if fcntl is None:
            return time.time() - _SECONDS_KEPT_WITHOUT_LOCKS  # type: ignore[unreachable]  # reached on Windows
        since_s = float("inf")
        for entry in _entries(str(self.root / "leases")):
            try:
                file = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                _remove(entry.path)
            except OSError:
                since_s = min(since_s, os.fstat(file).st_mtime)
            finally:
                os.close(file)
        return since_s

    def _remove_leftovers(self) -> None:
        for name in ("tmp", "partial"):
            for entry in _entries(str(self.root / name)):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > LEFTOVER_S:
                        os.unlink(entry.path)

    def _make_folder(self, path: str) -> None:
        folder = os.path.dirname(path)
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)

    @contextlib.contextmanager
    def _usage_locked(self) -> Iterator[None]:
        file = os.open(self.root / "usage.lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)  # fmt: skip
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def _usage(self, default: int = 0) -> int:
        try:
            return int(json.loads((self.root / "usage.json").read_bytes())["size_bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return default

    def _write_usage(self, size_bytes: int) -> None:
        temporary = self.temporary()
        try:
            Path(temporary).write_text(json.dumps({"version": 1, "size_bytes": max(0, size_bytes)}))
            os.replace(temporary, self.root / "usage.json")
        except OSError:  # a full disk: the next look counts anew
            _remove(temporary)


def file_sha256(path: str) -> bytes:
    """Returns the SHA-256 of a file, read in bounded memory."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _is_same(path: str, file: int) -> bool:
    try:
        there, held = os.stat(path), os.fstat(file)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
