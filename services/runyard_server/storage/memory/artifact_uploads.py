"""Uploads of contents and objects that wait for their removal, in memory; a part of memory/artifacts.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from runyard_server.domain.manifests import content_size
from runyard_server.storage.ports.artifacts import ContentUpload
from runyard_server.storage.ports.files import ReleasedObject


class MemoryUploads:
    """The methods of ArtifactStore on uploads and released objects."""

    def __init__(self) -> None:
        self._uploads: dict[str, ContentUpload] = {}
        self._objects: dict[tuple[str, bytes], str] = {}
        """Keys of objects by project and content, of those that have arrived."""
        self._released: dict[str, int] = {}

    async def find_contents(
        self, project_path: str, content_ids: Collection[bytes]
    ) -> dict[bytes, str | None]:
        """Returns the contents that something refers to, with the keys of their objects."""
        referred = self._referred(project_path)
        objects = self._objects_of(project_path)
        return {content: objects.get(content) for content in content_ids if content in referred}

    async def find_open_uploads(
        self, draft_id: str, content_ids: Collection[bytes]
    ) -> dict[bytes, ContentUpload]:
        """Returns the draft's uploads of these contents that are not complete, the newest of each."""
        found = [
            upload
            for upload in self._uploads.values()
            if upload.draft_id == draft_id
            and upload.content_id in content_ids
            and not upload.is_complete
        ]
        found.sort(key=lambda upload: upload.create_time_unix_ns)
        return {upload.content_id: upload for upload in found}

    async def insert_uploads(self, uploads: Sequence[ContentUpload]) -> None:
        """Adds uploads."""
        for upload in uploads:
            assert upload.upload_id not in self._uploads, "the upload id is taken"
            self._uploads[upload.upload_id] = upload

    async def renew_uploads(
        self, draft_id: str, upload_ids: Collection[str], *, time_unix_ns: int
    ) -> set[str]:
        """Makes the draft, and uploads that are not complete, as young as if made at that time."""
        self._touch_draft(draft_id, time_unix_ns)
        renewed: set[str] = set()
        for upload_id in upload_ids:
            upload = self._uploads.get(upload_id)
            if upload is not None and not upload.is_complete:
                self._uploads[upload_id] = replace(upload, create_time_unix_ns=time_unix_ns)
                renewed.add(upload_id)
        return renewed

    async def find_uploads(self, upload_ids: Collection[str]) -> list[ContentUpload]:
        """Returns the uploads that are there, complete or not."""
        return [self._uploads[one] for one in set(upload_ids) if one in self._uploads]

    async def complete_uploads(self, upload_ids: Collection[str], *, time_unix_ns: int) -> set[str]:
        """Gives contents their objects; returns the uploads whose content is there with its bytes."""
        done: set[str] = set()
        for upload_id in sorted(upload_ids):
            upload = self._uploads.get(upload_id)
            if upload is None:
                continue
            place = (upload.project_path, upload.content_id)
            if not upload.is_complete:
                is_referred = upload.content_id in self._referred(upload.project_path)
                if is_referred and place not in self._objects:
                    self._objects[place] = upload.object_key
                else:
                    self._released[upload.object_key] = upload.size_bytes
                self._uploads[upload_id] = replace(upload, is_complete=True)
                self._touch_draft(upload.draft_id, time_unix_ns)
            if place in self._objects:
                done.add(upload_id)
        return done

    async def list_uploads(self, *, created_before_unix_ns: int, limit: int) -> list[ContentUpload]:
        """Returns uploads made before that time, complete ones too, oldest first."""
        found = [
            u for u in self._uploads.values() if u.create_time_unix_ns < created_before_unix_ns
        ]
        return sorted(found, key=lambda upload: upload.create_time_unix_ns)[:limit]

    async def delete_upload(self, upload_id: str) -> None:
        """Forgets an upload; the object of one that was not complete is released."""
        upload = self._uploads.pop(upload_id, None)
        if upload is not None and not upload.is_complete:
            self._released[upload.object_key] = upload.size_bytes

    async def list_released(self, *, limit: int) -> list[ReleasedObject]:
        """Returns released objects."""
        return [ReleasedObject(key, size) for key, size in self._released.items()][:limit]

    async def confirm_released(self, object_keys: Sequence[str]) -> None:
        """Forgets released objects that are gone from the object store."""
        for key in object_keys:
            self._released.pop(key, None)

    def _objects_of(self, project_path: str) -> dict[bytes, str]:
        return {
            content: key
            for (project, content), key in self._objects.items()
            if project == project_path
        }

    def _release_unused(self) -> list[tuple[str, int]]:
        """Releases the objects of contents that nothing refers to any more, and returns their keys and sizes."""
        released: list[tuple[str, int]] = []
        for project in {project for project, _ in self._objects}:
            referred = self._referred(project)
            for content in self._objects_of(project).keys() - referred:
                key = self._objects.pop((project, content))
                self._released[key] = content_size(content)
                released.append((key, content_size(content)))
        return released

    def _referred(self, project_path: str) -> set[bytes]:
        raise NotImplementedError

    def _touch_draft(self, draft_id: str, time_unix_ns: int) -> None:
        raise NotImplementedError
