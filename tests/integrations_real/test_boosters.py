"""XGBoost and LightGBM, as they are: each round is a step with the numbers that the library itself tells."""

from __future__ import annotations

from typing import Any

import pytest

import runyard
from tests.integrations_real.frameworks import Trainer, needs, points

LIBRARIES = [
    pytest.param("xgboost", marks=needs("xgboost")),
    pytest.param("lightgbm", marks=needs("lightgbm")),
]
CASES = ("plain", "early", "cv", "estimator", "twice", "plain:again", "plain:again")
ROUNDS = 8


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def told(trainer: Trainer, library: str) -> dict[str, Any]:
    """What the library itself says of each case."""
    return dict(trainer.run("boosters", library, *CASES).facts)


def rows_of(api: runyard.Api, run_id: str) -> list[dict[str, Any]]:
    return list(api.run(f"local/integrations/{run_id}").scan_history(require="any"))


def values(rows: list[dict[str, Any]], name: str) -> list[float]:
    return [value for _, value in points(rows, name)]


def test_rounds_are_steps(told: dict[str, Any], api: runyard.Api, library: str) -> None:
    """All metrics of all data of all rounds, the parameters, and the importances of features are there."""
    rows = rows_of(api, f"{library}-plain")
    names = {"round": list(range(ROUNDS))}
    for data, metrics in told["plain"].items():
        names.update({f"{data}/{metric}": history for metric, history in metrics.items()})
    assert len(names) == 5
    for name, history in names.items():
        assert points(rows, name) == list(enumerate(history))
    run = api.run(f"local/integrations/{library}-plain")
    assert (run.state, run.config["given"]) == ("finished", 1)
    if library == "xgboost":
        assert run.config["xgboost"]["learner_model_param"]["num_feature"] == "4"
    else:
        assert run.config["lightgbm"]["num_leaves"] == 4
    prefix = "feature_importance."
    importances = {key: value for key, value in run.summary.items() if key.startswith(prefix)}
    most = max(importances, key=importances.__getitem__).removeprefix(prefix)
    assert most == {"xgboost": "f0", "lightgbm": "Column_0"}[library]


def test_a_training_that_stops_early(told: dict[str, Any], api: runyard.Api, library: str) -> None:
    """Every round that was made is there, and the best one is in the summary."""
    metric, history = next(iter(told["early"]["valid"].items()))
    assert 3 < len(history) < 60
    assert values(rows_of(api, f"{library}-early"), f"valid/{metric}") == history
    summary = api.run(f"local/integrations/{library}-early").summary
    assert 0 <= summary["best_iteration"] < len(history)


def test_a_training_that_fails(trainer: Trainer, api: runyard.Api, library: str) -> None:
    """The run has failed, with the exception, and the rounds up to then."""
    trainer.run("boosters", library, "fails", code=1)
    run = api.run(f"local/integrations/{library}-fails")
    assert run.state == "failed"
    assert "the training fails" in str(run.events())
    assert values(rows_of(api, f"{library}-fails"), "round") == [0, 1, 2, 3]


def test_cross_validation(told: dict[str, Any], api: runyard.Api, library: str) -> None:
    """Means are under the names of the metrics, deviations beside them."""
    rows = rows_of(api, f"{library}-cv")
    theirs, ours, deviation = {
        "xgboost": ("test-logloss-mean", "cv/test/logloss", "test-logloss-std"),
        "lightgbm": (
            "valid binary_logloss-mean",
            "cv/valid/binary_logloss",
            "valid binary_logloss-stdv",
        ),
    }[library]
    assert values(rows, ours) == told["cv"][theirs]
    assert values(rows, f"{ours}.std") == told["cv"][deviation]


def test_estimators(told: dict[str, Any], api: runyard.Api, library: str) -> None:
    """Estimators of scikit-learn's kind are recorded in the same way."""
    ((data, metrics),) = told["estimator"].items()
    rows = rows_of(api, f"{library}-estimator")
    for metric, history in metrics.items():
        assert points(rows, f"{data}/{metric}") == list(enumerate(history))


def test_several_callbacks(told: dict[str, Any], api: runyard.Api, library: str) -> None:
    """Two callbacks and the script's own log() do not disturb each other."""
    rows = rows_of(api, f"{library}-twice")
    assert values(rows, "own") == [1.0]
    for data, metrics in told["twice"].items():
        for metric, history in metrics.items():
            assert values(rows, f"{data}/{metric}") == values(rows, f"b/{data}/{metric}") == history


def test_a_training_that_is_resumed(told: dict[str, Any], api: runyard.Api, library: str) -> None:
    """A second training in the same run goes on behind the steps of the first."""
    rows = rows_of(api, f"{library}-again")
    assert points(rows, "round") == [(step, step % ROUNDS) for step in range(2 * ROUNDS)]
    assert len(api.run(f"local/integrations/{library}-again").attempts()) == 2
