"""What real writers of event files write while a run follows them, and what the run has of it then."""

from __future__ import annotations

import math
import struct

import pytest

import runyard
from tests.integrations_real.frameworks import Trainer, needs, points

STEPS, OWN_STEPS = 50, 5


def as_float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("torch", marks=needs("torch", "tensorboard")),
        pytest.param("torch-new", marks=needs("torch", "tensorboard")),
        pytest.param("tensorboardX", marks=needs("tensorboardX")),
        pytest.param("tensorflow", marks=needs("tensorflow")),
        pytest.param("tensorflow1", marks=needs("tensorflow")),
    ],
)
def test_all_writers_are_followed(trainer: Trainer, api: runyard.Api, kind: str) -> None:
    """Every number is in the run, with its step and its time, and the run's own steps are as without it."""
    told = trainer.run("tensorboard_writers", kind, f"tb-{kind}").facts
    run = api.run(f"local/integrations/tb-{kind}")
    rows = list(run.scan_history(require="any"))
    assert points(rows, "train/loss") == [(s * 10, as_float32(1 / (s + 1))) for s in range(STEPS)]
    assert points(rows, "acc") == [(s * 10, as_float32(s / STEPS)) for s in range(STEPS)]
    assert points(rows, "own") == [(i, i * 10) for i in range(OWN_STEPS)]
    assert points(rows, "back") == [(3, 2.5), (100, 1.5)]
    odd = points(rows, "odd")
    assert [step for step, _ in odd] == [7, 8]
    assert math.isnan(odd[0][1]) and odd[1][1] == math.inf
    assert sorted(run.metrics) == ["acc", "back", "odd", "own", "train/loss"]
    times = [row["_timestamp"] for row in rows if "train/loss" in row and "own" not in row]
    assert all(told["begin"] - 0.01 <= time <= told["end"] + 0.01 for time in times)
    assert told["step"] == OWN_STEPS
    assert run.state == "finished"
    assert run.receipt().is_gapless
