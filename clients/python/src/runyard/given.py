"""Checks values given to public calls whose type or size nothing else would tell of in words."""

from __future__ import annotations

import os
from typing import Any

from runyard.errors import InvalidArgument

SHOWN_LENGTH_MAX = 120


def shown(value: object) -> str:
    """Returns a value as a message shows it, cut if it is long."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[:SHOWN_LENGTH_MAX]}…"


def text(value: object, what: str) -> str:
    """Returns the value if it is text; `what` names the call and the argument."""
    if isinstance(value, str):
        return value
    raise InvalidArgument(f"{what} is of type {type(value).__name__}; it must be a string")


def listed(value: Any, what: str) -> list[Any]:
    """Returns the values as a list; raises InvalidArgument for what cannot be gone through."""
    try:
        return list(value)
    except TypeError:
        raise InvalidArgument(
            f"{what} is of type {type(value).__name__}; it must be a list"
        ) from None


def local_path(value: Any, what: str) -> str:
    """Returns the path of a file or folder of this machine as text."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise InvalidArgument(
            f"{what} is of type {type(value).__name__}; it must be the path of a file or folder"
        ) from None
