"""Uploads of contents over SQL, and objects that wait for their removal; a part of sql/artifacts.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from runyard_server.storage.ports.artifacts import ContentUpload
from runyard_server.storage.ports.files import ReleasedObject
from runyard_server.storage.sql.artifact_counts import (
    find_project,
    lock_project,
    read_objects,
    release_objects,
    slices,
)
from runyard_server.storage.sql.artifact_drafts import DraftTables
from runyard_server.storage.sql.artifact_schema import (
    artifact_projects,
    content_uploads,
    contents,
    drafts,
    released_objects,
)

_MD5_BYTES = 16
_ROWS = select(content_uploads, artifact_projects.c.project_path).join(
    artifact_projects, artifact_projects.c.project_key == content_uploads.c.project_key
)


class UploadTables(DraftTables):
    """The methods of ArtifactStore on uploads and released objects."""

    async def find_contents(
        self, project_path: str, content_ids: Collection[bytes]
    ) -> dict[bytes, str | None]:
        """Returns the contents that something refers to, with the keys of their objects."""

        def find(connection: Connection) -> dict[bytes, str | None]:
            key = find_project(connection, project_path)
            return {} if key is None else read_objects(connection, key, content_ids)

        return await self._database.transact(find)

    async def find_open_uploads(
        self, draft_id: str, content_ids: Collection[bytes]
    ) -> dict[bytes, ContentUpload]:
        """Returns the draft's uploads of these contents that are not complete, the newest of each."""
        statement = _ROWS.where(
            content_uploads.c.draft_id == draft_id,
            content_uploads.c.content_id.in_(list(content_ids)),
            content_uploads.c.is_complete.is_(False),
        ).order_by(content_uploads.c.create_time_unix_ns)
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return {upload.content_id: upload for upload in map(_upload, rows)}

    async def insert_uploads(self, uploads: Sequence[ContentUpload]) -> None:
        """Adds uploads."""

        def add(connection: Connection) -> None:
            keys = {
                path: find_project(connection, path) for path in {u.project_path for u in uploads}
            }
            connection.execute(
                insert(content_uploads), [_values(one, keys[one.project_path]) for one in uploads]
            )

        if uploads:
            await self._database.transact(add)

    async def renew_uploads(
        self, draft_id: str, upload_ids: Collection[str], *, time_unix_ns: int
    ) -> set[str]:
        """Makes the draft, and uploads that are not complete, as young as if made at that time."""

        def renew(connection: Connection) -> set[str]:
            connection.execute(
                update(drafts)
                .where(drafts.c.draft_id == draft_id)
                .values(use_time_unix_ns=time_unix_ns)
            )
            statement = (
                update(content_uploads)
                .where(
                    content_uploads.c.upload_id.in_(list(upload_ids)),
                    content_uploads.c.is_complete.is_(False),
                )
                .values(create_time_unix_ns=time_unix_ns)
                .returning(content_uploads.c.upload_id)
            )
            return set(connection.execute(statement).scalars()) if upload_ids else set()

        return await self._database.transact(renew)

    async def find_uploads(self, upload_ids: Collection[str]) -> list[ContentUpload]:
        """Returns the uploads that are there, complete or not."""
        statement = _ROWS.where(content_uploads.c.upload_id.in_(list(upload_ids)))
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [_upload(row) for row in rows]

    async def complete_uploads(self, upload_ids: Collection[str], *, time_unix_ns: int) -> set[str]:
        """Gives contents their objects; returns the uploads whose content is there with its bytes."""

        def complete(connection: Connection) -> set[str]:
            statement = _ROWS.where(content_uploads.c.upload_id.in_(list(upload_ids)))
            project_keys = {row.project_key for row in connection.execute(statement).all()}
            done: set[str] = set()
            for key in sorted(project_keys):
                lock_project(connection, key)
                of_project = statement.where(content_uploads.c.project_key == key)
                rows = connection.execute(of_project.order_by(content_uploads.c.upload_id)).all()
                done |= _complete(connection, key, rows, time_unix_ns)
            return done

        return await self._database.transact(complete) if upload_ids else set()

    async def list_uploads(self, *, created_before_unix_ns: int, limit: int) -> list[ContentUpload]:
        """Returns uploads made before that time, complete ones too, oldest first."""
        statement = (
            _ROWS.where(content_uploads.c.create_time_unix_ns < created_before_unix_ns)
            .order_by(content_uploads.c.create_time_unix_ns)
            .limit(limit)
        )
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [_upload(row) for row in rows]

    async def delete_upload(self, upload_id: str) -> None:
        """Forgets an upload; the object of one that was not complete is released."""

        def forget(connection: Connection) -> None:
            statement = delete(content_uploads).where(content_uploads.c.upload_id == upload_id)
            row = connection.execute(statement.returning(content_uploads)).first()
            if row is not None and not row.is_complete:
                release_objects(connection, [(row.object_key, row.size_bytes)])

        await self._database.transact(forget)

    async def list_released(self, *, limit: int) -> list[ReleasedObject]:
        """Returns released objects."""
        statement = select(released_objects).limit(limit)
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [ReleasedObject(row.object_key, row.size_bytes) for row in rows]

    async def confirm_released(self, object_keys: Sequence[str]) -> None:
        """Forgets released objects that are gone from the object store."""

        def forget(connection: Connection) -> None:
            for part in slices(object_keys):
                connection.execute(
                    delete(released_objects).where(released_objects.c.object_key.in_(part))
                )

        await self._database.transact(forget)


def _complete(
    connection: Connection, project_key: int, rows: Sequence[Row[Any]], time_unix_ns: int
) -> set[str]:
    """Completes uploads of one project, which is locked; returns those whose content is there with its bytes."""
    objects = read_objects(connection, project_key, {bytes(row.content_id) for row in rows})
    fresh = [row for row in rows if not row.is_complete]
    arrived: list[dict[str, Any]] = []
    surplus: list[tuple[str, int]] = []
    for row in fresh:
        content = bytes(row.content_id)
        if content in objects and objects[content] is None:
            objects[content] = row.object_key
            arrived.append({"of_content": content, "with_object": row.object_key})
        else:
            # Another upload was faster, or nobody refers to it any more.
            surplus.append((row.object_key, row.size_bytes))
    if arrived:
        connection.execute(
            update(contents)
            .where(
                contents.c.project_key == project_key,
                contents.c.content_id == bindparam("of_content"),
            )
            .values(object_key=bindparam("with_object")),
            arrived,
        )
    release_objects(connection, surplus)
    if fresh:
        ended = content_uploads.c.upload_id.in_([row.upload_id for row in fresh])
        connection.execute(update(content_uploads).where(ended).values(is_complete=True))
        used = drafts.c.draft_id.in_(sorted({row.draft_id for row in fresh}))
        connection.execute(update(drafts).where(used).values(use_time_unix_ns=time_unix_ns))
    return {row.upload_id for row in rows if objects.get(bytes(row.content_id)) is not None}


def _values(upload: ContentUpload, project_key: int | None) -> dict[str, Any]:
    return {
        "upload_id": upload.upload_id,
        "draft_id": upload.draft_id,
        "project_key": project_key,
        "content_id": upload.content_id,
        "object_key": upload.object_key,
        "size_bytes": upload.size_bytes,
        "part_bytes": upload.part_bytes,
        "part_count": upload.part_count,
        "part_md5s": b"".join(upload.part_md5s),
        "multipart_id": upload.multipart_id,
        "create_time_unix_ns": upload.create_time_unix_ns,
        "is_complete": upload.is_complete,
    }


def _upload(row: Row[Any]) -> ContentUpload:
    md5s = bytes(row.part_md5s)
    return ContentUpload(
        upload_id=row.upload_id,
        draft_id=row.draft_id,
        project_path=row.project_path,
        content_id=bytes(row.content_id),
        object_key=row.object_key,
        size_bytes=row.size_bytes,
        part_bytes=row.part_bytes,
        part_count=row.part_count,
        part_md5s=tuple(md5s[i : i + _MD5_BYTES] for i in range(0, len(md5s), _MD5_BYTES)),
        multipart_id=row.multipart_id,
        create_time_unix_ns=row.create_time_unix_ns,
        is_complete=row.is_complete,
    )
