"""A file of a run as Python reads it: what it is, and its bytes, checked."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from runyard.errors import DataLoss, NotFound, Unavailable
from runyard.records import FileRecord
from runyard.rpc import Client

DOWNLOAD_TIMEOUT_S = 60.0
DOWNLOAD_CHUNK_BYTES = 1 << 20


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
        self, root: str | Path = ".", replace: bool = False, exist_ok: bool = False
    ) -> Path:
        """Writes the file under `root` and returns its path, after checking its content; raises DataLoss if it differs."""
        target = Path(root) / self.name
        if target.exists() and not replace:
            if exist_ok:
                return target
            raise FileExistsError(f"{target} exists; replace=True overwrites it")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        try:
            self._fetch(partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _fetch(self, path: Path) -> None:
        import hashlib

        digest = hashlib.sha256()
        try:
            request = urllib.request.urlopen(self.url, timeout=DOWNLOAD_TIMEOUT_S)
            with request as reply, path.open("wb") as file:
                while chunk := reply.read(DOWNLOAD_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
        except urllib.error.HTTPError as error:
            kind = NotFound if error.code == 404 else Unavailable
            raise kind(f"the store answered {error.code} for {self.name!r}") from error
        except urllib.error.URLError as error:
            raise Unavailable(f"the store does not answer: {error.reason}") from error
        if digest.hexdigest() != self.sha256:
            raise DataLoss(
                f"{self.name!r} came with SHA-256 {digest.hexdigest()}, {self.sha256} was stored"
            )

    def __repr__(self) -> str:
        return f"<runyard file {self.name} ({self.size_bytes} bytes)>"
