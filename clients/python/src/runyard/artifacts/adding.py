"""The part of an artifact through which a script puts things into it, before it is logged."""

# Many small files: texts as paths and os functions cost half of what Path objects do.
# ruff: noqa: PTH100, PTH108, PTH112, PTH113, PTH116, PTH119

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from runyard.artifacts import references
from runyard.artifacts.cache import Cache, Lease
from runyard.artifacts.entries import Entry, checked_path
from runyard.artifacts.staging import Staged, stage, take_in
from runyard.errors import InvalidArgument, UsageError
from runyard.given import local_path as given_path
from runyard.given import shown

POLICIES = ("mutable", "immutable")
THREAD_COUNT_MAX = 8
FEW_FILES = 32
"""Up to so many files are read one after the other."""
NOTE_BYTES = 256 << 20
"""The cache is told of what was added after so much."""


class Adding:
    """What `Artifact` offers for putting files into it; `Artifact` sets the attributes."""

    _draft: dict[str, Entry] | None
    _is_final: bool
    _cache: Cache | None = None
    _lease: Lease | None = None
    _added_bytes = 0

    def add_file(
        self,
        local_path: str | Path,
        name: str | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        *,
        overwrite: bool = False,
    ) -> Entry:
        """Adds a file as it is now and returns its entry.

        Policy "mutable" copies it, so that it may change at once; "immutable" sends the file itself, which must stay as
        it is until the artifact is a version. Raises InvalidArgument (a ValueError) if there is no such file, or if the
        name stands for another content already and `overwrite` is not set.
        """
        draft, is_immutable = self._open_draft(), _is_immutable(policy)
        path = os.path.abspath(given_path(local_path, "add_file(): local_path"))
        if not os.path.isfile(path):
            what = "is a folder; add_dir() takes folders" if os.path.isdir(path) else "is no file"
            raise InvalidArgument(
                f"add_file(): {shown(str(local_path))} {what}", reason="FILE_NOT_FOUND"
            )
        entry_path = checked_path(os.path.basename(path) if name is None else name)
        (staged,) = self._all_staged([path], is_immutable=is_immutable)
        self._note_added()
        return _put(
            draft, _entry(entry_path, staged, is_copy=not is_immutable), overwrite=overwrite
        )

    def add_dir(
        self,
        local_path: str | Path,
        name: str | None = None,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        merge: bool = False,
    ) -> None:
        """Adds all files beneath a folder, under `name` or at the top; with `merge` they may replace others.

        Links to folders are followed. Raises as `add_file` does; then nothing was added.
        """
        draft, is_immutable = self._open_draft(), _is_immutable(policy)
        root = os.path.abspath(given_path(local_path, "add_dir(): local_path"))
        if not os.path.isdir(root):
            raise InvalidArgument(
                f"add_dir(): {shown(str(local_path))} is no folder", reason="FILE_NOT_FOUND"
            )
        prefix = f"{checked_path(name)}/" if name and name not in (".", "/") else ""
        named = [(path, checked_path(prefix + below)) for path, below in _files_beneath(root)]
        added: dict[str, Entry] = {}
        all_staged = self._all_staged([path for path, _ in named], is_immutable=is_immutable)
        for (_, entry_path), staged in zip(named, all_staged):
            _put(added, _entry(entry_path, staged, is_copy=not is_immutable), overwrite=False)
        if not merge:
            for entry in added.values():
                _check_free(draft, entry)
        draft.update(added)
        self._note_added()

    def add_reference(
        self,
        uri: str | Entry,
        name: str | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
    ) -> Sequence[Entry]:
        """Adds references to s3://, gs://, http(s):// or file:// addresses: their bytes stay where they are.

        A folder or prefix gives one reference for each object beneath it, at most `max_objects` (1,000,000). With
        `checksum=False` nothing is looked at, and size and ETag stay unknown. An entry of another artifact may be given too.
        """
        draft = self._open_draft()
        if isinstance(uri, Entry):
            entries = [_borrowed(uri, checked_path(name or uri.path))]
        else:
            entries = references.reference_entries(
                uri, name, is_checked=checksum, count_max=max_objects
            )
        for entry in entries:
            _check_free(draft, entry)
        for entry in entries:
            draft[entry.path] = entry
        return entries

    @contextlib.contextmanager
    def new_file(self, name: str, mode: str = "x", encoding: str | None = None) -> Iterator[IO[Any]]:  # fmt: skip
        """Gives a file to write, which is added when the `with` block ends without an exception.

        `mode` is "x" or "w", with "b" for bytes; with "w" it may replace another of that name.
        """
        draft = self._open_draft()
        if mode.replace("b", "").replace("t", "") not in ("x", "w"):
            raise InvalidArgument(f"new_file(): mode {mode!r} is not one of x, w, xb, wb")
        entry_path = checked_path(name)
        if "x" in mode and entry_path in draft:
            raise InvalidArgument(
                f"new_file(): {entry_path!r} is in the artifact already; mode='w' replaces it"
            )
        cache = self._own_cache()
        temporary = cache.temporary()
        kind = None if "b" in mode else encoding or "utf-8"
        try:
            with Path(temporary).open(mode.replace("w", "x"), encoding=kind) as file:
                yield file
            staged = take_in(cache, temporary)
        except OSError as error:
            raise cache.full(error) or error from None
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        self._added_bytes += staged.added_bytes
        self._note_added()
        _put(draft, _entry(entry_path, staged, is_copy=True), overwrite="w" in mode)

    def add(self, obj: Any, name: str, overwrite: bool = False) -> Entry:
        """Adds a media value (a Table, an Image …) and returns the entry of its description, `NAME.KIND.json`.

        Its files come beside it, under `media/`. Raises NotOffered for what is no media value.
        """
        from runyard.artifacts.media_entries import add_media

        self._open_draft()
        return add_media(self, obj, name, overwrite=overwrite)  # type: ignore[arg-type]  # the only class that this is a part of

    def put_staged(self, path: str, staged: Staged) -> None:
        """Adds a content that is in the cache."""
        self._added_bytes += staged.added_bytes
        self._note_added()
        _put(self._open_draft(), _entry(path, staged, is_copy=True), overwrite=True)

    def remove(self, item: str | Path | Entry) -> None:
        """Takes an entry out again, or all beneath a folder; raises FileNotFoundError if there is none."""
        draft = self._open_draft()
        path = item.path if isinstance(item, Entry) else checked_path(item)
        gone = [path] if path in draft else [one for one in draft if one.startswith(f"{path}/")]
        if not gone:
            raise FileNotFoundError(f"the artifact has no {path!r}")
        for one in gone:
            del draft[one]

    def _open_draft(self) -> dict[str, Entry]:
        """Returns the entries; raises UsageError once they are final."""
        if self._draft is None or self._is_final:
            raise UsageError(
                "this artifact was logged: its files are final. new_draft() gives an artifact that begins with them"
            )
        return self._draft

    def _own_cache(self) -> Cache:
        if self._cache is None:
            from runyard.artifacts.place import own_cache

            self._cache = own_cache()
        if self._lease is None:
            self._lease = self._cache.lease()
            weakref.finalize(self, self._lease.close)
        return self._cache

    def _all_staged(self, paths: Sequence[str], *, is_immutable: bool) -> Iterator[Staged]:
        """Yields what became of each file, in order; several are read at once."""
        cache = self._own_cache()

        def some(chunk: Sequence[str]) -> list[Staged]:
            return [_staged(cache, path, is_immutable=is_immutable) for path in chunk]

        chunks = [paths[start : start + FEW_FILES] for start in range(0, len(paths), FEW_FILES)]
        if len(chunks) < 2:
            results: Iterator[list[Staged]] = map(some, chunks)
            pool = None
        else:
            pool = ThreadPoolExecutor(min(THREAD_COUNT_MAX, os.cpu_count() or 1))
            results = pool.map(some, chunks)
        try:
            for found in results:
                self._added_bytes += sum(staged.added_bytes for staged in found)
                yield from found
        finally:
            if pool is not None:
                pool.shutdown(wait=True)

    def _note_added(self, *, is_last: bool = False) -> None:
        """Tells the cache of what it grew by, now and then."""
        if self._cache is not None and self._added_bytes > (0 if is_last else NOTE_BYTES):
            added, self._added_bytes = self._added_bytes, 0
            self._cache.note_added(added)

    def _give_lease_back(self) -> None:
        self._note_added(is_last=True)
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()


def _staged(cache: Cache, path: str, *, is_immutable: bool) -> Staged:
    try:
        return stage(cache, path, is_immutable=is_immutable)
    except FileNotFoundError as error:
        raise InvalidArgument(f"there is no file {path} (any more)", reason="FILE_NOT_FOUND") from error  # fmt: skip


def _is_immutable(policy: str | None) -> bool:
    if policy not in (*POLICIES, None):
        raise InvalidArgument(f"policy {policy!r} is not one of {', '.join(POLICIES)}")
    return policy == "immutable"


def _entry(path: str, staged: Staged, *, is_copy: bool) -> Entry:
    entry = Entry(path, staged.size_bytes, staged.sha256)
    entry.local_path, entry.is_copy = staged.path, is_copy
    if not is_copy:
        entry.stamp_ns = staged.stamp_ns
    return entry


def _put(draft: dict[str, Entry], entry: Entry, *, overwrite: bool) -> Entry:
    if not overwrite:
        _check_free(draft, entry)
    draft[entry.path] = entry
    return entry


def _check_free(draft: dict[str, Entry], entry: Entry) -> None:
    known = draft.get(entry.path)
    if known is not None and known.digest != entry.digest:
        raise InvalidArgument(
            f"{entry.path!r} is in the artifact already with another content; overwrite=True (merge=True for folders) replaces it",
            reason="FIELD_INVALID",
        )


def _borrowed(entry: Entry, path: str) -> Entry:
    """Returns an entry of this artifact with the content of another's."""
    made = Entry(path, entry.size, entry.sha256, ref=entry.ref, etag=entry.etag)
    made.local_path, made.is_copy, made.stamp_ns = entry.local_path, entry.is_copy, entry.stamp_ns
    made.artifact = entry.artifact
    return made


def _files_beneath(root: str) -> list[tuple[str, str]]:
    """Returns (path, path below the root) of all files, by name; a link that leads into itself is followed once."""
    found: list[tuple[str, str]] = []
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(root, "", ())]
    while waiting:
        folder, below, above = waiting.pop()
        status = os.stat(folder)
        key = (status.st_dev, status.st_ino)
        if key in above:
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    waiting.append((entry.path, f"{below}{entry.name}/", (*above, key)))
                else:  # a link to nothing, or a pipe, is refused when it is read
                    found.append((entry.path, below + entry.name))
    found.sort(key=lambda one: one[1])
    return found
