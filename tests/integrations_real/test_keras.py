"""Keras 3 on the backends that are here: epochs, batches, evaluations, failures, and its own TensorBoard callback."""

from __future__ import annotations

from typing import Any

import pytest

import runyard
from tests.integrations_real.frameworks import Trainer, needs, points

BACKENDS = [
    pytest.param("torch", marks=needs("keras", "torch")),
    pytest.param("tensorflow", marks=needs("keras", "tensorflow")),
]
EPOCHS = 4


def rows_of(api: runyard.Api, run_id: str) -> list[dict[str, Any]]:
    return list(api.run(f"local/integrations/{run_id}").scan_history(require="any"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_epochs_are_steps(trainer: Trainer, api: runyard.Api, backend: str) -> None:
    """Each epoch is a step with Keras' own numbers; an evaluation and a further training go on behind it."""
    run_id = f"keras-{backend}"
    told = trainer.run("keras_train", "epochs", run_id, KERAS_BACKEND=backend).facts
    assert told["backend"] == backend
    rows = rows_of(api, run_id)
    for name in ("val_loss", "val_mae"):
        assert points(rows, name) == list(enumerate(told["history"][name]))
    for name in ("loss", "mae"):
        further = enumerate(told["further"][name], EPOCHS + 1)
        assert points(rows, name) == [*enumerate(told["history"][name]), *further]
    assert points(rows, "epoch") == [(0, 0), (1, 1), (2, 2), (3, 3), (5, 4), (6, 5)]
    assert points(rows, "test_loss") == [(EPOCHS, told["test"]["loss"])]
    assert points(rows, "learning_rate") == [
        (step, pytest.approx(0.01)) for step in (0, 1, 2, 3, 5, 6)
    ]
    run = api.run(f"local/integrations/{run_id}")
    assert run.state == "finished"
    assert run.config["keras"]["optimizer"]["name"] == "adam"
    assert run.config["keras"]["parameter_count"] == 5 * 8 + 8 + 8 + 1
    model = api.artifact(f"local/integrations/model-{run_id}:latest")
    assert [entry.path for entry in model.files()] == ["model.keras"]


@needs("keras", "torch")
def test_batches_and_several_callbacks(trainer: Trainer, api: runyard.Api) -> None:
    """Every second batch is a step of its own, if wanted; a second callback has its own names."""
    told = trainer.run("keras_train", "batches", "keras-batches", KERAS_BACKEND="torch").facts
    rows = rows_of(api, "keras-batches")
    assert [value for _, value in points(rows, "batch/loss")] == told["batches"][1::2]
    assert [value for _, value in points(rows, "batch/batch")] == [1, 3, 5, 7, 9, 11]
    epochs = [value for _, value in points(rows, "loss")]
    assert epochs == [value for _, value in points(rows, "b/loss")] == told["history"]["loss"]


@needs("keras", "torch")
def test_a_training_that_fails(trainer: Trainer, api: runyard.Api) -> None:
    """The run has failed and holds the epochs up to then."""
    trainer.run("keras_train", "fails", "keras-fails", KERAS_BACKEND="torch", code=1)
    assert api.run("local/integrations/keras-fails").state == "failed"
    assert [step for step, _ in points(rows_of(api, "keras-fails"), "epoch")] == [0, 1]


@needs("keras", "tensorflow")
def test_the_tensorboard_callback_is_followed(trainer: Trainer, api: runyard.Api) -> None:
    """What Keras' own callback writes with TensorFlow is in the run, training and validation apart."""
    told = trainer.run("keras_train", "tensorboard", "keras-tb", KERAS_BACKEND="tensorflow").facts
    rows = rows_of(api, "keras-tb")
    for name, key in (("train/epoch_loss", "loss"), ("validation/epoch_loss", "val_loss")):
        found = points(rows, name)
        assert [step for step, _ in found] == list(range(EPOCHS))
        assert [value for _, value in found] == pytest.approx(told["history"][key])
