"""The reference of FileStore: dictionaries; what the SQL adapter is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.files import (
    HIDDEN_NAMES_END,
    FilesFreed,
    ReleasedObject,
    StoredFile,
    Upload,
)


class MemoryFileStore:
    """Keeps names and uploads in memory."""

    def __init__(self) -> None:
        self._files: dict[tuple[RunKey, str], StoredFile] = {}
        self._uploads: dict[str, Upload] = {}
        self._released: dict[str, ReleasedObject] = {}
        self._purged: dict[RunKey, FilesFreed] = {}

    async def find_file(self, run_key: RunKey, name: str) -> StoredFile | None:
        """Returns the file of that name, or None."""
        return self._files.get((run_key, name))

    async def find_present(
        self, run_key: RunKey, contents: Sequence[tuple[str, bytes]]
    ) -> list[StoredFile | None]:
        """Returns for each name and SHA-256 the file of that name if it has that content, else any file that has, else None."""
        found: list[StoredFile | None] = []
        for name, sha256 in contents:
            same = [f for f in self._files.values() if (f.run_key, f.sha256) == (run_key, sha256)]
            named = [file for file in same if file.name == name]
            found.append(next(iter(named or same), None))
        return found

    async def list_files(
        self, run_key: RunKey, *, prefix: str, after_name: str, limit: int
    ) -> list[StoredFile]:
        """Returns files by the bytes of their names."""
        found = [f for f in self._under(run_key, prefix) if f.name.encode() > after_name.encode()]
        return sorted(found, key=lambda file: file.name.encode())[:limit]

    async def count_files(self, run_key: RunKey, *, prefix: str) -> tuple[int, int]:
        """Returns how many files there are under the prefix, and their bytes together."""
        found = self._under(run_key, prefix)
        return len(found), sum(file.size_bytes for file in found)

    async def link_file(self, file: StoredFile) -> bool:
        """Gives an object that is in use a further name; False if it is not in use."""
        if all(other.object_key != file.object_key for other in self._files.values()):
            return False
        self._set(file)
        return True

    async def insert_uploads(self, uploads: Sequence[Upload]) -> None:
        """Adds uploads."""
        for upload in uploads:
            assert upload.upload_id not in self._uploads, "the upload id is taken"
            self._uploads[upload.upload_id] = upload

    async def find_uploads(self, upload_ids: Sequence[str]) -> list[Upload | None]:
        """Returns each upload, completed or not, or None."""
        return [self._uploads.get(upload_id) for upload_id in upload_ids]

    async def find_open_upload(
        self, run_key: RunKey, name: str, sha256: bytes, *, part_count: int
    ) -> Upload | None:
        """Returns the newest upload of that name, content and number of parts that was not completed, or None."""
        wanted = (run_key, name, sha256, part_count)
        found = [
            upload
            for upload in self._uploads.values()
            if (upload.run_key, upload.name, upload.sha256, upload.part_count) == wanted
            and upload.completed_file is None
        ]
        return max(found, key=lambda upload: upload.create_time_unix_ns, default=None)

    async def renew_upload(self, upload_id: str, *, time_unix_ns: int) -> bool:
        """Makes an upload that was not completed as young as one made at that time; False if there is none such."""
        upload = self._uploads.get(upload_id)
        if upload is None or upload.completed_file is not None:
            return False
        self._uploads[upload_id] = replace(upload, create_time_unix_ns=time_unix_ns)
        return True

    async def complete_uploads(
        self, upload_ids: Sequence[str], *, time_unix_ns: int
    ) -> list[StoredFile | None]:
        """Makes each upload's file visible and returns it; a repeat returns the first answer."""
        return [self._complete(upload_id, time_unix_ns) for upload_id in upload_ids]

    def _complete(self, upload_id: str, time_unix_ns: int) -> StoredFile | None:
        upload = self._uploads.get(upload_id)
        if upload is None:
            return None
        if upload.completed_file is not None:
            return upload.completed_file
        file = StoredFile(
            run_key=upload.run_key,
            name=upload.name,
            object_key=upload.object_key,
            size_bytes=upload.size_bytes,
            sha256=upload.sha256,
            content_type=upload.content_type,
            update_time_unix_ns=time_unix_ns,
        )
        self._set(file)
        self._uploads[upload_id] = replace(upload, completed_file=file)
        return file

    async def delete_files(
        self, run_key: RunKey, names: Sequence[str]
    ) -> tuple[list[StoredFile], list[ReleasedObject]]:
        """Removes the names that exist and returns what they were, and the objects that lost their last name."""
        removed, released = [], []
        for name in sorted(set(names)):
            file = self._files.pop((run_key, name), None)
            if file is not None:
                removed.append(file)
                if self._release_unused(file):
                    released.append(self._released[file.object_key])
        return removed, released

    async def purge_files(self, run_key: RunKey, *, limit: int) -> tuple[int, list[ReleasedObject]]:
        """Removes names of the run, counts them as purged, and returns how many it were, and the released objects."""
        names = sorted(name for key, name in self._files if key == run_key)[:limit]
        removed, released = await self.delete_files(run_key, names)
        before = self._purged.get(run_key, FilesFreed())
        self._purged[run_key] = FilesFreed(
            before.files + len(removed),
            before.objects + len(released),
            before.bytes + sum(item.size_bytes for item in released),
        )
        return len(removed), released

    async def read_purge(self, run_key: RunKey) -> FilesFreed:
        """Returns what purge_files has removed of the run so far."""
        return self._purged.get(run_key, FilesFreed())

    async def list_run_uploads(self, run_key: RunKey, *, limit: int) -> list[Upload]:
        """Returns uploads of the run, completed ones too."""
        return [upload for upload in self._uploads.values() if upload.run_key == run_key][:limit]

    async def list_uploads(self, *, created_before_unix_ns: int, limit: int) -> list[Upload]:
        """Returns uploads made before that time, oldest first."""
        found = [
            u for u in self._uploads.values() if u.create_time_unix_ns < created_before_unix_ns
        ]
        return sorted(found, key=lambda upload: upload.create_time_unix_ns)[:limit]

    async def delete_upload(self, upload_id: str) -> None:
        """Forgets an upload; the object of one that was not completed is released."""
        upload = self._uploads.pop(upload_id, None)
        if upload is not None and upload.completed_file is None:
            self._released[upload.object_key] = ReleasedObject(upload.object_key, upload.size_bytes)

    async def list_released(self, *, limit: int) -> list[ReleasedObject]:
        """Returns released objects."""
        return list(self._released.values())[:limit]

    async def confirm_released(self, object_keys: Sequence[str]) -> None:
        """Forgets released objects."""
        for key in object_keys:
            self._released.pop(key, None)

    def _under(self, run_key: RunKey, prefix: str) -> list[StoredFile]:
        return [
            file
            for (owner, name), file in self._files.items()
            if owner == run_key and name.startswith(prefix) and (prefix or name > HIDDEN_NAMES_END)
        ]

    def _set(self, file: StoredFile) -> None:
        old = self._files.get((file.run_key, file.name))
        self._files[file.run_key, file.name] = file
        if old is not None:
            self._release_unused(old)

    def _release_unused(self, old: StoredFile) -> bool:
        is_used = any(file.object_key == old.object_key for file in self._files.values())
        if not is_used:
            self._released[old.object_key] = ReleasedObject(old.object_key, old.size_bytes)
        return not is_used
