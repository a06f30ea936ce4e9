"""Trainers, agents, ingest nodes and metadata under every schedule of faults that the seeds draw: I1 to I5 and I8."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.simulation.story import tell

SEED = os.environ.get("RUNYARD_SIM_SEED", "")
SEEDS = int(os.environ.get("RUNYARD_SIM_SEEDS") or 100)
CHUNKS = 10
# Seeds that once failed, with what they showed; see the ledger in docs/testing.md.
NAMED = {
    "the disk is full when run.json is written": 1,
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


@pytest.mark.skipif(bool(SEED), reason="one seed is replayed")
@pytest.mark.parametrize("name", NAMED)
def test_named_scenarios(name: str) -> None:
    """What once failed holds now."""
    play(NAMED[name])


@pytest.mark.skipif(bool(SEED), reason="one seed is replayed")
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_drawn_scenarios(chunk: int) -> None:
    """Whatever is lost, late, repeated, killed or full: everything that was journalled is readable, once, bit by bit."""
    for seed in range(chunk, SEEDS, CHUNKS):
        play(seed)


@pytest.mark.skipif(not SEED, reason="no seed to replay: make sim SEED=N")
def test_replay() -> None:
    """One seed, as the failure said."""
    play(int(SEED))
