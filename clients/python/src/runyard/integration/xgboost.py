"""A callback for XGBoost: what the evaluation says after each round, the parameters, and how much each feature counts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from runyard.integration.open_run import numbers_of, open_run
from runyard.optional_package import import_optional

if TYPE_CHECKING:
    from runyard.active_run import Run

_TrainingCallback: Any = import_optional("xgboost.callback", "xgboost").TrainingCallback

FEATURE_COUNT_MAX = 100
"""Of more features the most important ones are kept."""


class RunyardCallback(_TrainingCallback):  # type: ignore[misc]  # known where XGBoost is installed
    """Records each round as one step of the run: `xgboost.train(…, callbacks=[RunyardCallback()])`, `xgboost.cv`, or an estimator.

    Numbers are named DATA/METRIC; those of `cv` are means, and DATA/METRIC.std beside them. `round` is the number that XGBoost
    gives the round. Of the workers of a distributed training the first one records.
    """

    def __init__(
        self, run: Run | None = None, *, prefix: str = "", importance_type: str | None = "gain"
    ) -> None:
        """`prefix` is put before all names, "fold3/" say; `importance_type` of None leaves the importances out."""
        super().__init__()
        self._given_run = run
        self._prefix = prefix
        self._importance_type = importance_type

    def before_training(self, model: Any) -> Any:
        """Keeps the parameters in the config."""
        if _rank():
            return model
        run = self._run()
        boosters = [fold.bst for fold in model.cvfolds] if hasattr(model, "cvfolds") else [model]
        for booster in boosters[:1]:
            learner = json.loads(booster.save_config()).get("learner", {})
            run.config.update({f"{self._prefix}xgboost": learner})
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Records the round; training goes on."""
        if _rank():
            return False
        values: dict[str, Any] = {"round": epoch}
        for data, metrics in evals_log.items():
            for metric, history in metrics.items():
                last = history[-1]
                if isinstance(last, tuple):
                    values[f"{data}/{metric}"], values[f"{data}/{metric}.std"] = last
                else:
                    values[f"{data}/{metric}"] = last
        self._run().log(numbers_of(values, self._prefix))
        return False

    def after_training(self, model: Any) -> Any:
        """Keeps the best round and the importances of features in the summary."""
        if _rank():
            return model
        found: dict[str, Any] = {}
        for name in ("best_iteration", "best_score"):
            value = _attribute(model, name)
            if value is not None:
                found[self._prefix + name] = value
        if self._importance_type is not None and hasattr(model, "get_score"):
            found[f"{self._prefix}feature_importance"] = self._importances(model)
        if found:
            self._run().summary.update(found)
        return model

    def _importances(self, booster: Any) -> dict[str, float]:
        scores = booster.get_score(importance_type=self._importance_type)
        plain = {
            name: float(score[0] if isinstance(score, list) else score)
            for name, score in scores.items()
        }
        most = sorted(plain, key=lambda name: -plain[name])[:FEATURE_COUNT_MAX]
        return {name: plain[name] for name in most}

    def _run(self) -> Run:
        return open_run(self._given_run, "RunyardCallback")


def _rank() -> int:
    """Returns which worker of a distributed training this is; 0 where there is but one."""
    collective = sys.modules.get("xgboost.collective")
    return int(collective.get_rank()) if collective is not None else 0


def _attribute(model: Any, name: str) -> float | None:
    """Returns what early stopping left; None where it did not run."""
    text = model.attr(name) if hasattr(model, "attr") else None
    return None if text is None else float(text) if "." in text or "e" in text else int(text)
