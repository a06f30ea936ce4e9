"""Puts an exception into words: its class, what it says, and its traceback with causes and groups."""

from __future__ import annotations

import traceback
from types import TracebackType

TYPE_LENGTH_MAX = 512
MESSAGE_LENGTH_MAX = 4_096
TRACEBACK_LENGTH_MAX = 16_000
CUT = "... the beginning is left out ...\n"


def exception_fields(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> dict[str, str]:
    """Returns `type`, `message` and `traceback`; of a long traceback the end, which names the exception.

    An exception whose own methods raise is told of by what can be known of it.
    """
    return {
        "type": _type_name(kind)[:TYPE_LENGTH_MAX],
        "message": _plain(_message(error))[:MESSAGE_LENGTH_MAX],
        "traceback": _end_of(_plain(_traceback(kind, error, trace))),
    }


def _type_name(kind: type[BaseException]) -> str:
    module = kind.__module__
    name = kind.__qualname__
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:  # the script's own __str__
        return f"<its str() raised {type(problem).__name__}>"


def _traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(kind, error, trace))
    except Exception:  # the script's own methods, or sources that cannot be read
        return kind.__qualname__


def _end_of(text: str) -> str:
    if len(text) <= TRACEBACK_LENGTH_MAX:
        return text
    end = text[-(TRACEBACK_LENGTH_MAX - len(CUT)) :]
    return CUT + end[end.find("\n") + 1 :]


def _plain(text: str) -> str:
    """Returns the text without halves of surrogate pairs, which no protobuf string may hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
