"""The way of a batch, in virtual time: what is acknowledged is stored, what fails says how, what repeats costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from runyard_server.domain.errors import (
    DomainError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from runyard_server.domain.points import Batch, Journal
from runyard_server.ingest.pipeline import Acknowledgement
from tests.media_values import media, media_batch
from tests.simulation.loop import run
from tests.stores import batch, new_run_key, read_values
from tests.unit.ingest.faults import FakeMetadata, FaultyPoints, running

RUN = new_run_key()
AWAY = Unavailable("STORE_UNAVAILABLE", "away", metadata={"store": "points"})


def points_of(number: int, **more: int) -> object:
    return batch(RUN, {"x": [(number, float(number))]}, first_sequence=number, **more)


def test_an_acknowledged_batch_is_stored() -> None:
    """The answer comes when the store has it, names the range, and is no repeat."""

    async def story() -> None:
        points = FaultyPoints()
        async with running(points) as pipeline:
            answer = await pipeline.write(points_of(1), deadline_s=10.0)
            assert answer == Acknowledgement(1, 1, (), is_repeat=False)
            assert await read_values(points, RUN, "x") == [(1, 1.0)]
            receipts = await points.read_receipts(RUN)
            assert [(r.first_sequence, r.points_accepted) for r in receipts] == [(1, 1)]

    run(story())


def test_a_repeat_is_answered_without_a_second_insert() -> None:
    """A range known as durable is answered at once, with the first answer's rejections."""

    async def story() -> None:
        points = FaultyPoints()
        async with running(points) as pipeline:
            one = batch(RUN, {"x": [(1, 1.0)], "": [(1, 2.0)]})
            first = await pipeline.write(one, deadline_s=10.0)
            again = await pipeline.write(one, deadline_s=10.0)
            assert (first.is_repeat, again.is_repeat) == (False, True)
            assert [rejection.points for rejection in first.rejections] == [1]
            assert again.rejections == first.rejections
            assert len(points.blocks) == 1

    run(story())


def test_a_repeat_in_flight_joins_the_first() -> None:
    """Two calls with one batch make one insert; the later deadline counts, though the first caller is gone."""

    async def story() -> None:
        points = FaultyPoints()
        points.gate.clear()
        async with running(points) as pipeline:
            first = asyncio.create_task(pipeline.write(points_of(1), deadline_s=1.0))
            await asyncio.sleep(0.5)
            second = asyncio.create_task(pipeline.write(points_of(1), deadline_s=30.0))
            await asyncio.sleep(0.1)
            first.cancel()
            points.errors = [AWAY]
            points.gate.set()
            answer = await second
            assert not answer.is_repeat
            assert [len(block) for block in points.blocks] == [1, 1]
            assert await read_values(points, RUN, "x") == [(1, 1.0)]

    run(story())


def test_batches_join_while_the_store_works() -> None:
    """What comes while an insert goes on is inserted together."""

    async def story() -> None:
        points = FaultyPoints()
        points.insert_s = 0.1
        async with running(points) as pipeline:
            lone = asyncio.create_task(pipeline.write(points_of(1), deadline_s=10.0))
            await asyncio.sleep(0.05)
            writes = [pipeline.write(points_of(n), deadline_s=10.0) for n in range(2, 21)]
            await asyncio.gather(lone, *writes)
            assert sorted(len(block) for block in points.blocks) == [1, 19]
            assert len(await read_values(points, RUN, "x")) == 20

    run(story())


def test_the_same_block_is_repeated_while_the_store_is_away() -> None:
    """The store comes back before the deadline: the caller never learns of it."""

    async def story() -> None:
        points = FaultyPoints()
        points.errors = [AWAY, ResourceExhausted("QUEUE_FULL", "full"), AWAY]
        points.stores_before_error = True
        async with running(points) as pipeline:
            await pipeline.write(points_of(1), deadline_s=10.0)
            assert [[e.batch.first_sequence for e in block] for block in points.blocks] == [[1]] * 4
            assert await read_values(points, RUN, "x") == [(1, 1.0)]
            assert 0.6 < asyncio.get_running_loop().time() < 0.8, "0.1 + 0.2 + 0.4 s of pauses"

    run(story())


def test_nobody_waits_beyond_the_deadline() -> None:
    """The store stays away: the caller hears STORE_UNAVAILABLE by its deadline, and may send the batch again."""

    async def story() -> None:
        points = FaultyPoints()
        points.errors = [AWAY] * 100
        async with running(points) as pipeline:
            with pytest.raises(Unavailable) as caught:
                await pipeline.write(points_of(1), deadline_s=5.0)
            assert caught.value.reason == "STORE_UNAVAILABLE"
            assert asyncio.get_running_loop().time() <= 5.0
            points.errors = []
            answer = await pipeline.write(points_of(1), deadline_s=10.0)
            assert not answer.is_repeat

    run(story())


def test_a_store_that_hangs_is_given_up() -> None:
    """An insert that never ends fails its callers at the deadline and blocks no inserter for ever."""

    async def story() -> None:
        points = FaultyPoints()
        points.gate.clear()
        async with running(points, inserts_max=1) as pipeline:
            with pytest.raises(Unavailable):
                await pipeline.write(points_of(1), deadline_s=2.0)
            points.gate.set()
            await pipeline.write(points_of(2), deadline_s=4.0)

    run(story())


def test_one_bad_batch_fails_alone() -> None:
    """A block that fails for another reason than absence is inserted batch by batch; the bad one is a bug, told as such."""

    async def story() -> None:
        points = FaultyPoints()
        points.insert_s = 0.1
        async with running(points) as pipeline:
            lone = asyncio.create_task(pipeline.write(points_of(1), deadline_s=10.0))
            await asyncio.sleep(0.05)
            points.errors = [None, ValueError("bug"), None, ValueError("bug"), None]
            writes = [pipeline.write(points_of(n), deadline_s=10.0) for n in (2, 3, 4)]
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            await lone
            assert [type(one) for one in outcomes] == [Acknowledgement, Internal, Acknowledgement]
            assert [step for step, _ in await read_values(points, RUN, "x")] == [1, 2, 4]

    run(story())


def test_a_full_queue_refuses_with_a_delay() -> None:
    """Beyond queue_bytes_max a batch gets QUEUE_FULL and when to come again; later it passes."""

    async def story() -> None:
        points = FaultyPoints()
        points.gate.clear()
        async with running(points, queue_bytes_max=100) as pipeline:
            first = asyncio.create_task(pipeline.write(points_of(1), deadline_s=10.0))
            second = asyncio.create_task(pipeline.write(points_of(2), deadline_s=10.0))
            await asyncio.sleep(0.1)
            with pytest.raises(ResourceExhausted) as caught:
                await pipeline.write(points_of(3), deadline_s=10.0)
            assert caught.value.reason == "QUEUE_FULL"
            assert caught.value.retry_delay_s == 0.25
            points.gate.set()
            await asyncio.gather(first, second)
            await pipeline.write(points_of(3), deadline_s=10.0)

    run(story())


def test_metrics_beyond_the_limit_are_refused_alone() -> None:
    """The run keeps what it has; new names beyond the limit come back as METRIC_COUNT_EXCEEDED, also after a restart."""

    async def story() -> None:
        points = FaultyPoints()
        async with running(points, metrics_per_run_max=2) as pipeline:
            await pipeline.write(batch(RUN, {"a": [(0, 0.0)]}), deadline_s=10.0)
        async with running(points, metrics_per_run_max=2) as pipeline:
            names = ("b", "c", "a")
            one = batch(RUN, {name: [(1, 1.0), (2, 2.0)] for name in names}, first_sequence=2)
            answer = await pipeline.write(one, deadline_s=10.0)
            (rejection,) = answer.rejections
            assert (rejection.metric, rejection.points) == ("c", 2)
            assert rejection.reason == "METRIC_COUNT_EXCEEDED"
            assert await read_values(points, RUN, "b") == [(1, 1.0), (2, 2.0)]
            assert await read_values(points, RUN, "c") == []
            receipts = await points.read_receipts(RUN)
            assert [(r.points_accepted, r.points_rejected) for r in receipts] == [(1, 0), (4, 2)]

    run(story())


def test_system_metrics_have_a_limit_of_their_own() -> None:
    """Names beyond it are refused by name, also after a restart, and whatever the run's own metrics are."""

    async def story() -> None:
        points = FaultyPoints()
        limits = {"metrics_per_run_max": 1, "system_metrics_per_run_max": 2}

        def samples(names: Sequence[str], sequence: int) -> Batch:
            values = {name: [(0, float(sequence))] for name in names}
            one = batch(RUN, values, first_sequence=sequence)
            return replace(one, journal=Journal.SYSTEM)

        async with running(points, **limits) as pipeline:
            await pipeline.write(batch(RUN, {"loss": [(0, 0.0)]}), deadline_s=10.0)
            first = await pipeline.write(samples(["system/a"], 1), deadline_s=10.0)
            assert first.rejections == ()
        async with running(points, **limits) as pipeline:
            for sequence in (2, 3):
                names = ["system/b", "system/c", "system/a"]
                answer = await pipeline.write(samples(names, sequence), deadline_s=10.0)
                (rejection,) = answer.rejections
                assert (rejection.metric, rejection.points) == ("system/c", 1)
                assert rejection.reason == "METRIC_COUNT_EXCEEDED"
                assert "system_metrics_per_run_max" in rejection.message
        assert [one.name for one in await points.system.list_metrics(RUN)] == [
            "system/a",
            "system/b",
        ]

    run(story())


def test_names_of_media_beyond_the_limit_are_refused_alone() -> None:
    """They are counted apart from metrics; what the run has is taken on, also after a restart."""

    async def story() -> None:
        points = FaultyPoints()
        async with running(points, media_names_per_run_max=2) as pipeline:
            await pipeline.write(media_batch(RUN, [media("a", 0)]), deadline_s=10.0)
        async with running(points, media_names_per_run_max=2) as pipeline:
            values = [media(name, 1, sequence=n) for n, name in enumerate("abcc", 2)]
            answer = await pipeline.write(media_batch(RUN, values), deadline_s=10.0)
            (rejection,) = answer.rejections
            assert (rejection.metric, rejection.points) == ("c", 2)
            assert rejection.reason == "METRIC_COUNT_EXCEEDED"
            found = await points.media.list_media(RUN)
            assert [(one.name, one.step_count) for one in found] == [("a", 2), ("b", 1)]
            repeat = await pipeline.write(media_batch(RUN, values), deadline_s=10.0)
            assert repeat.is_repeat
            assert repeat.rejections == answer.rejections
            metrics = {name: [(1, 1.0)] for name in ("x", "y", "z")}
            one = batch(RUN, metrics, first_sequence=6)
            assert (await pipeline.write(one, deadline_s=10.0)).rejections == ()

    run(story())


@pytest.mark.parametrize(
    "error",
    [
        FailedPrecondition("RUN_DELETED", "deleted", metadata={"run": "e/p/r"}),
        Unavailable("SERVICE_UNAVAILABLE", "away"),
    ],
)
def test_a_run_that_metadata_refuses_stores_nothing(error: DomainError) -> None:
    """A deleted run's data is refused; an unknown state is Unavailable, and the agent keeps the data."""

    async def story() -> None:
        points, metadata = FaultyPoints(), FakeMetadata()
        metadata.error = error
        async with running(points, metadata) as pipeline:
            with pytest.raises(type(error)) as caught:
                await pipeline.write(points_of(1), deadline_s=10.0)
            assert caught.value.reason == error.reason
            assert points.blocks == []

    run(story())


def test_a_malformed_batch_reaches_neither_metadata_nor_store() -> None:
    """What is wrong in itself is refused first."""

    async def story() -> None:
        points, metadata = FaultyPoints(), FakeMetadata()
        async with running(points, metadata) as pipeline:
            with pytest.raises(InvalidArgument):
                await pipeline.write(batch(RUN, {"x": []}, writer=0), deadline_s=10.0)
            assert (metadata.questions, points.blocks) == (0, [])

    run(story())


def test_a_stopping_pipeline_refuses() -> None:
    """After stop a call gets STOPPING: another replica or the restarted one answers."""

    async def story() -> None:
        async with running(FaultyPoints()) as pipeline:
            pipeline.stop()
            with pytest.raises(Unavailable) as caught:
                await pipeline.write(points_of(1), deadline_s=10.0)
            assert caught.value.reason == "STOPPING"

    run(story())


def test_the_end_of_the_process_fails_what_is_in_flight() -> None:
    """When the background task is cancelled, those who wait hear STOPPING instead of waiting for ever."""

    async def story() -> None:
        points = FaultyPoints()
        points.gate.clear()
        async with running(points) as pipeline:
            write = asyncio.create_task(pipeline.write(points_of(1), deadline_s=100.0))
            await asyncio.sleep(0.1)
        with pytest.raises(Unavailable) as caught:
            await write
        assert caught.value.reason == "STOPPING"

    run(story())
