"""Imports packages that not everybody has, and says how to get one that is missing."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from runyard.errors import Error


class MissingPackage(Error, ImportError):
    """A package that the call needs is not installed; the message says how to install it."""


def import_optional(names: str | Sequence[str], extra: str) -> Any:
    """Returns the first of the modules that is installed; raises MissingPackage, which names the extra, if none is.

    A module that is there and fails to load raises what it raises.
    """
    candidates = [names] if isinstance(names, str) else list(names)
    missing: ImportError | None = None
    for name in candidates:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name + ".").startswith(error.name + "."):
                raise  # it is there, and lacks something itself
            missing = error
    raise MissingPackage(
        f"{' or '.join(sorted({name.split('.')[0] for name in candidates}))} is not installed here; "
        f'install it with: pip install "runyard[{extra}]"'
    ) from missing
