"""The FileStore over SQL; statements are the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.files import (
    HIDDEN_NAMES_END,
    FilesFreed,
    ReleasedObject,
    StoredFile,
    Upload,
)
from runyard_server.storage.sql.database import Database
from runyard_server.storage.sql.schema import file_purges, files, objects, uploads
from runyard_server.storage.sql.schema import uploads as uploads_table

_MD5_BYTES = 16
_HIGHEST_CHARACTERS = "\U0010ffff" * 2
_FILE_COLUMNS = select(
    files.c.run_key,
    files.c.name,
    files.c.object_key,
    files.c.content_type,
    files.c.update_time_unix_ns,
    objects.c.size_bytes,
    objects.c.sha256,
).join(objects, objects.c.object_key == files.c.object_key)


class SqlFileStore:
    """Keeps names and uploads in a SQL database; see the port FileStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_file(self, run_key: RunKey, name: str) -> StoredFile | None:
        """Returns the file of that name, or None."""
        return await self._database.transact(lambda c: _find_file(c, run_key, name))

    async def find_present(
        self, run_key: RunKey, contents: Sequence[tuple[str, bytes]]
    ) -> list[StoredFile | None]:
        """Returns for each name and SHA-256 the file of that name if it has that content, else any file that has, else None."""
        return await self._database.transact(lambda c: _find_present(c, run_key, contents))

    async def list_files(
        self, run_key: RunKey, *, prefix: str, after_name: str, limit: int
    ) -> list[StoredFile]:
        """Returns files by the bytes of their names."""
        statement = (
            _FILE_COLUMNS.where(_is_under(run_key, prefix), files.c.name > after_name)
            .order_by(files.c.name)
            .limit(limit)
        )
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [_file(row) for row in rows]

    async def count_files(self, run_key: RunKey, *, prefix: str) -> tuple[int, int]:
        """Returns how many files there are under the prefix, and their bytes together."""
        statement = (
            select(func.count(), func.coalesce(func.sum(objects.c.size_bytes), 0))
            .select_from(files)
            .join(objects, objects.c.object_key == files.c.object_key)
            .where(_is_under(run_key, prefix))
        )
        row = await self._database.transact(lambda c: c.execute(statement).one())
        return int(row[0]), int(row[1])

    async def link_file(self, file: StoredFile) -> bool:
        """Gives an object that is in use a further name; False if it is not in use."""
        return await self._database.transact(lambda c: _link(c, file))

    async def insert_uploads(self, uploads: Sequence[Upload]) -> None:
        """Adds uploads."""
        rows = [_upload_row(upload) for upload in uploads]
        if rows:
            await self._database.transact(lambda c: c.execute(insert(uploads_table), rows))

    async def find_uploads(self, upload_ids: Sequence[str]) -> list[Upload | None]:
        """Returns each upload, completed or not, or None."""
        wanted = select(uploads).where(uploads.c.upload_id.in_(set(upload_ids)))
        rows = await self._database.transact(lambda c: c.execute(wanted).all())
        found = {row.upload_id: _upload(row) for row in rows}
        return [found.get(upload_id) for upload_id in upload_ids]

    async def find_open_upload(
        self, run_key: RunKey, name: str, sha256: bytes, *, part_count: int
    ) -> Upload | None:
        """Returns the newest upload of that name, content and number of parts that was not completed, or None."""
        statement = (
            select(uploads)
            .where(
                uploads.c.run_key == run_key,
                uploads.c.name == name,
                uploads.c.sha256 == sha256,
                uploads.c.part_count == part_count,
                uploads.c.complete_time_unix_ns.is_(None),
            )
            .order_by(uploads.c.create_time_unix_ns.desc())
            .limit(1)
        )
        row = await self._database.transact(lambda c: c.execute(statement).first())
        return _upload(row) if row else None

    async def renew_upload(self, upload_id: str, *, time_unix_ns: int) -> bool:
        """Makes an upload that was not completed as young as one made at that time; False if there is none such."""
        is_open = and_(uploads.c.upload_id == upload_id, uploads.c.complete_time_unix_ns.is_(None))
        statement = update(uploads).where(is_open).values(create_time_unix_ns=time_unix_ns)
        return await self._database.transact(lambda c: c.execute(statement).rowcount > 0)

    async def complete_uploads(
        self, upload_ids: Sequence[str], *, time_unix_ns: int
    ) -> list[StoredFile | None]:
        """Makes each upload's file visible and returns it; a repeat returns the first answer."""
        found = await self._database.transact(
            lambda c: _complete(c, sorted(set(upload_ids)), time_unix_ns)
        )
        return [found.get(upload_id) for upload_id in upload_ids]

    async def delete_files(
        self, run_key: RunKey, names: Sequence[str]
    ) -> tuple[list[StoredFile], list[ReleasedObject]]:
        """Removes the names that exist and returns what they were, and the objects that lost their last name."""

        return await self._database.transact(lambda c: _remove_names(c, run_key, names))

    async def purge_files(self, run_key: RunKey, *, limit: int) -> tuple[int, list[ReleasedObject]]:
        """Removes names of the run, counts them as purged, and returns how many it were, and the released objects."""

        def remove(connection: Connection) -> tuple[int, list[ReleasedObject]]:
            statement = (
                select(files.c.name)
                .where(files.c.run_key == run_key)
                .order_by(files.c.name)
                .limit(limit)
            )
            names = [row.name for row in connection.execute(statement)]
            removed, released = _remove_names(connection, run_key, names)
            if removed:
                _count_purged(connection, run_key, len(removed), released)
            return len(removed), released

        return await self._database.transact(remove)

    async def read_purge(self, run_key: RunKey) -> FilesFreed:
        """Returns what purge_files has removed of the run so far."""
        statement = select(file_purges).where(file_purges.c.run_key == run_key)
        row = await self._database.transact(lambda c: c.execute(statement).first())
        return FilesFreed() if row is None else FilesFreed(row.files, row.objects, row.bytes)

    async def list_run_uploads(self, run_key: RunKey, *, limit: int) -> list[Upload]:
        """Returns uploads of the run, completed ones too."""
        statement = select(uploads).where(uploads.c.run_key == run_key).limit(limit)
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [_upload(row) for row in rows]

    async def list_uploads(self, *, created_before_unix_ns: int, limit: int) -> list[Upload]:
        """Returns uploads made before that time, oldest first."""
        statement = (
            select(uploads)
            .where(uploads.c.create_time_unix_ns < created_before_unix_ns)
            .order_by(uploads.c.create_time_unix_ns)
            .limit(limit)
        )
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [_upload(row) for row in rows]

    async def delete_upload(self, upload_id: str) -> None:
        """Forgets an upload; the object of one that was not completed is released."""
        await self._database.transact(lambda c: _delete_upload(c, upload_id))

    async def list_released(self, *, limit: int) -> list[ReleasedObject]:
        """Returns released objects."""
        statement = (
            select(objects.c.object_key, objects.c.size_bytes)
            .where(objects.c.name_count == 0)
            .order_by(objects.c.release_time_unix_ns, objects.c.object_key)
            .limit(limit)
        )
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [ReleasedObject(row.object_key, row.size_bytes) for row in rows]

    async def confirm_released(self, object_keys: Sequence[str]) -> None:
        """Forgets released objects."""
        where = and_(objects.c.object_key.in_(list(object_keys)), objects.c.name_count == 0)
        await self._database.transact(lambda c: c.execute(delete(objects).where(where)))


def _find_present(
    connection: Connection, run_key: RunKey, contents: Sequence[tuple[str, bytes]]
) -> list[StoredFile | None]:
    held = _find_files(connection, run_key, {name for name, _ in contents})
    named = {(file.name, file.sha256): file for file in held}
    rest = {sha256 for name, sha256 in contents if (name, sha256) not in named}
    # One name of each object, however many it has.
    some_name = (
        select(func.min(files.c.name))
        .join(objects, objects.c.object_key == files.c.object_key)
        .where(objects.c.run_key == run_key, objects.c.sha256.in_(rest))
        .group_by(objects.c.object_key)
    )
    names = connection.execute(some_name).scalars().all()
    others = _find_files(connection, run_key, names) if names else []
    found = {file.sha256: file for file in others}
    return [named.get(one) or found.get(one[1]) for one in contents]


def _upload_row(upload: Upload) -> dict[str, Any]:
    return {
        "upload_id": upload.upload_id,
        "run_key": upload.run_key,
        "name": upload.name,
        "object_key": upload.object_key,
        "size_bytes": upload.size_bytes,
        "sha256": upload.sha256,
        "content_type": upload.content_type,
        "part_bytes": upload.part_bytes,
        "part_count": upload.part_count,
        "part_md5s": b"".join(upload.part_md5s),
        "multipart_id": upload.multipart_id,
        "create_time_unix_ns": upload.create_time_unix_ns,
    }


def _find_file(connection: Connection, run_key: RunKey, name: str) -> StoredFile | None:
    found = _find_files(connection, run_key, [name])
    return found[0] if found else None


def _find_files(
    connection: Connection, run_key: RunKey, names: Collection[str]
) -> list[StoredFile]:
    """Returns the files of those names that there are, by name: in one order, so that two calls cannot wait for each other."""
    where = and_(files.c.run_key == run_key, files.c.name.in_(names))
    return [
        _file(row) for row in connection.execute(_FILE_COLUMNS.where(where).order_by(files.c.name))
    ]


def _link(connection: Connection, file: StoredFile) -> bool:
    """Adds a name to an object in use; the row of the object is locked from here on."""
    in_use = and_(objects.c.object_key == file.object_key, objects.c.name_count > 0)
    added = connection.execute(
        update(objects).where(in_use).values(name_count=objects.c.name_count + 1)
    )
    if added.rowcount == 0:
        return False
    _set_name(connection, file)
    return True


def _complete(
    connection: Connection, upload_ids: Sequence[str], time_unix_ns: int
) -> dict[str, StoredFile]:
    """Completes uploads, given in order, so that two calls cannot wait for each other; returns the files of all that there are."""
    statement = select(uploads).where(uploads.c.upload_id.in_(upload_ids))
    rows = connection.execute(statement.order_by(uploads.c.upload_id).with_for_update())
    known = [_upload(row) for row in rows]
    done = {one.upload_id: one.completed_file for one in known if one.completed_file is not None}
    fresh = [one for one in known if one.completed_file is None]
    if not fresh:
        return done
    ended = uploads.c.upload_id.in_([one.upload_id for one in fresh])
    connection.execute(update(uploads).where(ended).values(complete_time_unix_ns=time_unix_ns))
    connection.execute(
        insert(objects),
        [_object_row(one, name_count=1, release_time_unix_ns=None) for one in fresh],
    )
    completed = {one.upload_id: _completed_file(one, time_unix_ns) for one in fresh}
    _set_names(connection, list(completed.values()))
    return done | completed


def _set_names(connection: Connection, named: Sequence[StoredFile]) -> None:
    """Points names at objects whose counts have them already; of one name given twice the last stays."""
    by_run: dict[RunKey, dict[str, StoredFile]] = {}
    last: dict[tuple[RunKey, str], StoredFile] = {}
    for file in named:
        before = last.get((file.run_key, file.name))
        if before is not None:
            _set_name(connection, before)
        last[file.run_key, file.name] = file
        by_run.setdefault(file.run_key, {})[file.name] = file
    for run_key, files_by_name in by_run.items():
        for old in _find_files(connection, run_key, files_by_name):
            _unlink(connection, old)
    if last:
        connection.execute(insert(files), [_file_row(file) for file in last.values()])


def _set_name(connection: Connection, file: StoredFile) -> None:
    """Points a name at an object whose count has it already."""
    old = _find_file(connection, file.run_key, file.name)
    if old is not None:
        _unlink(connection, old)
    connection.execute(insert(files).values(_file_row(file)))


def _remove_names(
    connection: Connection, run_key: RunKey, names: Sequence[str]
) -> tuple[list[StoredFile], list[ReleasedObject]]:
    removed, released = [], []
    # In one order, so that two calls cannot wait for each other.
    for name in sorted(set(names)):
        file = _find_file(connection, run_key, name)
        names_left = None if file is None else _unlink(connection, file)
        if file is None or names_left is None:
            continue
        removed.append(file)
        if names_left == 0:
            released.append(ReleasedObject(file.object_key, file.size_bytes))
    return removed, released


def _count_purged(
    connection: Connection, run_key: RunKey, count: int, released: Sequence[ReleasedObject]
) -> None:
    """Adds to what was freed of the run, in the transaction that freed it."""
    where = file_purges.c.run_key == run_key
    freed = {
        "files": count,
        "objects": len(released),
        "bytes": sum(item.size_bytes for item in released),
    }
    added = {name: file_purges.c[name] + value for name, value in freed.items()}
    if connection.execute(update(file_purges).where(where).values(added)).rowcount == 0:
        connection.execute(insert(file_purges).values(run_key=run_key, **freed))


def _unlink(connection: Connection, file: StoredFile) -> int | None:
    """Removes a name and takes it off its object's count; returns what is left of it, None if the name was gone."""
    where = and_(
        files.c.run_key == file.run_key,
        files.c.name == file.name,
        files.c.object_key == file.object_key,
    )
    if connection.execute(delete(files).where(where)).rowcount == 0:
        return None
    statement = (
        update(objects)
        .where(objects.c.object_key == file.object_key)
        .values(name_count=objects.c.name_count - 1, release_time_unix_ns=file.update_time_unix_ns)
        .returning(objects.c.name_count)
    )
    return int(connection.execute(statement).scalar_one())


def _delete_upload(connection: Connection, upload_id: str) -> None:
    statement = select(uploads).where(uploads.c.upload_id == upload_id).with_for_update()
    row = connection.execute(statement).first()
    if row is None:
        return
    upload = _upload(row)
    connection.execute(delete(uploads).where(uploads.c.upload_id == upload_id))
    if upload.completed_file is None:
        released = _object_row(
            upload, name_count=0, release_time_unix_ns=upload.create_time_unix_ns
        )
        connection.execute(insert(objects).values(released))


def _file_row(file: StoredFile) -> dict[str, Any]:
    return {
        "run_key": file.run_key,
        "name": file.name,
        "object_key": file.object_key,
        "content_type": file.content_type,
        "update_time_unix_ns": file.update_time_unix_ns,
    }


def _object_row(
    upload: Upload, *, name_count: int, release_time_unix_ns: int | None
) -> dict[str, Any]:
    return {
        "object_key": upload.object_key,
        "run_key": upload.run_key,
        "size_bytes": upload.size_bytes,
        "sha256": upload.sha256,
        "name_count": name_count,
        "release_time_unix_ns": release_time_unix_ns,
    }


def _is_under(run_key: RunKey, prefix: str) -> Any:
    where = files.c.run_key == run_key
    if not prefix:
        return and_(where, files.c.name > HIDDEN_NAMES_END)
    return and_(
        where,
        files.c.name >= prefix,
        files.c.name <= prefix + _HIGHEST_CHARACTERS,
        func.substr(files.c.name, 1, len(prefix)) == prefix,
    )


def _file(row: Any) -> StoredFile:
    return StoredFile(
        run_key=RunKey(row.run_key),
        name=row.name,
        object_key=row.object_key,
        size_bytes=row.size_bytes,
        sha256=bytes(row.sha256),
        content_type=row.content_type,
        update_time_unix_ns=row.update_time_unix_ns,
    )


def _upload(row: Row[Any]) -> Upload:
    md5s = bytes(row.part_md5s)
    upload = Upload(
        upload_id=row.upload_id,
        run_key=RunKey(row.run_key),
        name=row.name,
        object_key=row.object_key,
        size_bytes=row.size_bytes,
        sha256=bytes(row.sha256),
        content_type=row.content_type,
        part_bytes=row.part_bytes,
        part_count=row.part_count,
        part_md5s=tuple(md5s[i : i + _MD5_BYTES] for i in range(0, len(md5s), _MD5_BYTES)),
        multipart_id=row.multipart_id,
        create_time_unix_ns=row.create_time_unix_ns,
    )
    if row.complete_time_unix_ns is None:
        return upload
    file = _completed_file(upload, row.complete_time_unix_ns)
    return replace(upload, completed_file=file)


def _completed_file(upload: Upload, time_unix_ns: int) -> StoredFile:
    return StoredFile(
        run_key=upload.run_key,
        name=upload.name,
        object_key=upload.object_key,
        size_bytes=upload.size_bytes,
        sha256=upload.sha256,
        content_type=upload.content_type,
        update_time_unix_ns=time_unix_ns,
    )
