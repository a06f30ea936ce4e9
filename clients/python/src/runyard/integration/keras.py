"""A callback for Keras 3, whatever its backend: what each epoch came to, batches if wanted, and the settings of the training."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard.errors import InvalidArgument
from runyard.integration.models import log_model_file
from runyard.integration.open_run import numbers_of, open_run, plain_settings
from runyard.metric_log import scalar_of
from runyard.optional_package import import_optional

if TYPE_CHECKING:
    from runyard.active_run import Run

_Callback: Any = import_optional("keras", "keras").callbacks.Callback


class RunyardCallback(_Callback):  # type: ignore[misc]  # known where Keras is installed
    """Records each epoch as one step of the run: `model.fit(…, callbacks=[RunyardCallback()])`.

    Names are those of Keras: `loss`, `val_loss` …, and `epoch` and `learning_rate` beside them. What `model.evaluate` finds
    with this callback is named `test_loss` and so on.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        prefix: str = "",
        log_freq: str | int = "epoch",
        log_model: bool = False,
    ) -> None:
        """`log_freq`: "epoch", "batch", or a number of batches after which `batch/loss` and so on are recorded too, each time as
        a step of its own. `log_model`: the model is logged as an artifact when the training has ended.
        """
        super().__init__()
        self._given_run = run
        self._prefix = prefix
        self._batch_interval = _batch_interval(log_freq)
        self._batch_count = 0
        self._logs_model = log_model
        self._is_fitting = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Keeps the settings in the config."""
        self._is_fitting = True
        settings: dict[str, Any] = dict(self.params or {})
        settings.pop("verbose", None)
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is not None:
            settings["optimizer"] = optimizer.get_config()
        if getattr(self.model, "built", False):
            settings["parameter_count"] = self.model.count_params()
        settings["model"] = self.model.name
        self._run().config.update({f"{self._prefix}keras": plain_settings(settings)})

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Records a batch, if its turn has come."""
        self._batch_count += 1
        if self._batch_interval and self._batch_count % self._batch_interval == 0:
            values = {f"batch/{name}": value for name, value in (logs or {}).items()}
            values.update(
                {"batch/batch": self._batch_count - 1, "batch/learning_rate": self._rate()}
            )
            self._log(values)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Records the epoch."""
        self._log({**(logs or {}), "epoch": epoch, "learning_rate": self._rate()})

    def on_train_end(self, logs: Any = None) -> None:
        """Logs the model, if that is wanted."""
        self._is_fitting = False
        if self._logs_model:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model.keras")
                self.model.save(path)
                log_model_file(self._run(), path, ["latest"], {"framework": "keras"})

    def on_test_end(self, logs: Any = None) -> None:
        """Records an evaluation that is not part of a training."""
        if not self._is_fitting:
            self._log({f"test_{name}": value for name, value in (logs or {}).items()})

    def _rate(self) -> float | None:
        """Returns the learning rate of now; None where there is none."""
        optimizer = getattr(self.model, "optimizer", None)
        rate = getattr(optimizer, "learning_rate", None)
        return None if rate is None else scalar_of(rate)

    def _log(self, values: dict[str, Any]) -> None:
        self._run().log(numbers_of(values, self._prefix))

    def _run(self) -> Run:
        return open_run(self._given_run, "RunyardCallback")


def _batch_interval(log_freq: str | int) -> int:
    """Returns after how many batches one is recorded; 0: none."""
    known = {"epoch": 0, "batch": 1}
    if isinstance(log_freq, str) and log_freq in known:
        return known[log_freq]
    if isinstance(log_freq, int) and not isinstance(log_freq, bool) and log_freq > 0:
        return log_freq
    raise InvalidArgument(
        f'log_freq is {log_freq!r}; it is "epoch", "batch" or a number of batches'
    )
