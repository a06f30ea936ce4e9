"""Stores of media values: memory, and chDB in this process, keep what MediaReader promises."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.media import MediaKind, MediaValue
from runyard_server.domain.points import Batch, metric_id
from runyard_server.domain.run import Cut, HistoryPart, RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.media_read import ClickHouseMediaReader
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.media import MediaReader, MediaStats, chosen_places
from runyard_server.storage.ports.points import BlockEntry, PointReader, PointWriter, Scope
from tests.media_values import histogram, media, media_batch, plain
from tests.stores import batch, new_run_key


@dataclass(frozen=True)
class MediaStore:
    """Both sides of one store."""

    writer: PointWriter
    points: PointReader
    media: MediaReader


async def insert(store: MediaStore, *batches: Batch) -> None:
    await store.writer.insert_block([BlockEntry(one) for one in batches])


async def read(
    store: MediaStore,
    run_key: RunKey,
    name: str,
    *,
    first_step: int | None = None,
    last_step: int | None = None,
    step_count_max: int = 1_000,
    scope: Scope | None = None,
) -> list[tuple[RunKey, int, MediaValue]]:
    """Returns (run, writer, value) of all that a name has."""
    scopes = {} if scope is None else {run_key: scope}
    key = (run_key, name)
    chosen = await store.media.choose_steps(
        [key],
        first_step=first_step,
        last_step=last_step,
        step_count_max=step_count_max,
        scopes=scopes,
    )
    if key not in chosen:
        return []
    found = await store.media.read_values({key: chosen[key].steps}, scopes=scopes)
    return [(one.run_key, one.writer, one.value) for one in found[key]]


class MediaStoreSuite:
    """What every store of media promises."""

    async def test_what_was_inserted_is_read(self, store: MediaStore) -> None:
        """All fields come back, floats bit by bit, by step and writer; other names and runs have nothing of it."""
        run, name = new_run_key(), "examples/é 'quoted' \\ {x}"
        image = media(name, 3, items_json=json.dumps([{"caption": "'\\n\n\"é"}]))
        first = media(name, -(2**63), sequence=2, kind=MediaKind.PLOT)
        bins = histogram(
            "w",
            2**63 - 1,
            [-0.0, 5e-324, 1e308],
            [2.0**60, 0.5],
            sequence=3,
            non_finite_count=2**63,
        )
        await insert(store, media_batch(run, [image, first, bins]))
        await insert(store, media_batch(run, [media(name, 3)], writer=2))
        found = await read(store, run, name)
        assert [(writer, plain(value)) for _, writer, value in found] == [
            (1, plain(first)),
            (1, plain(image)),
            (2, plain(media(name, 3))),
        ]
        assert [plain(value) for _, _, value in await read(store, run, "w")] == [plain(bins)]
        assert await read(store, run, "examples") == []
        assert await read(store, new_run_key(), "w") == []

    async def test_repeats_are_read_once(self, store: MediaStore) -> None:
        """A batch stored again, whole or cut otherwise, changes nothing; of one step the highest sequence wins."""
        run = new_run_key()
        values = [media("x", step, sequence=step + 1) for step in range(4)]
        newer = media("x", 2, sequence=9, items_json='[{"file":"b.png"}]')
        await insert(store, media_batch(run, [*values, newer]))
        await insert(store, media_batch(run, values[1:]), media_batch(run, values))
        found = await read(store, run, "x")
        expected = [values[0], values[1], newer, values[3]]
        assert [plain(value) for _, _, value in found] == [plain(one) for one in expected]
        assert await store.media.list_media(run) == [MediaStats("x", 1, 0, 3, 4)]
        receipts = await store.points.read_receipts(run)
        assert [(one.first_sequence, one.last_sequence) for one in receipts] == [
            (1, 4), (1, 9), (2, 4),
        ]  # fmt: skip

    async def test_names_are_listed(self, store: MediaStore) -> None:
        """By name in byte order, with the kind of the last value, and the steps that have one, of whatever writer."""
        run = new_run_key()
        changed = media("b", 7, sequence=3, kind=MediaKind.TABLE)
        await insert(
            store, media_batch(run, [media("b", 1), histogram("Z", 5, [], [], sequence=2), changed])
        )
        await insert(store, media_batch(run, [media("b", 1), media("b", 6, sequence=2)], writer=2))
        assert await store.media.list_media(run) == [
            MediaStats("Z", MediaKind.HISTOGRAM, 5, 5, 1),
            MediaStats("b", MediaKind.TABLE, 1, 7, 3),
        ]
        ids = await store.writer.read_media_ids(run, limit=10)
        assert set(ids.tolist()) == {metric_id("b"), metric_id("Z")}
        assert len(await store.writer.read_media_ids(run, limit=1)) == 1
        assert await store.media.read_last_step(run) == 7
        assert await store.media.read_last_step(new_run_key()) is None
        assert await store.media.list_media(new_run_key()) == []

    async def test_steps_are_chosen_evenly(self, store: MediaStore) -> None:
        """Of more steps than wanted those of chosen_places come, the same ones each time; of few all."""
        run = new_run_key()
        steps = [3 * number - 50 for number in range(57)]
        values = [media("x", step, sequence=place + 1) for place, step in enumerate(steps)]
        await insert(store, media_batch(run, values))
        for count_max in (1, 2, 3, 10, 56, 57, 58, 1_000):
            found = await read(store, run, "x", step_count_max=count_max)
            expected = [steps[place] for place in chosen_places(len(steps), count_max)]
            assert [value.step for _, _, value in found] == expected
            assert len(expected) == min(count_max, len(steps))
        chosen = await store.media.choose_steps(
            [(run, "x")], first_step=-20, last_step=40, step_count_max=5
        )
        inside = [step for step in steps if -20 <= step <= 40]
        assert chosen[run, "x"].steps == tuple(inside[p] for p in chosen_places(len(inside), 5))
        assert chosen[run, "x"].step_count == len(inside)
        assert chosen[run, "x"].sizes[0] == values[0].size_bytes

    async def test_many_runs_and_names_at_once(self, store: MediaStore) -> None:
        """Each key has its own values, whatever else is asked for."""
        runs = [new_run_key() for _ in range(40)]
        for number, run in enumerate(runs):
            values = [
                media(f"n{number % 3}", number, sequence=1),
                media("all", number + 1, sequence=2),
            ]
            await insert(store, media_batch(run, values))
        keys = [(run, name) for run in runs for name in ("n0", "n1", "n2", "all")]
        chosen = await store.media.choose_steps(
            keys, first_step=None, last_step=None, step_count_max=9
        )
        assert {key: one.steps for key, one in chosen.items()} == {
            **{(run, f"n{number % 3}"): (number,) for number, run in enumerate(runs)},
            **{(run, "all"): (number + 1,) for number, run in enumerate(runs)},
        }
        found = await store.media.read_values({key: one.steps for key, one in chosen.items()})
        assert {key: [one.value.step for one in some] for key, some in found.items()} == {
            key: list(one.steps) for key, one in chosen.items()
        }

    async def test_what_a_rewind_superseded_is_left_out(self, store: MediaStore) -> None:
        """Values behind a cut by writers of before do not count; without a scope they do."""
        run = new_run_key()
        old = [media("x", step, sequence=step + 1) for step in range(6)]
        await insert(store, media_batch(run, [*old, media("gone", 9, sequence=7)]))
        await insert(store, media_batch(run, [media("x", 3)], writer=2))
        scope = Scope((HistoryPart(run, cuts=(Cut(writer_max=1, last_step=2),)),))
        found = await read(store, run, "x", scope=scope)
        assert [(value.step, writer) for _, writer, value in found] == [
            (0, 1), (1, 1), (2, 1), (3, 2),
        ]  # fmt: skip
        assert await store.media.list_media(run, scopes={run: scope}) == [
            MediaStats("x", 1, 0, 3, 4)
        ]
        assert await store.media.read_last_step(run, scopes={run: scope}) == 3
        assert len(await read(store, run, "x")) == 7

    async def test_a_fork_has_its_parents_values(self, store: MediaStore) -> None:
        """Those up to the fork, as of writer 0 and of the parent's run; writers named leave them out."""
        parent, fork = new_run_key(), new_run_key()
        await insert(store, media_batch(parent, [media("x", s, sequence=s + 1) for s in range(5)]))
        await insert(store, media_batch(fork, [media("x", s, sequence=s) for s in (2, 3)]))
        parts = (HistoryPart(fork), HistoryPart(parent, last_step=2, writer_max=1))
        found = await read(store, fork, "x", scope=Scope(parts))
        assert [(value.step, writer, run) for run, writer, value in found] == [
            (0, 0, parent), (1, 0, parent), (2, 0, parent), (2, 1, fork), (3, 1, fork),
        ]  # fmt: skip
        stats = await store.media.list_media(fork, scopes={fork: Scope(parts)})
        assert stats == [MediaStats("x", 1, 0, 3, 4)]
        own = await read(store, fork, "x", scope=Scope(parts, writers=(1,)))
        assert [value.step for _, _, value in own] == [2, 3]

    async def test_points_and_media_share_a_batch(self, store: MediaStore) -> None:
        """A batch with both stores both; the points know nothing of the names of media."""
        run = new_run_key()
        one = batch(run, {"loss": [(1, 0.5)]}, last_sequence=2)
        both = Batch(
            run, 1, 1, 2, one.metric_names, one.tables, media_values=(media("x", 1, sequence=2),)
        )
        await insert(store, both)
        stats, total = await store.points.list_metrics(
            run, name_contains="", after_name="", limit=9
        )
        assert ([stat.name for stat in stats], total) == (["loss"], 1)
        assert len(await read(store, run, "x")) == 1


class TestMemoryMedia(MediaStoreSuite):
    """The reference."""

    @pytest.fixture
    def store(self) -> MediaStore:
        points = MemoryPoints()
        return MediaStore(points, points, points.media)


class TestEmbeddedClickHouseMedia(MediaStoreSuite):
    """chDB in this process."""

    @pytest.fixture
    def store(self, clickhouse: ClickHouse) -> MediaStore:
        return MediaStore(
            ClickHousePointWriter(clickhouse, clock=SystemClock()),
            ClickHousePointReader(clickhouse),
            ClickHouseMediaReader(clickhouse),
        )


async def test_memory_and_clickhouse_agree(clickhouse: ClickHouse) -> None:
    """Of drawn values under drawn histories both stores choose the same steps and read the same values."""
    chance = np.random.default_rng(5)
    runs, memory = [new_run_key() for _ in range(3)], MemoryPoints()
    writer = ClickHousePointWriter(clickhouse, clock=SystemClock())
    reader = ClickHouseMediaReader(clickhouse)
    for _ in range(30):
        first = int(chance.integers(1, 40))
        values = [
            media(f"n{chance.integers(3)}", int(chance.integers(0, 30)), sequence=first + place)
            for place in range(int(chance.integers(1, 9)))
        ]
        one = media_batch(runs[chance.integers(3)], values, writer=int(chance.integers(1, 4)))
        for store in (memory, writer):
            await store.insert_block([BlockEntry(one)])
    parts = (
        HistoryPart(runs[0], cuts=(Cut(2, 11), Cut(1, 5))),
        HistoryPart(runs[1], last_step=14, writer_max=2),
        HistoryPart(runs[2], last_step=7, writer_max=3, cuts=(Cut(1, 3),)),
    )
    keys = [(run, f"n{number}") for run in runs for number in range(3)]
    for scopes in ({}, {runs[0]: Scope(parts)}, {runs[0]: Scope(parts, writers=(1, 3))}):
        for count_max in (1, 4, 100):
            chosen = [
                await one.choose_steps(
                    keys, first_step=2, last_step=25, step_count_max=count_max, scopes=scopes
                )
                for one in (memory.media, reader)
            ]
            assert chosen[0] == chosen[1]
            asked = {key: one.steps for key, one in chosen[0].items()}
            found = [
                {
                    key: [(one.run_key, one.writer, plain(one.value)) for one in some]
                    for key, some in (await store.read_values(asked, scopes=scopes)).items()
                }
                for store in (memory.media, reader)
            ]
            assert found[0] == found[1]
        for run in runs:
            listed = [await one.list_media(run, scopes=scopes) for one in (memory.media, reader)]
            assert listed[0] == listed[1]
