"""PyTorch Lightning, under both of its names: metrics at its steps, hyperparameters, checkpoints, resumes and failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import runyard
from tests.integrations_real.frameworks import Trainer, needs, points

pytestmark = needs("torch", "lightning")


def rows_of(api: runyard.Api, run_id: str) -> list[dict[str, Any]]:
    return list(api.run(f"local/integrations/{run_id}").scan_history(require="any"))


@pytest.mark.parametrize(
    "case", ["plain", pytest.param("pytorch_lightning", marks=needs("pytorch_lightning"))]
)
def test_metrics_are_at_lightnings_steps(trainer: Trainer, api: runyard.Api, case: str) -> None:
    """What the module logs is there at the global step; a further Trainer goes on from a checkpoint in the same run."""
    told = trainer.run("lightning_train", case, f"pl-{case}").facts
    rows = rows_of(api, f"pl-{case}")
    assert len(told["train_loss"]) == {"plain": 12, "pytorch_lightning": 9}[case]
    assert points(rows, "train_loss") == [tuple(pair) for pair in told["train_loss"]]
    assert points(rows, "val_loss") == [(step - 1, value) for step, value in told["val_loss"]]
    assert points(rows, "test_loss") == [(9, told["test_loss"])]
    run = api.run(f"local/integrations/pl-{case}")
    assert (run.state, run.config["width"], run.config["rate"]) == ("finished", 4, 0.1)
    assert tuple(run.tags) == ("pl",)


def test_checkpoints_are_versions(trainer: Trainer, api: runyard.Api) -> None:
    """With log_model="all" each checkpoint is a version when it is saved; the best is called so, and holds what was saved."""
    told = trainer.run("lightning_train", "all", "pl-all").facts
    best = api.artifact("local/integrations/model-pl-all:best")
    folder = best.download(str(trainer.folder / "best"))
    assert Path(folder, "model.ckpt").read_bytes() == (trainer.folder / told["best"]).read_bytes()
    assert best.metadata["monitor"] == "val_loss"
    assert api.artifact("local/integrations/model-pl-all:latest").version != "v0"


@pytest.mark.parametrize(("case", "state"), [("fails", "failed"), ("interrupted", "killed")])
def test_a_training_that_is_broken_off(
    trainer: Trainer, api: runyard.Api, case: str, state: str
) -> None:
    """The run ends as the script did, with its points and the checkpoint that was saved before."""
    trainer.run("lightning_train", case, f"pl-{case}", code=1)
    run = api.run(f"local/integrations/pl-{case}")
    assert run.state == state
    assert [step for step, _ in points(rows_of(api, f"pl-{case}"), "train_loss")][:5] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert api.artifact(f"local/integrations/model-pl-{case}:best").version == "v0"
