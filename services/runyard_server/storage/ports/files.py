"""Promises of the store of file names: which object holds the bytes of which name, and which uploads are on their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from runyard_server.domain.run import RunKey

HIDDEN_NAMES_END: Final = "\x1f"
"""Names up to this one begin with a control character. They are the server's own, and are listed only under a prefix that does too."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One name of a run and the object that holds its bytes. Several names may share an object."""

    run_key: RunKey
    name: str
    object_key: str
    size_bytes: int
    sha256: bytes
    content_type: str
    update_time_unix_ns: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way: announced, not yet visible."""

    upload_id: str
    run_key: RunKey
    name: str
    object_key: str
    size_bytes: int
    sha256: bytes
    content_type: str
    part_bytes: int
    part_count: int
    part_md5s: tuple[bytes, ...]
    """MD5 of each part, 16 bytes each; empty if none were announced."""
    multipart_id: str
    """Id of the object store's multipart upload; empty for a single PUT."""
    create_time_unix_ns: int
    completed_file: StoredFile | None = None
    """The file as CompleteUpload answered it first; a repeat gets the same."""


@dataclass(frozen=True, slots=True)
class ReleasedObject:
    """An object that no file refers to any more; it waits in the store until it is confirmed gone."""

    object_key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FilesFreed:
    """What a purge removed of a run's files: names, objects that lost their last name, and their bytes."""

    files: int = 0
    objects: int = 0
    bytes: int = 0


class FileStore(Protocol):
    """Keeps names, uploads, and released objects. Each call is one transaction. Raises Unavailable if it does not answer."""

    async def find_file(self, run_key: RunKey, name: str) -> StoredFile | None:
        """Returns the file of that name, or None."""
        ...

    async def find_present(
        self, run_key: RunKey, contents: Sequence[tuple[str, bytes]]
    ) -> list[StoredFile | None]:
        """Returns for each name and SHA-256 the file of that name if it has that content, else any file that has, else None."""
        ...

    async def list_files(
        self, run_key: RunKey, *, prefix: str, after_name: str, limit: int
    ) -> list[StoredFile]:
        """Returns files whose names begin with `prefix`, by the bytes of their names, those after `after_name`."""
        ...

    async def count_files(self, run_key: RunKey, *, prefix: str) -> tuple[int, int]:
        """Returns how many files there are under the prefix, and their bytes together."""
        ...

    async def link_file(self, file: StoredFile) -> bool:
        """Gives an object that is in use a further name, in place of what the name held; False if it is not in use.

        An object that loses its last name by this is released.
        """
        ...

    async def insert_uploads(self, uploads: Sequence[Upload]) -> None:
        """Adds uploads."""
        ...

    async def find_uploads(self, upload_ids: Sequence[str]) -> list[Upload | None]:
        """Returns each upload, completed or not, or None."""
        ...

    async def find_open_upload(
        self, run_key: RunKey, name: str, sha256: bytes, *, part_count: int
    ) -> Upload | None:
        """Returns the newest upload of that name, content and number of parts that was not completed, or None."""
        ...

    async def renew_upload(self, upload_id: str, *, time_unix_ns: int) -> bool:
        """Makes an upload that was not completed as young as one made at that time; False if there is none such."""
        ...

    async def complete_uploads(
        self, upload_ids: Sequence[str], *, time_unix_ns: int
    ) -> list[StoredFile | None]:
        """Makes each upload's file visible, in place of what the name held, and returns it; None if there is no such upload.

        A repeat MUST return the first answer and change nothing. An object that loses its last name is released.
        """
        ...

    async def delete_files(
        self, run_key: RunKey, names: Sequence[str]
    ) -> tuple[list[StoredFile], list[ReleasedObject]]:
        """Removes the names that exist; returns what they were, and the objects that lost their last name and are released."""
        ...

    async def purge_files(self, run_key: RunKey, *, limit: int) -> tuple[int, list[ReleasedObject]]:
        """Removes up to `limit` names of the run and counts them as purged, in one step.

        Returns how many it were, and the objects that lost their last name and are released.
        """
        ...

    async def read_purge(self, run_key: RunKey) -> FilesFreed:
        """Returns what purge_files has removed of the run so far."""
        ...

    async def list_run_uploads(self, run_key: RunKey, *, limit: int) -> list[Upload]:
        """Returns uploads of the run, completed ones too, in any order."""
        ...

    async def list_uploads(self, *, created_before_unix_ns: int, limit: int) -> list[Upload]:
        """Returns uploads made before that time, completed ones too, oldest first."""
        ...

    async def delete_upload(self, upload_id: str) -> None:
        """Forgets an upload; if it was not completed, its object is released in the same step. Safe to repeat."""
        ...

    async def list_released(self, *, limit: int) -> list[ReleasedObject]:
        """Returns released objects, in no order that means anything."""
        ...

    async def confirm_released(self, object_keys: Sequence[str]) -> None:
        """Forgets released objects that are gone from the object store."""
        ...
