"""A file of a run as Python reads it: what it is, and its bytes, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from runyard.downloads import download, read
from runyard.errors import NotFound
from runyard.file_names import place_beneath
from runyard.records import FileRecord
from runyard.rpc import Client


class File:
    """A file of a run."""

    def __init__(self, client: Client, run_path: str, record: FileRecord) -> None:
        self._client = client
        self._run_path = run_path
        self.record = record
        self.name = record.name
        self.size = record.size_bytes
        self.size_bytes = record.size_bytes
        self.sha256 = record.sha256
        self.content_type = record.content_type

    @property
    def url(self) -> str:
        """Returns an address of the bytes that is good for an hour."""
        return self._client.file_url(self._run_path, self.name)[1]

    def download(
        self,
        root: str | Path = ".",
        replace: bool = False,
        exist_ok: bool = False,
        told: Callable[[int], None] = lambda done_bytes: None,
    ) -> Path:
        """Writes the file under `root` and returns its path, after checking its content; raises DataLoss if it differs.

        What was there stays until the new content is whole. `told` hears how many bytes have come.
        """
        target = place_beneath(root, self.name)
        if target.exists() and not replace:
            if exist_ok:
                return target
            raise FileExistsError(f"{target} exists; replace=True overwrites it")
        download(
            self._fresh_url,
            target,
            name=self.name,
            size_bytes=self.size_bytes,
            sha256=self.sha256,
            told=told,
        )
        return target

    def read(self) -> bytes:
        """Returns the content, checked; for files that fit in memory."""
        return read(self._fresh_url, name=self.name, size_bytes=self.size_bytes, sha256=self.sha256)

    def delete(self) -> None:
        """Removes the file from the run; raises NotFound if it is gone already."""
        deleted_count, _ = self._client.delete_files(self._run_path, [self.name])
        if not deleted_count:
            raise NotFound(
                f"run {self._run_path} has no file {self.name!r} any more", reason="FILE_NOT_FOUND"
            )

    def _fresh_url(self) -> str:
        """Returns an address of the bytes; raises NotFound if the name holds another content by now."""
        record, url = self._client.file_url(self._run_path, self.name)
        if record.sha256 != self.sha256:
            raise NotFound(
                f"{self.name!r} of run {self._run_path} has another content since it was read; read it again",
                reason="FILE_NOT_FOUND",
            )
        return url

    def __repr__(self) -> str:
        return f"<runyard file {self.name} ({self.size_bytes} bytes)>"
