"""What scripts written for wandb may ask for and this version does not offer: a clear word for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from runyard.errors import NotOffered

HARMLESS: Mapping[str, str] = {
    "write_traces": "traces are not recorded yet; the call is passed over",
}
"""Methods that may be passed over without loss of what log() records, and the note that says so."""

LATER = frozenset(
    {
        "Graph", "JoinedTable", "Molecule", "Node", "Object3D", "link_artifact", "link_model", "sweep", "controller",
        "upsert_artifact", "finish_artifact", "fork", "rewind", "agent",
    }
)  # fmt: skip
"""Names that come in a later version; passing over them would lose something."""

INIT_HARMLESS: Mapping[str, str] = {
    "monitor_gym": "videos of gym are not recorded yet",
    "magic": "magic is not known here",
    "anonymous": "there are no anonymous accounts here",
    "force": "there is nobody to log in yet",
}
"""Arguments of init() that are taken and have no effect yet."""

INIT_ALIASES = frozenset({"tensorboard"})
"""Arguments of init() that have a newer name: sync_tensorboard."""


def later_message(name: str, owner: str) -> str:
    """Returns the sentence for a name that comes later."""
    return (
        f"{owner}.{name} is not offered by this version of runyard: sweeps and 3D objects come later. "
        f"Numbers go through log(), files through save()"
    )


class _Later(type):
    """The type of placeholders: they can be imported, subclassed and asked about, but not used."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        raise NotOffered(later_message(cls.__name__, "runyard"))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(later_message(f"{cls.__name__}.{name}", "runyard"))


def placeholder(name: str) -> type:
    """Returns what stands for a name of LATER: a class that nothing is an instance of; its use raises NotOffered."""
    return _Later(name, (), {"__module__": "runyard", "__doc__": later_message(name, "runyard")})


def harmless_call(name: str, note: Callable[[str, str], None]) -> Callable[..., None]:
    """Returns a function that takes anything, notes once that it does nothing, and returns None."""

    def passed_over(*args: Any, **kwargs: Any) -> None:
        note(f"not_offered.{name}", f"{name}(): {HARMLESS[name]}")

    return passed_over


def check_init_arguments(given: Mapping[str, Any], note: Callable[[str, str], None]) -> None:
    """Notes arguments that have no effect; raises TypeError for names that neither wandb nor runyard knows."""
    for name, value in given.items():
        if name in INIT_HARMLESS:
            if value:
                note(f"init.{name}", f"init({name}={value!r}) has no effect: {INIT_HARMLESS[name]}")
        elif name not in INIT_ALIASES:
            raise TypeError(f"init() got an unexpected keyword argument {name!r}")
