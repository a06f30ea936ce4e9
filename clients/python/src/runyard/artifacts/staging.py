"""Takes files as they are now: hashed and copied in one pass, detecting those that change meanwhile."""

# Many small files: texts as paths and os functions cost half of what Path objects do.
# ruff: noqa: PTH105, PTH108, PTH116

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from typing import NamedTuple

from runyard.artifacts.cache import CHUNK_BYTES, Cache
from runyard.errors import FailedPrecondition, InvalidArgument

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # the module is absent there

WHOLE_BYTES_MAX = 1 << 20
"""A file up to this size is read at once, and written only if the cache lacks it."""
TRY_COUNT = 3
"""How often a file that changes while it is read is read anew."""
_FICLONE = 0x40049409
_no_reflinks: set[tuple[int, int]] = set()
"""Pairs of devices between which sharing blocks was refused."""


class Staged(NamedTuple):
    """A file as it was read."""

    sha256: bytes
    size_bytes: int
    path: str
    """Where the bytes stay: in the cache, or the file itself if it must not change."""
    stamp_ns: int
    """Time of change of the file itself."""
    added_bytes: int
    """What the cache grew by."""


class _ChangedError(Exception):
    """The file changed while it was read."""


def stage(cache: Cache, path: str, *, is_immutable: bool) -> Staged:
    """Returns the file's content, copied into the cache unless it is immutable.

    Raises FileNotFoundError and other OSErrors, InvalidArgument for what is no file, FailedPrecondition for one that goes
    on changing, ResourceExhausted for a full disk.
    """
    for _ in range(TRY_COUNT):
        with contextlib.suppress(_ChangedError):
            return _stage_once(cache, path, is_immutable=is_immutable)
    raise FailedPrecondition(
        f"{path} changed while it was read, {TRY_COUNT} times: add it when nobody writes it, or a copy of it",
        reason="FILE_CHANGED",
    )


def take_in(cache: Cache, temporary: str) -> Staged:
    """Returns a file of the cache's own disk that nobody else writes, taken into the cache; it is gone from its place."""
    stamp_ns = os.stat(temporary).st_mtime_ns
    file = _open_regular(temporary)
    try:
        sha256, size_bytes = _hash(file, -1)
    finally:
        os.close(file)
    kept = cache.find(sha256, size_bytes)
    if kept is not None:
        os.unlink(temporary)
        return Staged(sha256, size_bytes, kept, stamp_ns, 0)
    return Staged(sha256, size_bytes, cache.adopt(temporary, sha256), stamp_ns, size_bytes)


def _stage_once(cache: Cache, path: str, *, is_immutable: bool) -> Staged:
    file = _open_regular(path)
    try:
        before = os.fstat(file)
        if before.st_size <= WHOLE_BYTES_MAX:
            content = _read_whole(file, before.st_size)
            sha256 = hashlib.sha256(content).digest()
            _check_unchanged(before, os.fstat(file), len(content))
            if is_immutable:
                return Staged(sha256, len(content), path, before.st_mtime_ns, 0)
            kept = cache.find(sha256, len(content))
            if kept is not None:
                return Staged(sha256, len(content), kept, before.st_mtime_ns, 0)
            kept = cache.put(content, sha256)
            return Staged(sha256, len(content), kept, before.st_mtime_ns, len(content))
        if is_immutable:
            sha256, size_bytes = _hash(file, -1)
            _check_unchanged(before, os.fstat(file), size_bytes)
            return Staged(sha256, size_bytes, path, before.st_mtime_ns, 0)
        return _copy_in(cache, file, before)
    finally:
        os.close(file)


def _copy_in(cache: Cache, file: int, before: os.stat_result) -> Staged:
    temporary = cache.temporary()
    target = -1
    try:
        target = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)  # fmt: skip
        is_shared = share_blocks(file, target)
        sha256, size_bytes = _hash(target, -1) if is_shared else _hash(file, target)
        _check_unchanged(before, os.fstat(file), size_bytes)
        kept = cache.find(sha256, size_bytes)
        if kept is not None:
            return Staged(sha256, size_bytes, kept, before.st_mtime_ns, 0)
        return Staged(sha256, size_bytes, cache.adopt(temporary, sha256), before.st_mtime_ns, size_bytes)  # fmt: skip
    except OSError as error:
        raise cache.full(error) or error from None
    finally:
        if target >= 0:
            os.close(target)
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def share_blocks(source: int, target: int) -> bool:
    """Makes an empty file hold what another holds, without copying, where the file system can; returns whether it did."""
    if fcntl is None:
        return False  # type: ignore[unreachable]  # reached on Windows
    devices = (os.fstat(source).st_dev, os.fstat(target).st_dev)
    if devices in _no_reflinks:
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        _no_reflinks.add(devices)
        return False
    return True


def link_or_copy(source: str, target: str) -> None:
    """Gives a file a second name, or copies it where the disk cannot; raises OSError."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError:  # another disk, too many names, or a file system without them
        beside = f"{target}.new"
        try:
            shutil.copyfile(source, beside)
            os.replace(beside, target)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(beside)


def _hash(file: int, target: int) -> tuple[bytes, int]:
    """Returns SHA-256 and size of what is read, and writes it to `target` if that is no -1."""
    digest, size_bytes = hashlib.sha256(), 0
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    with open(file, "rb", buffering=0, closefd=False) as source:
        while count := source.readinto(buffer):
            digest.update(view[:count])
            size_bytes += count
            if target >= 0:
                _write_all(target, view[:count])
    return digest.digest(), size_bytes


def _write_all(file: int, content: memoryview) -> None:
    while len(content):
        content = content[os.write(file, content) :]


def _read_whole(file: int, size_bytes: int) -> bytes:
    """Returns what the file holds; one byte more than `size_bytes` if it has grown."""
    content = os.read(file, size_bytes + 1)
    while 0 < len(content) < size_bytes:
        more = os.read(file, size_bytes + 1 - len(content))
        if not more:
            break
        content += more
    return content


def _open_regular(path: str) -> int:
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # fmt: skip
    file = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise InvalidArgument(
            f"{path} is no regular file (a folder, pipe, socket or device); add_dir() takes folders",
            reason="FIELD_INVALID",
        )
    return file


def _check_unchanged(before: os.stat_result, after: os.stat_result, size_bytes: int) -> None:
    is_same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not is_same or size_bytes != after.st_size:
        raise _ChangedError
