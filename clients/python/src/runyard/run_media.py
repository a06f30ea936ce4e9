"""Records media of a run: bytes as files of the run's folder, and a MEDIA frame behind the FILE frames that name them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard import extended_json
from runyard import journal_format as form

if TYPE_CHECKING:
    from runyard.media.logged import LoggedMedia
    from runyard.media.value import Content
    from runyard.run_records import RunRecords

LAST_COUNT_MAX = 1_000
"""Names whose last value is remembered for run.summary."""


class RunMedia:
    """Takes what log() was given besides numbers. `folder`: that of the run's files; None where nothing is kept."""

    def __init__(self, records: RunRecords, folder: Path | None) -> None:
        self.last: dict[str, dict[str, Any]] = {}
        """By name what was logged last, for run.summary."""
        self._records = records
        self._folder = folder
        self._written: set[str] = set()
        self._numbers = itertools.count()

    def prepare(self, name: str, value: object) -> LoggedMedia | None:
        """Returns the value, checked, if it is media; raises Error for what cannot be logged. Nothing is recorded yet."""
        from runyard.media.logged import logged_media

        return logged_media(name, value)

    def record(self, media: Sequence[LoggedMedia], step: int, time_unix_ns: int) -> None:
        """Writes files and frames; warns once where the disk refuses, and goes on."""
        for one in media:
            try:
                fields = self._stored(one, step)
            except OSError as error:
                self._records.warn(
                    "media",
                    f"log(): {one.name!r} cannot be kept: {error}. Training goes on; media that the disk refuses are lost",
                )
                continue
            self._remember(one, step, fields)
            frame = {"step": step, "time_unix_ns": time_unix_ns, "name": one.name}
            self._records.write(form.MEDIA, {**frame, "kind": one.kind, **fields})

    def _stored(self, media: LoggedMedia, step: int) -> dict[str, Any]:
        """Returns what the frame tells of the value, once its files are there. Raises OSError."""
        from runyard.media.value import resolved

        if media.kind == "histogram":
            return {"histogram": media.items[0]}
        if self._folder is None:
            return {"items": []}

        def store(content: Content) -> Mapping[str, Any]:
            return self._store(content, media, step)

        return {"items": resolved(media.items, store)}

    def _store(self, content: Content, media: LoggedMedia, step: int) -> dict[str, Any]:
        """Makes the bytes a file of the run, unless it has them under that name, and has it uploaded."""
        from runyard.media.logged import file_name

        folder = self._folder
        assert folder is not None
        new_path = folder / f".media-{next(self._numbers)}.new"
        try:
            size_bytes, sha256 = content.write(
                new_path, lambda inner: self._store(inner, media, step)
            )
            name = file_name(media.kind, media.name, step, sha256, content.extension)
            if name not in self._written:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                new_path.replace(path)
                self._written.add(name)
                self._records.write_file(path, name, "now", is_copy=True)
        finally:
            new_path.unlink(missing_ok=True)
        extension = content.extension
        return {"file": name, "format": extension, "size_bytes": size_bytes, "sha256": sha256}

    def _remember(self, media: LoggedMedia, step: int, fields: Mapping[str, Any]) -> None:
        if media.name not in self.last and len(self.last) >= LAST_COUNT_MAX:
            return
        told: dict[str, Any] = {"_type": media.kind, "step": step}
        if media.kind == "histogram":
            told.update(fields["histogram"])
        elif media.is_list:
            told.update(count=len(media.items), items=fields["items"])
        elif fields["items"]:
            told.update(fields["items"][0])
        self.last[media.name] = extended_json.plain(told)
