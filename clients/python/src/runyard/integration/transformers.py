"""A callback for the Trainer of Hugging Face's Transformers: what it logs, its arguments, its model's config, checkpoints if wanted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard.errors import InvalidArgument
from runyard.integration.models import log_model_file
from runyard.integration.open_run import numbers_of, plain_settings
from runyard.optional_package import import_optional

if TYPE_CHECKING:
    from runyard.active_run import Run

_TrainerCallback: Any = import_optional("transformers", "transformers").TrainerCallback

LOG_MODELS = ("no", "end", "checkpoint")
SUMMARIES = (
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_loss",
    "total_flos",
)
"""What the Trainer tells once, at the end; it goes into the summary."""


class RunyardCallback(_TrainerCallback):  # type: ignore[misc]  # known where Transformers is installed
    """Records what the Trainer logs, at its global step: `Trainer(…, callbacks=[RunyardCallback()])`.

    Names are `train/loss`, `eval/loss`, `test/…`. Only the process of rank 0 records. Where no run is open when the training
    begins, one is begun with `init_arguments`, named `run_name` of the arguments; whoever begins a run, it ends with the script or
    by `finish()`.
    """

    def __init__(
        self, run: Run | None = None, *, log_model: str = "no", **init_arguments: Any
    ) -> None:
        """`log_model`: "end" logs the model as an artifact when the training has ended, "checkpoint" each checkpoint."""
        super().__init__()
        if log_model not in LOG_MODELS:
            raise InvalidArgument(
                f"log_model is {log_model!r}; it is one of {', '.join(LOG_MODELS)}"
            )
        self._run = run
        self._log_model = log_model
        self._init_arguments = init_arguments

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        """Keeps the arguments and the model's config in the run's config."""
        if not state.is_world_process_zero:
            return
        settings = plain_settings(args.to_dict())
        if model is not None and hasattr(model, "config"):
            settings["model"] = plain_settings(_as_dict(model.config))
        if model is not None and hasattr(model, "num_parameters"):
            settings["parameter_count"] = model.num_parameters()
        self._open_run(args).config.update(settings)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        """Records what the Trainer logs."""
        if not state.is_world_process_zero or not logs:
            return
        run = self._open_run(args)
        ends = {name: value for name, value in logs.items() if name in SUMMARIES}
        if ends:
            run.summary.update(numbers_of(ends))
        values = {_name(name): value for name, value in logs.items() if name not in SUMMARIES}
        if values:
            run.log(numbers_of(values), step=state.global_step)

    def on_predict(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **others: Any
    ) -> None:
        """Records what a prediction with labels comes to."""
        if state.is_world_process_zero and metrics:
            values = {_name(name): value for name, value in metrics.items()}
            self._open_run(args).log(numbers_of(values), step=state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Logs a checkpoint, if that is wanted."""
        path = Path(args.output_dir, f"checkpoint-{state.global_step}")
        if self._log_model == "checkpoint" and state.is_world_process_zero and path.is_dir():
            aliases = ["latest", f"step-{state.global_step}"]
            log_model_file(self._open_run(args), path, aliases, _facts(state))

    def on_train_end(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        processing_class: Any = None,
        **others: Any,
    ) -> None:
        """Logs the model, if that is wanted."""
        if self._log_model != "end" or not state.is_world_process_zero or model is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            if processing_class is not None and hasattr(processing_class, "save_pretrained"):
                processing_class.save_pretrained(folder)
            log_model_file(self._open_run(args), Path(folder), ["latest", "final"], _facts(state))

    def _open_run(self, args: Any) -> Run:
        """Returns the run given, the current one, or a new one."""
        from runyard import run_registry
        from runyard.run_start import init

        if self._run is None or self._run.state != "running":
            found = run_registry.current()
            name = getattr(args, "run_name", None)
            is_named = name is not None and name != args.output_dir
            arguments = {**({"name": name} if is_named else {}), **self._init_arguments}
            self._run = found if found is not None else init(**arguments)
        return self._run


def _name(name: str) -> str:
    """Returns the name as a part and what of it: eval_loss is eval/loss."""
    for part in ("eval_", "test_"):
        if name.startswith(part):
            return f"{part[:-1]}/{name[len(part) :]}"
    return f"train/{name}"


def _facts(state: Any) -> dict[str, Any]:
    return {
        "global_step": state.global_step,
        "epoch": state.epoch,
        "best_metric": state.best_metric,
    }


def _as_dict(config: Any) -> dict[str, Any]:
    return config if isinstance(config, dict) else dict(config.to_dict())
