"""Times the store of artifacts: one version of many entries, many versions of few, and how much room their rows take.

Usage: python bench/bench_artifacts.py [--out FILE] [--entries N] [--versions N] [--postgres URL]

The store is driven as the service drives it, without an object store: contents are completed as they are announced. The
baseline of the versions is one version; that of the room is one row for each entry of each version.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy
from figure import Result

from runyard_server.domain.artifacts import ArtifactName, Draft, Labels
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.manifests import (
    Entry,
    content_id,
    cut_manifest,
    merge_lines,
    pack_lines,
    write_line,
)
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.artifacts import ContentUpload, EntryBatch
from runyard_server.storage.sql.artifacts import SqlArtifactStore
from runyard_server.storage.sql.database import Database, SqlConfig

ENTRIES_AT_ONCE = 2_000
UPLOADS_AT_ONCE = 100
FILES_PER_VERSION = 100
PAGE = 1_000
PROJECT = "local/bench"


class Client:
    """Logs artifacts into a store, and remembers how long each step took."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = SqlArtifactStore(database)
        self.spent: dict[str, float] = {}
        self._count = 0

    async def log(self, name: str, entries: Sequence[Entry]) -> None:
        """Logs a version, its contents completed as they are announced."""
        self._count += 1
        ordered = sorted(entries, key=lambda entry: entry.path.encode())
        lines = [write_line(entry) for entry in ordered]
        draft = Draft(
            draft_id=f"d{self._count}",
            artifact=ArtifactName(PROJECT, name),
            type="bench",
            run_key=RunKey(1),
            run_path=f"{PROJECT}/r",
            request_id=f"q{self._count}",
            digest=cut_manifest(lines).digest,
            entry_count=len(lines),
            create_time_unix_ns=time.time_ns(),
        )
        await self.step("create", self.store.create_draft(draft))
        missing: set[bytes] = set()
        for first in range(0, len(lines), ENTRIES_AT_ONCE):
            part = lines[first : first + ENTRIES_AT_ONCE]
            batch = EntryBatch(pack_lines(part), len(part))
            missing |= await self.step(
                "add",
                self.store.add_entries(draft.draft_id, batch, entries_max=10**9, time_unix_ns=1),
            )
        waiting = sorted(missing)
        for first in range(0, len(waiting), UPLOADS_AT_ONCE):
            await self._send(draft, waiting[first : first + UPLOADS_AT_ONCE], first)
        await self.step("commit", self._commit(draft))

    async def _send(self, draft: Draft, contents: Sequence[bytes], first: int) -> None:
        uploads = [
            ContentUpload(
                upload_id=f"{draft.draft_id}-{first + number}",
                draft_id=draft.draft_id,
                project_path=PROJECT,
                content_id=content,
                object_key=f"artifacts/0123456789abcdef/{content.hex()}-{first + number:032x}",
                size_bytes=1,
                part_bytes=1,
                part_count=1,
                part_md5s=(b"m" * 16,),
                multipart_id="",
                create_time_unix_ns=1,
            )
            for number, content in enumerate(contents)
        ]
        await self.step("announce", self.store.insert_uploads(uploads))
        ids = [upload.upload_id for upload in uploads]
        await self.step("complete", self.store.complete_uploads(ids, time_unix_ns=1))

    async def _commit(self, draft: Draft) -> None:
        held = await self.store.read_entries(draft.draft_id)
        manifest = await asyncio.to_thread(lambda: cut_manifest(merge_lines(held.batches)))
        assert manifest.digest == draft.digest
        start = time.perf_counter()
        await self.store.commit_draft(
            draft.draft_id,
            Labels(),
            manifest=manifest,
            revision=held.revision,
            time_unix_ns=time.time_ns(),
        )
        self.add("transaction", time.perf_counter() - start)

    async def step(self, name, call):  # type: ignore[no-untyped-def]  # any call of the store
        """Returns what the call returns, its time added to the name's."""
        start = time.perf_counter()
        try:
            return await call
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        self.spent[name] = self.spent.get(name, 0.0) + seconds

    async def list_all(self, name: str, number: int) -> int:
        """Returns the entries of a version, read page by page."""
        after, count = "", 0
        while True:
            page = await self.step(
                "list",
                self.store.list_entries(
                    ArtifactName(PROJECT, name),
                    number,
                    prefix="",
                    after_path=after,
                    limit=PAGE,
                    with_objects=True,
                ),
            )
            if not page.entries:
                return count
            count += len(page.entries)
            after = page.entries[-1].entry.path

    async def room_bytes(self) -> int:
        """Returns what the database takes."""
        if self.database.engine.dialect.name == "sqlite":
            statement = (
                "SELECT (page_count - freelist_count) * page_size "
                "FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
            )
        else:
            statement = "SELECT pg_database_size(current_database())"
        return int(
            await self.database.transact(lambda c: c.exec_driver_sql(statement).scalar()) or 0
        )

    async def count_rows(self) -> int:
        """Returns the rows that hold entries."""
        statement = "SELECT (SELECT count(*) FROM chunks) + (SELECT count(*) FROM manifest_chunks)"
        return int(
            await self.database.transact(lambda c: c.exec_driver_sql(statement).scalar()) or 0
        )


def make_entries(count: int, *, seed: int = 0) -> list[Entry]:
    return [
        Entry(
            f"train/class-{n % 1000:04}/image-{n:08}.jpg",
            n + 1,
            hashlib.sha256(b"%d %d" % (seed, n)).digest(),
        )
        for n in range(count)
    ]


async def measure(database: Database, label: str, entries: int, versions: int) -> list[Result]:
    """Returns the figures of one database."""
    await database.start()
    results: list[Result] = []

    def tell(name: str, value: float, unit: str, baseline: float | None = None) -> None:
        results.append(Result(f"{label}: {name}", value, unit, "", baseline))
        print(f"{label}: {name:65} {value:12.3f} {unit}", flush=True)

    client = Client(database)
    many = make_entries(entries)
    await client.log("large", many)
    for step in ("add", "announce", "complete", "commit", "transaction"):
        tell(f"{entries} new entries: {step}", client.spent.pop(step), "s")
    many[entries // 2] = Entry(many[entries // 2].path, 7, content_id(b"x" * 32, 7)[:32])
    await client.log("large", many)
    for step in ("add", "commit", "transaction"):
        tell(f"{entries} entries, one changed: {step}", client.spent.pop(step), "s")
    assert await client.list_all("large", 1) == entries
    tell(f"{entries} entries read in pages of {PAGE}", client.spent.pop("list"), "s")
    start = time.perf_counter()
    await client.store.delete_versions(ArtifactName(PROJECT, "large"), [0], with_aliases=True)
    tell("the old version deleted", time.perf_counter() - start, "s")
    start = time.perf_counter()
    await client.store.delete_versions(ArtifactName(PROJECT, "large"), [1], with_aliases=True)
    tell("the last version deleted", time.perf_counter() - start, "s")
    await measure_versions(client, versions, tell)
    await database.stop()
    return results


async def measure_versions(client: Client, versions: int, tell) -> None:  # type: ignore[no-untyped-def]  # a closure
    """Logs versions of which each changes one file of its predecessor."""
    chance = random.Random(1)
    files = make_entries(FILES_PER_VERSION, seed=2)
    client.spent.clear()
    before_bytes, before_rows = await client.room_bytes(), await client.count_rows()
    times: list[float] = []
    for number in range(versions):
        at = chance.randrange(len(files))
        files[at] = Entry(files[at].path, number, hashlib.sha256(b"v%d" % number).digest())
        start = time.perf_counter()
        await client.log("checkpoints", files)
        times.append(time.perf_counter() - start)
    tell(
        f"version of {FILES_PER_VERSION} files, one changed, mean of the last tenth",
        sum(times[-versions // 10 :]) / (versions // 10) * 1e3,
        "ms",
        sum(times[: versions // 10]) / (versions // 10) * 1e3,
    )
    rows = await client.count_rows() - before_rows
    tell(f"rows of entries of {versions} versions", rows, "rows", versions * FILES_PER_VERSION)
    tell("room per version", (await client.room_bytes() - before_bytes) / versions / 1e3, "kB")
    start = time.perf_counter()
    found, _ = await client.store.list_versions(
        ArtifactName(PROJECT, "checkpoints"), before=None, limit=1_000
    )
    tell(f"{len(found)} versions listed", (time.perf_counter() - start) * 1e3, "ms")
    start = time.perf_counter()
    numbers = [version.number for version in found]
    deletion = await client.store.delete_versions(
        ArtifactName(PROJECT, "checkpoints"), numbers, with_aliases=True
    )
    assert deletion.versions == len(numbers)
    tell(f"{len(numbers)} versions deleted", time.perf_counter() - start, "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--versions", type=int, default=1_000)
    parser.add_argument(
        "--postgres", default="", help="URL of a server whose databases may be made"
    )
    options = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        config = SqlConfig(url=f"sqlite:///{folder}/bench.sqlite", transaction_timeout_s=120)
        database = Database(config, clock=SystemClock())
        results += asyncio.run(measure(database, "SQLite", options.entries, options.versions))
    if options.postgres:
        url = sqlalchemy.make_url(options.postgres).set(drivername="postgresql+psycopg")
        name = f"runyard_bench_{time.time_ns()}"
        _run_apart(url, f"CREATE DATABASE {name}")
        text = url.set(database=name).render_as_string(hide_password=False)
        database = Database(SqlConfig(url=text, transaction_timeout_s=120), clock=SystemClock())
        try:
            results += asyncio.run(
                measure(database, "PostgreSQL", options.entries, options.versions)
            )
        finally:
            _run_apart(url, f"DROP DATABASE {name} WITH (FORCE)")
    if options.out:
        options.out.write_text(json.dumps([r.as_json() for r in results], indent=2) + "\n")


def _run_apart(url: sqlalchemy.URL, statement: str) -> None:
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()


if __name__ == "__main__":
    main()
