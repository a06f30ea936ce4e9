"""`run.watch`: what it refuses, and whose hooks it takes away; with real modules it is tested in integrations_real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard.errors import InvalidArgument


class Hook:
    def __init__(self, hooks: list[Hook]) -> None:
        self.hooks = hooks
        hooks.append(self)

    def remove(self) -> None:
        self.hooks.remove(self)


class Tensor:
    requires_grad = True

    def __init__(self) -> None:
        self.hooks: list[Hook] = []

    def register_hook(self, call: Any) -> Hook:
        return Hook(self.hooks)


class Module:
    """What a torch module is to `watch`."""

    def __init__(self) -> None:
        self.hooks: list[Hook] = []
        self.tensor = Tensor()

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        yield "weight", self.tensor

    def register_forward_hook(self, call: Any) -> Hook:
        return Hook(self.hooks)

    @property
    def hook_counts(self) -> tuple[int, int]:
        return len(self.tensor.hooks), len(self.hooks)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path))
    monkeypatch.setenv("RUNYARD_CONSOLE", "off")
    yield
    runyard.teardown()


def test_what_cannot_be_watched_is_refused() -> None:
    """What is no module, a module that is watched already, and arguments that mean nothing are refused."""
    with runyard.init() as run:
        module = Module()
        for wrong, named in (
            (None, {}),
            ([module, 3], {}),
            (module, {"log": "weights"}),
            (module, {"log_freq": 0}),
            (module, {"log_freq": True}),
        ):
            with pytest.raises(InvalidArgument, match=r"watch\(\)"):
                run.watch(wrong, **named)
        assert module.hook_counts == (0, 0)
        run.watch(module)
        with pytest.raises(InvalidArgument, match="watched already"):
            run.watch(module)


def test_hooks_are_taken_away() -> None:
    """unwatch() takes the hooks of a module away, or of all, and so does the end of the run."""
    one, other, quiet = Module(), Module(), Module()
    with runyard.init():
        runyard.watch([one, other], log="all")
        runyard.watch(quiet, log=None)
        assert (one.hook_counts, other.hook_counts, quiet.hook_counts) == ((1, 1), (1, 1), (0, 0))
        runyard.unwatch(one)
        assert (one.hook_counts, other.hook_counts) == ((0, 0), (1, 1))
        runyard.unwatch()
        assert other.hook_counts == (0, 0)
        runyard.watch(one, log="parameters")
        assert one.hook_counts == (0, 1)
    assert one.hook_counts == (0, 0)
