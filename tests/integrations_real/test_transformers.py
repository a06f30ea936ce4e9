"""The Trainer of Transformers: its logs at its global step, its arguments, checkpoints, a failure and the resume after it."""

from __future__ import annotations

from typing import Any

import runyard
from tests.integrations_real.frameworks import Trainer, needs, points

pytestmark = needs("torch", "transformers", "accelerate")


def rows_of(api: runyard.Api, run_id: str) -> list[dict[str, Any]]:
    return list(api.run(f"local/integrations/{run_id}").scan_history(require="any"))


def logged(told: dict[str, Any], name: str) -> list[tuple[int, float]]:
    """Returns (step, value) out of what the Trainer says it logged."""
    return [(entry["step"], entry[name]) for entry in told["log"] if name in entry]


def test_the_trainers_logs_are_recorded(trainer: Trainer, api: runyard.Api) -> None:
    """Losses and evaluations are at the global step; arguments, the model's config and the run's name are there."""
    told = trainer.run("transformers_train", "plain", "hf-plain").facts
    rows = rows_of(api, "hf-plain")
    for name, key in (
        ("train/loss", "loss"), ("train/learning_rate", "learning_rate"), ("train/grad_norm", "grad_norm"), ("eval/loss", "eval_loss"),
    ):  # fmt: skip
        assert points(rows, name) == logged(told, key)
    assert len(points(rows, "train/loss")) == 6 and len(points(rows, "eval/loss")) == 3
    assert points(rows, "test/loss") == [(12, told["predicted"]["test_loss"])]
    run = api.run("local/integrations/hf-plain")
    assert (run.name, run.state) == ("tiny", "finished")
    assert run.config["max_steps"] == 12
    assert run.config["model"]["hidden_size"] == 8
    assert run.config["parameter_count"] > 100
    assert run.summary["train_loss"] == logged(told, "train_loss")[0][1]
    checkpoint = api.artifact("local/integrations/model-hf-plain:step-12")
    assert "model.safetensors" in [entry.path for entry in checkpoint.files()]


def test_a_training_fails_and_is_resumed(trainer: Trainer, api: runyard.Api) -> None:
    """The run has failed at first; resumed from the last checkpoint, its steps go on from there and it finishes."""
    trainer.run("transformers_train", "fails", "hf-again", code=1)
    run = api.run("local/integrations/hf-again")
    assert run.state == "failed"
    before = points(rows_of(api, "hf-again"), "train/loss")
    assert [step for step, _ in before] == [2, 4, 6]
    told = trainer.run("transformers_train", "resumes", "hf-again").facts
    run = api.run("local/integrations/hf-again")
    assert run.state == "finished" and len(run.attempts()) == 2
    after = points(rows_of(api, "hf-again"), "train/loss")
    again = [pair for pair in logged(told, "loss") if pair[0] > 4]
    assert [step for step, _ in again] == [6, 8, 10, 12]
    assert after == sorted([*before, *again], key=lambda pair: pair[0])
