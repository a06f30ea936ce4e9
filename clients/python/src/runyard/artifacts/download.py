"""Brings the files of a version to this disk: from the cache or the object store, several at once, each checked by its SHA-256."""

# Many small files: texts as paths and os functions cost half of what Path objects do.
# ruff: noqa: PTH100, PTH103, PTH105, PTH106, PTH108, PTH113, PTH116, PTH118, PTH120

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from runyard.artifacts import references
from runyard.artifacts.cache import CHUNK_BYTES, Cache, file_sha256
from runyard.artifacts.entries import Entry, path_problem
from runyard.artifacts.object_reader import ObjectReader
from runyard.artifacts.place import own_cache, own_settings
from runyard.artifacts.staging import share_blocks
from runyard.errors import ContentMismatch, DataLoss, NotFound, ResourceExhausted

if TYPE_CHECKING:
    from runyard.artifacts.artifact import Artifact

THREAD_COUNT = 8
WAITING_COUNT_MAX = 256
"""Files that were told of and are not done yet; more are listed when some are."""
SMALL_BYTES = 1 << 20
"""A content up to this size is fetched into memory."""
SHOWN_MAX = 10


def fetch(
    artifact: Artifact,
    root: Any,
    *,
    prefix: str = "",
    is_cached: bool = True,
    is_reference_optional: bool = False,
) -> str:
    """Writes the files whose paths begin so, and returns their folder; see Artifact.download."""
    folder = _folder(artifact, root)
    os.makedirs(folder, exist_ok=True)
    fetcher = _Fetcher(
        artifact, folder, is_cached=is_cached, is_reference_optional=is_reference_optional
    )
    remote = artifact._remote()
    count = fetcher.all(remote.located(prefix))
    if prefix and not count:
        raise NotFound(f"{artifact.name} has nothing whose path begins with {prefix!r}")
    return folder


def fetch_one(artifact: Artifact, entry: Entry, root: Any, *, is_cached: bool = True) -> str:
    """Writes one file and returns its path."""
    folder = _folder(artifact, root)
    os.makedirs(folder, exist_ok=True)
    fetcher = _Fetcher(artifact, folder, is_cached=is_cached)
    fetcher.all([(entry, "")])
    return os.path.join(folder, *entry.path.split("/"))


def check_out(artifact: Artifact, root: Any) -> str:
    """Writes all files and removes all else under the folder."""
    folder = fetch(artifact, root)
    wanted = {entry.path for entry in artifact}
    for path, below in list(_beneath(folder)):
        if below not in wanted:
            os.unlink(path)
    for parent, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # it still holds something
            if parent != folder:
                os.rmdir(parent)
    return folder


def verify(artifact: Artifact, root: Any) -> None:
    """Raises ContentMismatch unless the folder holds the files of the version and nothing else."""
    folder = _folder(artifact, root)
    entries = {entry.path: entry for entry in artifact}
    with ThreadPoolExecutor(min(THREAD_COUNT, os.cpu_count() or 1)) as pool:
        problems = [one for one in pool.map(lambda e: _problem(folder, e), entries.values()) if one]
    there = {below for _, below in _beneath(folder)}
    problems += [f"{below} is not of the artifact" for below in sorted(there.difference(entries))]
    if problems:
        more = f" (and {len(problems) - SHOWN_MAX} more)" if len(problems) > SHOWN_MAX else ""
        raise ContentMismatch(
            f"{folder} is not {artifact.name}: {'; '.join(problems[:SHOWN_MAX])}{more}",
            reason="FILE_CONTENT_MISMATCH",
        )


class _Fetcher:
    """Writes files of one version into one folder."""

    def __init__(
        self,
        artifact: Artifact,
        folder: str,
        *,
        is_cached: bool,
        is_reference_optional: bool = False,
    ) -> None:
        self._artifact = artifact
        self._folder = folder
        self._is_reference_optional = is_reference_optional
        self._cache: Cache | None = own_cache(artifact._settings) if is_cached else None
        self._reader = ObjectReader()
        self._made: set[str] = set()
        self._lock = threading.Lock()
        self._added_bytes = 0

    def all(self, located: Iterable[tuple[Entry, str]]) -> int:
        """Writes all of them and returns how many there were; raises the first failure, after those that were begun."""
        lease = self._cache.lease() if self._cache is not None else None
        pool = ThreadPoolExecutor(THREAD_COUNT, thread_name_prefix="runyard-get")
        waiting: list[Future[None]] = []
        count = 0
        try:
            for entry, url in located:
                count += 1
                waiting.append(pool.submit(self._write, entry, url))
                if len(waiting) >= WAITING_COUNT_MAX:
                    for done in waiting[: WAITING_COUNT_MAX // 2]:
                        done.result()
                    del waiting[: WAITING_COUNT_MAX // 2]
            for done in waiting:
                done.result()
        finally:
            for left in waiting:
                left.cancel()
            pool.shutdown(wait=True)
            self._reader.close()
            if lease is not None:
                lease.close()
            if self._cache is not None and self._added_bytes:
                self._cache.note_added(self._added_bytes)
        return count

    def _write(self, entry: Entry, url: str) -> None:
        problem = path_problem(entry.path)
        if problem:
            raise DataLoss(f"{self._artifact.name} tells of a path {entry.path[:200]!a} that {problem}; nothing was written there")  # fmt: skip
        target = os.path.join(self._folder, *entry.path.split("/"))
        if entry.ref:
            self._write_reference(entry, target)
        elif not _is_content(target, entry):
            self._make_folder(target)
            self._write_content(entry, target, url)

    def _write_content(self, entry: Entry, target: str, url: str) -> None:
        cache = self._cache
        while cache is not None:
            kept = cache.find(entry.sha256, entry.size)
            if kept is None:
                break
            if _copy_checked(kept, target, entry.sha256):
                return
            cache.remove(entry.sha256)  # damaged: fetched anew

        def fresh_url() -> str:
            return str(self._artifact._remote().url_of(entry.path))

        if entry.size <= SMALL_BYTES:
            content = self._reader.content(entry, url or fresh_url(), fresh_url)
            if cache is not None:
                with contextlib.suppress(
                    ResourceExhausted
                ):  # the file itself may be on another disk
                    cache.put(content, entry.sha256)
                    self._count_added(entry.size)
            with _replaced(target) as file:
                _write_all(file, content)
        elif cache is None:
            with _replaced(target) as file:
                self._reader.fetch(entry, url or fresh_url(), fresh_url, file)
        else:
            self._write_large(entry, target, url or fresh_url(), fresh_url)

    def _write_large(
        self, entry: Entry, target: str, url: str, fresh_url: Callable[[], str]
    ) -> None:
        """Writes a content through the cache, where a download that was cut goes on."""
        cache = self._cache
        assert cache is not None
        with cache.partial(entry.sha256) as partial:
            kept = cache.find(entry.sha256, entry.size)  # another may have fetched it meanwhile
            if kept is None:
                file = os.open(partial, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
                try:
                    self._reader.fetch(entry, url, fresh_url, file)
                except OSError as error:
                    raise cache.full(error) or error from None
                finally:
                    os.close(file)
                kept = cache.adopt(partial, entry.sha256)
                self._count_added(entry.size)
            else:
                os.unlink(partial)
        if not _copy_checked(kept, target, entry.sha256):
            cache.remove(entry.sha256)
            with _replaced(target) as file:
                self._reader.fetch(entry, fresh_url(), fresh_url, file)

    def _write_reference(self, entry: Entry, target: str) -> None:
        try:
            self._make_folder(target)
            digest, size_bytes = hashlib.sha256(), 0
            with _replaced(target) as file:
                for chunk in references.read_target(entry):
                    digest.update(chunk)
                    size_bytes += len(chunk)
                    _write_all(file, chunk)
                is_same_size = not entry.etag or size_bytes == entry.size or not entry.size
                if not (is_same_size and references.is_target(entry, digest.hexdigest())):
                    raise ContentMismatch(
                        f"{entry.ref} is not what {self._artifact.name} referred to: it has changed since",
                        reason="FILE_CONTENT_MISMATCH",
                    )
        except NotFound:
            if not self._is_reference_optional:
                raise

    def _make_folder(self, target: str) -> None:
        folder = os.path.dirname(target)
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)

    def _count_added(self, size_bytes: int) -> None:
        with self._lock:
            self._added_bytes += size_bytes


def _folder(artifact: Artifact, root: Any) -> str:
    """Returns where the files go."""
    if root is not None:
        return str(os.path.abspath(os.fspath(root)))
    settings = artifact._settings or own_settings()
    name = artifact.name if os.name != "nt" else artifact.name.replace(":", "-")
    return str(Path(str(settings.artifact_dir)).expanduser().absolute() / name)


def _problem(folder: str, entry: Entry) -> str:
    """Returns what is wrong with a file of the folder, "" if nothing is."""
    path = os.path.join(folder, *entry.path.split("/"))
    try:
        if entry.ref:
            is_known = os.path.isfile(path) and entry.etag.startswith("sha256:")
            is_right = not is_known or references.is_target(entry, file_sha256(path).hex())
        else:
            is_right = _is_content(path, entry)
            if not is_right and not os.path.isfile(path):
                return f"{entry.path} is missing"
    except OSError as error:
        return f"{entry.path} cannot be read ({error.strerror})"
    return "" if is_right else f"{entry.path} has another content"


def _is_content(path: str, entry: Entry) -> bool:
    """Returns whether the file holds just these bytes."""
    try:
        if os.stat(path).st_size != entry.size:
            return False
        return file_sha256(path) == entry.sha256
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


def _copy_checked(source: str, target: str, sha256: bytes) -> bool:
    """Copies a file, sharing its blocks where the disk can; returns False, with nothing written, if it is another content."""
    digest = hashlib.sha256()
    try:
        file = os.open(source, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        with _replaced(target) as made:
            is_shared = share_blocks(file, made)
            while chunk := os.read(file, CHUNK_BYTES):
                digest.update(chunk)
                if not is_shared:
                    _write_all(made, chunk)
            if digest.digest() != sha256:
                raise _DamagedError
    except _DamagedError:
        return False
    finally:
        os.close(file)
    return True


class _DamagedError(Exception):
    """A content in the cache is not what its name says."""


@contextlib.contextmanager
def _replaced(target: str) -> Iterator[int]:
    """Gives a new file that takes the place of the target, whole, when the block ends without an exception."""
    beside = os.path.join(os.path.dirname(target), f".runyard-{secrets.token_hex(8)}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)  # fmt: skip
    file = os.open(beside, flags, 0o666)
    try:
        try:
            yield file
        finally:
            os.close(file)
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while len(view):
        view = view[os.write(file, view) :]


def _beneath(folder: str) -> Iterator[tuple[str, str]]:
    """Yields (path, path below the folder) of all files."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            yield path, os.path.relpath(path, folder).replace(os.sep, "/")
