"""What real writers of event files write while a run follows them, and what the run has of it then."""

from __future__ import annotations

import math
import struct
import subprocess
from typing import Any

import pytest

import runyard
from tests.integration.readback import wait_until
from tests.integration.yard import Yard
from tests.integrations_real.frameworks import Trainer, histograms, image_items, needs, points

STEPS, OWN_STEPS = 50, 5
TORCH, TENSORFLOW = ("torch", "torch-new", "tensorboardX"), ("tensorflow", "tensorflow1")
WITH_TORCH, WITH_TENSORFLOW = needs("torch", "tensorboard", "tensorboardX"), needs("tensorflow")
KINDS = [
    *(pytest.param(kind, marks=WITH_TORCH) for kind in TORCH),
    *(pytest.param(kind, marks=WITH_TENSORFLOW) for kind in TENSORFLOW),
]


def as_float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@pytest.fixture(scope="module")
def told(trainer: Trainer) -> dict[str, Any]:
    """What the scripts tell, by kind of writer."""
    return {}


def ran(told: dict[str, Any], trainer: Trainer, kind: str) -> dict[str, Any]:
    """Returns what the script tells of a kind, after it ran once for all kinds of its library."""
    if kind not in told:
        kinds = TORCH if kind in TORCH else TENSORFLOW
        told.update(trainer.run("tensorboard_writers", *kinds).facts)
    return dict(told[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_all_writers_are_followed(
    told: dict[str, Any], trainer: Trainer, api: runyard.Api, kind: str
) -> None:
    """Every number is in the run, with its step and its time, and the run's own steps are as without it."""
    facts = ran(told, trainer, kind)
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
    assert all(facts["begin"] - 0.01 <= time <= facts["end"] + 0.01 for time in times)
    assert facts["step"] == OWN_STEPS
    assert run.state == "finished"
    assert run.receipt().is_gapless


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.values[0] != "tensorflow1"])
def test_histograms_and_images_are_followed(
    told: dict[str, Any], trainer: Trainer, api: runyard.Api, yard: Yard, kind: str
) -> None:
    """A histogram holds all values between the least and the largest; an image is the picture that was written."""
    facts = ran(told, trainer, kind)
    path = f"local/integrations/tb-{kind}"
    ((step, counts, edges, odd),) = histograms(yard, path, "weights")
    assert (step, sum(counts), odd) == (20, 1000, 0)
    assert (edges[0], edges[-1]) == pytest.approx((facts["min"], facts["max"]))
    ((step, (item,)),) = image_items(yard, path, "picture")
    assert (step, item["width"], item["height"]) == (30, 6, 4)
    picture = api.run(path).file(item["file"]).download(trainer.folder / "pictures" / kind)
    assert picture.read_bytes().startswith(b"\x89PNG")


@needs("tensorboardX")
def test_numbers_are_live_and_survive_a_kill(trainer: Trainer, api: runyard.Api) -> None:
    """What a writer still holds back is asked for: it is at the server while the script runs, and after kill -9."""
    process = subprocess.Popen(
        trainer.command("tensorboard_writers", "live"),
        cwd=trainer.folder,
        env=trainer.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    expected = [(step, float(step)) for step in range(10)]

    def found() -> list[tuple[int, float]]:
        try:
            rows = api.run("local/integrations/tb-live").scan_history(require="any")
            return points(list(rows), "loss")
        except runyard.Error:  # there is no such run yet
            return []

    try:
        assert process.stdout is not None and process.stdin is not None
        wait_until(lambda: found() == expected, 60, "the numbers while the script runs")
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()
        process.stdin.close()
    wait_until(lambda: api.run("local/integrations/tb-live").state == "crashed", 60, "the verdict")
    assert found() == expected
