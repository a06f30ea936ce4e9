"""Calls back when a module has been imported, or at once if it was before."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Callable

OnImport = Callable[[ModuleType], None]

_waiting: dict[str, list[OnImport]] = {}


def after_import(name: str, call: OnImport) -> None:
    """Has `call(module)` called right after the module of that name was executed, before anybody has it."""
    module = sys.modules.get(name)
    if module is not None:
        call(module)
        return
    _waiting.setdefault(name, []).append(call)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: has the other finders look, and listens to the loader that they give."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _waiting:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: importlib.machinery.ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                _listen(spec)
                return spec
        return None


def _listen(spec: importlib.machinery.ModuleSpec) -> None:
    loader = spec.loader
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return

    def exec_module(module: ModuleType) -> None:
        execute(module)
        for call in _waiting.pop(spec.name, []):
            call(module)

    try:
        loader.exec_module = exec_module  # type: ignore[union-attr,method-assign]  # a loader is made for each module
    except AttributeError:
        return  # one that is shared and cannot be listened to: of modules that are built in


_finder = _Finder()
