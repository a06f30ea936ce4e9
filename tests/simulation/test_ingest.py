"""Trainers, agents, ingest nodes and metadata under every schedule of faults that the seeds draw: I1 to I5, I7 and I8."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.simulation.story import tell

SEED = os.environ.get("RUNYARD_SIM_SEED", "")
SEEDS = int(os.environ.get("RUNYARD_SIM_SEEDS") or 100)
CHUNKS = 20
PROCESSES = max(1, min(8, os.cpu_count() or 1))
CHUNK_TIMEOUT_S = 120 + SEEDS
# Seeds that fail if a bug that once was is put back (known_bugs.py); see the ledger in docs/testing.md.
NAMED = {
    "the disk is full when run.json is written": 0,
    "metadata is out of ingest's reach when a writer joins": 39,
    "the disk is full when the segments of a complete run are removed": 0,
}


def play(seed: int) -> None:
    """Plays one seed; a failure says how to play it again."""
    try:
        tell(seed)
    except BaseException as error:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10
        ).stdout.strip()
        error.add_note(f"replay: make sim SEED={seed}   (commit {commit})")
        raise


def play_chunk(chunk: int) -> int | None:
    """Returns the first seed of the chunk that fails; runs in a process of its own."""
    for seed in range(chunk, SEEDS, CHUNKS):
        try:
            tell(seed)
        except BaseException:
            return seed
    return None


@pytest.fixture(scope="module")
def chunks() -> Iterator[list[Future[int | None]]]:
    """Plays all chunks, as many at once as there are processors."""
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        yield [pool.submit(play_chunk, chunk) for chunk in range(CHUNKS)]
        pool.shutdown(cancel_futures=True)


@pytest.mark.skipif(bool(SEED), reason="one seed is replayed")
@pytest.mark.parametrize("name", NAMED)
def test_named_scenarios(name: str) -> None:
    """What once failed holds now."""
    play(NAMED[name])


@pytest.mark.skipif(bool(SEED), reason="one seed is replayed")
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_drawn_scenarios(chunk: int, chunks: list[Future[int | None]]) -> None:
    """Whatever is lost, late, repeated, killed, cut or full: everything that was journalled is readable, once, bit by bit."""
    failed = chunks[chunk].result(CHUNK_TIMEOUT_S)
    if failed is not None:
        play(failed)  # once more, here, so that the failure shows where
        pytest.fail(
            f"seed {failed} failed in its own process and not here: it is not deterministic"
        )


@pytest.mark.skipif(not SEED, reason="no seed to replay: make sim SEED=N")
def test_replay() -> None:
    """One seed, as the failure said."""
    play(int(SEED))
