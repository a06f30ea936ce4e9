"""One seed is one trace: in other processes, with other hash seeds. Without that a failure could not be replayed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def trace_digest(seed: int, hash_seed: str) -> str:
    """Returns the digest of a seed's trace in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.story", str(seed)],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("seed", [2, 3, 18])
def test_a_seed_gives_one_trace(seed: int) -> None:
    """Sets, ids, clocks and hashes have no say in what happens when."""
    first = trace_digest(seed, "1")
    assert int(first.split()[0]) > 10
    assert first == trace_digest(seed, "2")
