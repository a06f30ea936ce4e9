"""A callback for LightGBM: what the evaluation says after each round, the parameters, and what the model became."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runyard.integration.open_run import numbers_of, open_run, plain_settings

if TYPE_CHECKING:
    from runyard.active_run import Run

FEATURE_COUNT_MAX = 100
"""Of more features the most important ones are kept."""


class RunyardCallback:
    """Records each round as one step of the run: `lightgbm.train(…, callbacks=[RunyardCallback()])`, `lightgbm.cv`, or an estimator.

    Numbers are named DATA/METRIC; those of `cv` are means, and DATA/METRIC.std beside them. `round` is the number of the round.
    """

    order = 25
    """After LightGBM's own callbacks that record, before the one that stops early, by an exception."""
    before_iteration = False

    def __init__(self, run: Run | None = None, *, prefix: str = "") -> None:
        """`prefix` is put before all names, "fold3/" say."""
        self._given_run = run
        self._prefix = prefix
        self._is_begun = False

    def __call__(self, env: Any) -> None:
        """Records the round that has ended."""
        run = open_run(self._given_run, "RunyardCallback")
        if env.iteration == env.begin_iteration or not self._is_begun:
            self._is_begun = True
            run.config.update({f"{self._prefix}lightgbm": plain_settings(env.params)})
        values: dict[str, Any] = {"round": env.iteration}
        for data, metric, value, _, *deviation in env.evaluation_result_list or ():
            values[f"{data}/{metric}"] = value
            if deviation:
                values[f"{data}/{metric}.std"] = deviation[0]
        run.log(numbers_of(values, self._prefix))


def log_summary(
    model: Any, run: Run | None = None, *, prefix: str = "", importance_type: str | None = "gain"
) -> None:
    """Keeps in the summary what a trained model is: its best round and scores, and how much each feature counts.

    `model` is a Booster or an estimator. LightGBM tells callbacks of the end of a training nothing, so this is called after it.
    """
    booster = getattr(model, "booster_", model)
    found: dict[str, Any] = {f"{prefix}best_iteration": int(booster.best_iteration)}
    scores = {
        f"{data}/{metric}": float(value)
        for data, metrics in booster.best_score.items()
        for metric, value in metrics.items()
    }
    if scores:
        found[f"{prefix}best_score"] = scores
    if importance_type is not None:
        importances = booster.feature_importance(importance_type=importance_type)
        pairs = zip(booster.feature_name(), map(float, importances))
        most = sorted(pairs, key=lambda pair: -pair[1])[:FEATURE_COUNT_MAX]
        found[f"{prefix}feature_importance"] = dict(most)
    open_run(run, "log_summary").summary.update(found)
