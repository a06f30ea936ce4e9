"""Metadata is asked once per run and writer and again after a while; its absence stops no run that is known."""

from __future__ import annotations

import asyncio

import pytest

from runyard_server.domain.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from runyard_server.domain.run import RunKey
from runyard_server.ingest.runs import RunCache, RunCacheLimits
from tests.simulation.loop import run
from tests.unit.ingest.faults import FakeMetadata, LoopClock

LIMITS = RunCacheLimits(
    runs_max=2, fresh_s=30.0, stale_max_s=100.0, refusal_s=2.0, lookup_timeout_s=5.0
)
RUN = RunKey(1)


def cache_of(metadata: FakeMetadata) -> RunCache:
    return RunCache(metadata, LIMITS, clock=LoopClock())


def test_one_question_for_many_batches() -> None:
    """Batches of one run ask once, also those that come while the question is open."""

    async def story() -> None:
        metadata = FakeMetadata()
        metadata.answer_s = 1.0
        cache = cache_of(metadata)
        await asyncio.gather(*(cache.check(RUN, writer) for writer in range(1, 10)))
        await cache.check(RUN, 1)
        assert metadata.questions == 1

    run(story())


def test_a_deleted_run_is_noticed() -> None:
    """Metadata is asked again after fresh_s; then the run's data is refused."""

    async def story() -> None:
        metadata = FakeMetadata()
        cache = cache_of(metadata)
        await cache.check(RUN, 1)
        metadata.error = FailedPrecondition("RUN_DELETED", "deleted")
        await asyncio.sleep(29.0)
        await cache.check(RUN, 1)
        await asyncio.sleep(1.5)
        for _ in range(3):
            with pytest.raises(FailedPrecondition):
                await cache.check(RUN, 1)
        assert metadata.questions == 2

    run(story())


def test_a_refusal_is_asked_again_soon() -> None:
    """A run that was not there a moment ago may be there now."""

    async def story() -> None:
        metadata = FakeMetadata()
        metadata.error = NotFound("RUN_NOT_FOUND", "no such run")
        cache = cache_of(metadata)
        with pytest.raises(NotFound):
            await cache.check(RUN, 1)
        metadata.error = None
        await asyncio.sleep(2.1)
        await cache.check(RUN, 1)

    run(story())


def test_a_new_writer_is_asked_for() -> None:
    """A writer above the known count asks again, since it may have joined; one that StartRun did not number is refused."""

    async def story() -> None:
        metadata = FakeMetadata()
        metadata.writer_count = 1
        cache = cache_of(metadata)
        await cache.check(RUN, 1)
        metadata.writer_count = 2
        await cache.check(RUN, 2)
        with pytest.raises(InvalidArgument) as caught:
            await cache.check(RUN, 3)
        assert caught.value.metadata == {"field": "writer", "value": "3", "limit": "2"}

    run(story())


def test_a_writer_that_joined_behind_an_open_question_is_asked_for() -> None:
    """A question that was open when the writer joined does not tell of it: another is asked, and nothing refused."""

    async def story() -> None:
        metadata = FakeMetadata()
        metadata.writer_count, metadata.answer_s = 1, 1.0
        cache = cache_of(metadata)
        first = asyncio.ensure_future(cache.check(RUN, 1))
        await asyncio.sleep(0.5)
        metadata.writer_count = 2
        await asyncio.gather(first, cache.check(RUN, 2))

    run(story())


def test_a_new_writer_is_not_refused_for_good_while_metadata_is_away() -> None:
    """What was known before the writer joined is no reason to refuse its records: it is told to come again."""

    async def story() -> None:
        metadata = FakeMetadata()
        metadata.writer_count = 1
        cache = cache_of(metadata)
        await cache.check(RUN, 1)
        metadata.writer_count = 2
        metadata.error = Unavailable("SERVICE_UNAVAILABLE", "away")
        with pytest.raises(Unavailable):
            await cache.check(RUN, 2)
        metadata.error = None
        await cache.check(RUN, 2)

    run(story())


def test_a_known_run_goes_on_while_metadata_is_away() -> None:
    """Known runs are served for stale_max_s, asking again every refusal_s; unknown ones get Unavailable."""

    async def story() -> None:
        metadata = FakeMetadata()
        cache = cache_of(metadata)
        await cache.check(RUN, 1)
        metadata.error = Unavailable("SERVICE_UNAVAILABLE", "away")
        with pytest.raises(Unavailable):
            await cache.check(RunKey(2), 1)
        await asyncio.sleep(50.0)
        await cache.check(RUN, 1)
        asked = metadata.questions
        await cache.check(RUN, 1)
        assert metadata.questions == asked
        await asyncio.sleep(51.0)
        with pytest.raises(Unavailable):
            await cache.check(RUN, 1)

    run(story())


def test_metadata_that_hangs_is_away() -> None:
    """No answer within lookup_timeout_s is Unavailable."""

    async def story() -> None:
        metadata = FakeMetadata()
        metadata.answer_s = 1e6
        with pytest.raises(Unavailable):
            await cache_of(metadata).check(RUN, 1)
        assert asyncio.get_running_loop().time() == pytest.approx(5.0)

    run(story())


def test_memory_is_bounded() -> None:
    """At most runs_max runs are remembered."""

    async def story() -> None:
        metadata = FakeMetadata()
        cache = cache_of(metadata)
        for key in (1, 2, 3, 1):
            await cache.check(RunKey(key), 1)
        assert metadata.questions == 4

    run(story())
