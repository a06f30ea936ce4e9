"""A logger for PyTorch Lightning: hyperparameters, metrics at Lightning's steps, checkpoints if wanted; rank 0 only.

Lightning comes as `lightning` and as `pytorch_lightning`. The one that the script has imported is taken, else the one that is installed.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard import exit_hooks
from runyard.errors import InvalidArgument
from runyard.integration.models import log_model_file
from runyard.integration.open_run import numbers_of, plain_settings
from runyard.optional_package import import_optional

if TYPE_CHECKING:
    from runyard.active_run import Run

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
_PACKAGE = next((name for name in _PACKAGES if name in sys.modules), "")
_base: Any = import_optional(
    [f"{name}.loggers.logger" for name in ([_PACKAGE] if _PACKAGE else _PACKAGES)], "lightning"
)
_rank_zero: Any = import_optional(
    _base.__name__.replace("loggers.logger", "utilities.rank_zero"), "lightning"
)
_Logger: Any = _base.Logger
_rank_zero_only: Any = _rank_zero.rank_zero_only


class RunyardLogger(_Logger):  # type: ignore[misc]  # known where Lightning is installed
    """Records into a run: `Trainer(logger=RunyardLogger(project="p"))`; `logger.experiment` is the run.

    Without `run`, the current run is used when something is first recorded, else one is begun with `init_arguments`; it
    ends with the script or by `finish()`, so that `fit` and `test` go into one run.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        prefix: str = "",
        log_model: bool | str = False,
        **init_arguments: Any,
    ) -> None:
        """`log_model`: True logs the checkpoints that are there in the end as artifacts, "all" each when it is saved."""
        super().__init__()
        if log_model not in (True, False, "all"):
            raise InvalidArgument(f'log_model is {log_model!r}; it is True, False or "all"')
        self._run = run
        self._prefix = prefix
        self._log_model = log_model
        self._init_arguments = init_arguments
        self._checkpoint_callbacks: list[Any] = []
        self._logged: dict[str, float] = {}
        """When each checkpoint that was logged had been saved."""

    @property
    @_base.rank_zero_experiment  # type: ignore[untyped-decorator]  # known where Lightning is installed
    def experiment(self) -> Run:
        """Returns the run; in processes of other ranks something that takes every call and does nothing."""
        from runyard import run_registry
        from runyard.run_start import init

        if self._run is None or self._run.state != "running":
            found = run_registry.current()
            self._run = found if found is not None else init(**self._init_arguments)
        return self._run

    @property
    def name(self) -> str | None:
        """Returns the project."""
        return self._run.project if self._run is not None else self._init_arguments.get("project")

    @property
    def version(self) -> str | None:
        """Returns the id of the run; None while there is none."""
        return self._run.id if self._run is not None else self._init_arguments.get("id")

    @property
    def save_dir(self) -> str | None:
        """Returns None: checkpoints lie in the Trainer's `default_root_dir`."""
        return None

    @_rank_zero_only  # type: ignore[untyped-decorator]  # known where Lightning is installed
    def log_hyperparams(self, params: Any, *arguments: Any, **named: Any) -> None:
        """Keeps hyperparameters in the config."""
        fields = vars(params) if isinstance(params, Namespace) else dict(params or {})
        self.experiment.config.update(plain_settings(fields))

    @_rank_zero_only  # type: ignore[untyped-decorator]  # known where Lightning is installed
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Records metrics at a step."""
        values = numbers_of(metrics, self._prefix)
        if values:
            self.experiment.log(values, step=step)

    def watch(self, model: Any, log: str | None = "gradients", log_freq: int = 1000) -> None:
        """Records gradients and parameters of the module; see Run.watch."""
        self.experiment.watch(model, log=log, log_freq=log_freq)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Logs a checkpoint at once, or notes who saves them."""
        if self._log_model == "all":
            self._log_checkpoints(checkpoint_callback)
        elif self._log_model and checkpoint_callback not in self._checkpoint_callbacks:
            self._checkpoint_callbacks.append(checkpoint_callback)

    @_rank_zero_only  # type: ignore[untyped-decorator]  # known where Lightning is installed
    def finalize(self, status: str) -> None:
        """Logs the checkpoints that are there, also of a training that failed; the run goes on, and ends as the script does.

        After Ctrl-C Lightning leaves the script with a plain exit code, so the run ends here, as killed.
        """
        for callback in self._checkpoint_callbacks:
            self._log_checkpoints(callback)
        _, error, trace = sys.exc_info()
        if status != "success" and self._run is not None and isinstance(error, KeyboardInterrupt):
            self._run.end(exit_hooks.end_of(KeyboardInterrupt, error, trace))

    @_rank_zero_only  # type: ignore[untyped-decorator]  # known where Lightning is installed
    def _log_checkpoints(self, callback: Any) -> None:
        scores = {str(path): score for path, score in callback.best_k_models.items()}
        for path in (callback.best_model_path, callback.last_model_path):
            if path:
                scores.setdefault(
                    str(path),
                    callback.best_model_score if path == callback.best_model_path else None,
                )
        for path, score in sorted(scores.items(), key=lambda item: _saved_at(item[0])):
            saved_at = _saved_at(path)
            if not saved_at or self._logged.get(path) == saved_at:
                continue
            self._logged[path] = saved_at
            is_best = path == str(callback.best_model_path)
            metadata = numbers_of({"score": score}) | {
                "file": Path(path).name,
                "monitor": callback.monitor,
            }
            aliases = ["latest", "best"] if is_best else ["latest"]
            log_model_file(self.experiment, Path(path), aliases, metadata, name="model.ckpt")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None, "_checkpoint_callbacks": []}


def _saved_at(path: str) -> float:
    """Returns when a checkpoint was saved; 0 if it is not there any more."""
    try:
        return os.stat(path).st_mtime  # noqa: PTH116  # a folder or a file, by its name
    except OSError:
        return 0.0
