"""Runyard records runs: config, metrics, summary, files. `import runyard as wandb` runs an ordinary script.

Importing this loads next to nothing; the rest comes with the first use of a name.
"""

from __future__ import annotations

from runyard.version import VERSION as __version__

TYPE_CHECKING = False  # importing typing would take longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO, Any

    from runyard import errors, plot
    from runyard.active_run import Run
    from runyard.alerts import AlertLevel
    from runyard.api import Api
    from runyard.artifacts.artifact import Artifact
    from runyard.errors import CommError, Error, UsageError
    from runyard.media import (
        Audio,
        Classes,
        Histogram,
        Html,
        Image,
        Plotly,
        Table,
        Video,
        plot_table,
    )
    from runyard.run_config import Config
    from runyard.run_start import init
    from runyard.run_summary import Summary
    from runyard.settings import Settings
    from runyard.terminal import termerror, termlog, termwarn

__all__ = [
    "AlertLevel",
    "Api",
    "Artifact",
    "Audio",
    "Classes",
    "CommError",
    "Config",
    "Error",
    "Histogram",
    "Html",
    "Image",
    "Plotly",
    "Run",
    "Settings",
    "Summary",
    "Table",
    "UsageError",
    "Video",
    "__version__",
    "alert",
    "config",
    "define_metric",
    "errors",
    "finish",
    "init",
    "log",
    "log_artifact",
    "log_model",
    "login",
    "mark_preempting",
    "plot",
    "plot_table",
    "restore",
    "run",
    "save",
    "setup",
    "summary",
    "teardown",
    "termerror",
    "termlog",
    "termwarn",
    "use_artifact",
    "use_model",
]

_HOMES = {
    "AlertLevel": "runyard.alerts",
    "Api": "runyard.api",
    "Artifact": "runyard.artifacts.artifact",
    "Audio": "runyard.media.audio",
    "Classes": "runyard.media.overlays",
    "CommError": "runyard.errors",
    "Config": "runyard.run_config",
    "Error": "runyard.errors",
    "Histogram": "runyard.media.histogram",
    "Html": "runyard.media.html",
    "Image": "runyard.media.image",
    "Plotly": "runyard.media.plots",
    "Run": "runyard.active_run",
    "Settings": "runyard.settings",
    "Summary": "runyard.run_summary",
    "Table": "runyard.media.table",
    "UsageError": "runyard.errors",
    "Video": "runyard.media.video",
    "init": "runyard.run_start",
    "plot_table": "runyard.media.plots",
    "termerror": "runyard.terminal",
    "termlog": "runyard.terminal",
    "termwarn": "runyard.terminal",
}
"""Where each public name that is loaded at its first use lives."""


class _Unstarted:
    """Stands for `runyard.config` and `runyard.summary` while no run is active."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def _refuse(self) -> Exception:
        return _no_run(self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._refuse()

    def __setattr__(self, name: str, value: Any) -> None:
        raise self._refuse()

    def __getitem__(self, key: str) -> Any:
        raise self._refuse()

    def __setitem__(self, key: str, value: Any) -> None:
        raise self._refuse()


run: Run | None = None
"""The current run, None while there is none."""
config: Any = _Unstarted("config")
"""The current run's config."""
summary: Any = _Unstarted("summary")
"""The current run's summary."""


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """Records numbers and media in the current run; see Run.log."""
    _current("log").log(data, step, commit)


def save(glob_str: Any = None, base_path: Any = None, policy: str = "live") -> list[str]:
    """Uploads files of the current run; see Run.save."""
    return _current("save").save(glob_str, base_path, policy)


def log_artifact(artifact_or_path: Any, *arguments: Any, **named: Any) -> Artifact:
    """Logs an artifact, or a file or folder as one, in the current run; see Run.log_artifact."""
    return _current("log_artifact").log_artifact(artifact_or_path, *arguments, **named)


def use_artifact(artifact_or_name: Any, *arguments: Any, **named: Any) -> Artifact:
    """Records that the current run uses a version, and returns it; see Run.use_artifact."""
    return _current("use_artifact").use_artifact(artifact_or_name, *arguments, **named)


def log_model(path: Any, *arguments: Any, **named: Any) -> Artifact:
    """Logs a file or folder as a model; see Run.log_model."""
    return _current("log_model").log_model(path, *arguments, **named)


def use_model(name: str) -> str:
    """Downloads a model that the current run uses, and returns its path; see Run.use_model."""
    return _current("use_model").use_model(name)


def restore(
    name: str, run_path: str | None = None, replace: bool = False, root: Any = None
) -> IO[str]:
    """Brings back a file of the current run, or of the run at `run_path`; see Run.restore."""
    if run is not None:
        return run.restore(name, run_path, replace, root)
    if run_path is None:
        raise _no_run("restore")
    from runyard.run_restore import restore as restore_of
    from runyard.settings import Settings, resolve

    base_url = resolve({}, Settings()).base_url
    return restore_of(name, run_path, root=root or ".", replace=replace, base_url=base_url)


def define_metric(name: str, *arguments: Any, **named: Any) -> Any:
    """Says how a metric of the current run is drawn and summarised; see Run.define_metric."""
    return _current("define_metric").define_metric(name, *arguments, **named)


def watch(models: Any, *arguments: Any, **named: Any) -> None:
    """Records gradients and parameters of torch modules in the current run; see Run.watch."""
    _current("watch").watch(models, *arguments, **named)


def unwatch(models: Any = None) -> None:
    """Stops watching modules for the current run; see Run.unwatch."""
    _current("unwatch").unwatch(models)


def alert(title: str, text: str = "", level: Any = None, wait_duration: Any = None) -> None:
    """Tells people at once of what happened in the current run; see Run.alert."""
    _current("alert").alert(title, text, level, wait_duration)


def mark_preempting(reason: str = "") -> None:
    """Tells that the machine of the current run will be taken away; see Run.mark_preempting."""
    _current("mark_preempting").mark_preempting(reason)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """Ends the current run, if there is one; see Run.finish."""
    if run is not None:
        run.finish(exit_code, quiet)


def login(*arguments: Any, **named: Any) -> bool:
    """Returns True: the server on this machine asks nobody who they are. Taken for scripts written for wandb."""
    return True


def setup(settings: Any = None) -> None:
    """Does nothing: there is nothing to set up. Taken for scripts written for wandb."""


def teardown(exit_code: int | None = None) -> None:
    """Finishes every run that is active."""
    while run is not None:
        run.finish(exit_code)


def _current(name: str) -> Run:
    if run is None:
        raise _no_run(name)
    return run


def _no_run(name: str) -> Exception:
    from runyard.errors import UsageError

    return UsageError(f"call runyard.init() before runyard.{name}")


def __getattr__(name: str) -> Any:
    import importlib

    if name in ("errors", "integration", "plot"):
        return importlib.import_module(f"runyard.{name}")
    if name == "tensorboard":  # wandb.tensorboard.patch()
        return importlib.import_module("runyard.integration.tensorboard")
    if name == "util":  # wandb.util.generate_id() is how scripts draw an id to resume with
        naming, types = importlib.import_module("runyard.naming"), importlib.import_module("types")
        return types.SimpleNamespace(generate_id=naming.draw_run_id)
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value
    if name.startswith("_"):
        raise AttributeError(f"module 'runyard' has no attribute {name!r}")
    # `from runyard import x` would ask here for the submodule x first.
    not_offered = importlib.import_module("runyard.not_offered")
    if name in not_offered.HARMLESS:
        return lambda *arguments, **named: getattr(_current(name), name)(*arguments, **named)
    if name in not_offered.LATER:
        value = globals()[name] = not_offered.placeholder(name)
        return value
    raise AttributeError(f"module 'runyard' has no attribute {name!r}")
