"""Media: what all kinds of media values share, and what becomes of their bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

from runyard import extended_json, given
from runyard.errors import InvalidArgument

CAPTION_BYTES_MAX = 4 << 10
COPY_BYTES = 1 << 20


class Content:
    """Bytes that become a file of the run: held in memory, or those of a file that stays where it is."""

    def __init__(self, extension: str, source: bytes | Path) -> None:
        self.extension = extension
        self._source = source

    def write(self, path: Path, store: Store) -> tuple[int, str]:
        """Writes the bytes to a new file; returns how many, and their SHA-256. Raises OSError."""
        digest = hashlib.sha256()
        size_bytes = 0
        with path.open("xb") as file:
            for part in self._parts(store):
                digest.update(part)
                size_bytes += len(part)
                file.write(part)
        return size_bytes, digest.hexdigest()

    def copied(self, path: Path) -> None:
        """Writes the bytes to a file; for the user's own use."""
        if isinstance(self._source, bytes):
            path.write_bytes(self._source)
        else:
            shutil.copyfile(self._source, path)

    def _parts(self, store: Store) -> Iterator[bytes]:
        if isinstance(self._source, bytes):
            yield self._source
            return
        with self._source.open("rb") as file:
            while part := file.read(COPY_BYTES):
                yield part


Store = Callable[[Content], Mapping[str, Any]]
"""Makes content a file of the run; returns the fields that say so: file, format, size_bytes, sha256."""

Item = dict[str, Any]
"""What is told of one value (docs/media.md); in place of a file's name stands its Content."""


class Media:
    """A value that log() takes besides numbers. One object may be logged many times."""

    kind = ""
    """As in the journal's record MEDIA: image, audio, video, html, table, histogram or plot."""
    is_single = False
    """Whether one name takes one of them only, and no list."""

    def item(self) -> Item:
        """Returns what is told of the value as it is now; raises Error for what cannot be logged."""
        raise NotImplementedError


def checked_caption(caption: object, what: str) -> str:
    """Returns the caption, "" for none; raises InvalidArgument if it is too long."""
    text = "" if caption is None else extended_json.plain(str(caption))
    size_bytes = len(text.encode())
    if size_bytes > CAPTION_BYTES_MAX:
        raise InvalidArgument(
            f"{what}: the caption has {size_bytes} bytes, at most {CAPTION_BYTES_MAX} are allowed",
            reason="FIELD_TOO_LARGE",
        )
    return str(text)


def existing_path(value: str | os.PathLike[str], what: str) -> Path:
    """Returns the absolute path of a file that is there; raises InvalidArgument that says what is wrong."""
    if str(value).partition("://")[0] in ("http", "https", "s3", "gs"):
        raise InvalidArgument(
            f"{what}: {given.shown(value)} is an address; download it and give the file"
        )
    try:
        path = Path(value).expanduser().absolute()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long; a NUL; ~ of nobody
        raise InvalidArgument(f"{what}: {given.shown(value)} is no path: {error}"[:400]) from None
    if not is_file:
        problem = "is a folder" if is_folder else "does not exist"
        raise InvalidArgument(f"{what}: the file {path} {problem}")
    if path.stat().st_size == 0:
        raise InvalidArgument(f"{what}: the file {path} is empty")
    return path


def resolved(item: Any, store: Store) -> Any:
    """Returns the item as it is told: every Content is stored, and its place taken by what names it.

    A `file` brings its format, size and SHA-256 with it; elsewhere the name alone stands.
    """
    if isinstance(item, dict):
        told: dict[str, Any] = {}
        for key, value in item.items():
            if isinstance(value, Content):
                fields = store(value)
                if key == "file":
                    told.update(fields)
                else:
                    told[key] = fields["file"]
            else:
                told[key] = resolved(value, store)
        return told
    if isinstance(item, list):
        return [resolved(value, store) for value in item]
    return item
