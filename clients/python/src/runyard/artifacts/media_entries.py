"""Media values in artifacts: their files, and a description beside them by which they are found again.

NAME.KIND.json            {"version": 1, "kind": KIND, "item": {…}}, as docs/media.md describes items
media/KIND/<digest>.EXT   the files that the item names, each once
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard import extended_json
from runyard.artifacts.staging import take_in
from runyard.errors import InvalidArgument, NotOffered

if TYPE_CHECKING:
    from runyard.artifacts.artifact import Artifact
    from runyard.artifacts.entries import Entry
    from runyard.media.value import Content

DIGEST_DIGITS = 20
JSON_TYPES = ("list", "object", "media")
"""Types of columns whose cells are stored as JSON."""


def add_media(artifact: Artifact, value: Any, name: str, *, overwrite: bool) -> Entry:
    """Adds a media value and returns the entry of its description; raises NotOffered for what is none."""
    from runyard.media.value import Media, resolved

    if not isinstance(value, Media):
        raise NotOffered(
            f"add(): a {type(value).__name__} is no media value (Table, Image, Audio, Video, Html, Histogram, a plot); "
            f"add_file() and new_file() take files"
        )

    def store(content: Content) -> Mapping[str, Any]:
        return _stored(artifact, content, value.kind, store)

    item = resolved(value.item(), store)
    text = extended_json.dumps(
        {"version": 1, "kind": value.kind, "item": extended_json.plain(item)}
    )
    path = _path_of(name, value.kind)
    with artifact.new_file(path, "w" if overwrite else "x") as file:
        file.write(text)
    return artifact.get_entry(path)


def get_table(artifact: Artifact, name: str) -> Any:
    """Returns the table that was added under the name; None if there is none. Cells of media come as what describes them."""
    path = _path_of(name, "table")
    try:
        told = extended_json.loads(_local(artifact, path).read_text("utf-8"))
    except KeyError:
        return None
    from runyard.media.libraries import load
    from runyard.media.table import Table

    parquet = load("pyarrow.parquet", extra="tables", what="Artifact.get()")
    item = told["item"]
    found = parquet.read_table(_local(artifact, item["file"]))
    columns = []
    for described in item["columns"]:
        cells = found.column(described["name"]).to_pylist()
        if described["type"] in JSON_TYPES:
            cells = [None if cell is None else extended_json.loads(cell) for cell in cells]
        columns.append(cells)
    names = [described["name"] for described in item["columns"]]
    return Table(columns=names, data=[list(row) for row in zip(*columns)], allow_mixed_types=True)


def _stored(artifact: Artifact, content: Content, kind: str, store: Any) -> dict[str, Any]:
    cache = artifact._own_cache()
    temporary = Path(cache.temporary())
    try:
        size_bytes, sha256 = content.write(temporary, store)
        staged = take_in(cache, str(temporary))
    except OSError as error:
        raise cache.full(error) or error from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    path = f"media/{kind}/{sha256[:DIGEST_DIGITS]}.{content.extension}"
    artifact.put_staged(path, staged)
    return {"file": path, "format": content.extension, "size_bytes": size_bytes, "sha256": sha256}


def _local(artifact: Artifact, path: str) -> Path:
    """Returns where the bytes of an entry are, after fetching them if need be."""
    entry = artifact.get_entry(path)
    if entry.local_path and os.path.exists(entry.local_path):  # noqa: PTH110 (a text)
        return Path(entry.local_path)
    return Path(entry.download())


def _path_of(name: str, kind: str) -> str:
    if not name:
        raise InvalidArgument(f"add(): {name!r} is no name")
    ending = f".{kind}.json"
    return name if name.endswith(ending) else name + ending
