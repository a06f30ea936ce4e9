"""Ids and names: which ones may be, and how a random id is drawn."""

from __future__ import annotations

import secrets
import unicodedata

from runyard.errors import InvalidArgument
from runyard.journal_format import METRIC_NAME_BYTES_MAX

RUN_ID_LENGTH = 8
RUN_ID_LENGTH_MAX = 64
PROJECT_NAME_LENGTH_MAX = 128
LABEL_LENGTH_MAX = 256
NOTES_BYTES_MAX = 256 * 1024
TAG_COUNT_MAX = 256
RUN_ID_FORBIDDEN = frozenset("/\\#?%:;,'")
PROJECT_NAME_FORBIDDEN = frozenset("/\\#?%:")
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def draw_run_id() -> str:
    """Returns a random id of 8 characters a-z0-9; seeding `random` has no say in it."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(RUN_ID_LENGTH))


def draw_request_id() -> str:
    """Returns 32 random hex digits."""
    return secrets.token_hex(16)


def check_run_id(run_id: str) -> str:
    """Returns the id if it may name a run; raises InvalidArgument that says what is wrong."""
    return _check(run_id, "run id", RUN_ID_LENGTH_MAX, RUN_ID_FORBIDDEN)


def check_project_name(name: str) -> str:
    """Returns the name if it may name a project; raises InvalidArgument that says what is wrong."""
    return _check(name, "project", PROJECT_NAME_LENGTH_MAX, PROJECT_NAME_FORBIDDEN)


def check_entity_name(name: str) -> str:
    """Returns the name if it may name an entity; raises InvalidArgument that says what is wrong."""
    return _check(name, "entity", PROJECT_NAME_LENGTH_MAX, PROJECT_NAME_FORBIDDEN)


def metric_name_problem(name: object) -> str:
    """Returns what is wrong with a metric's name, or "" if nothing is."""
    if not isinstance(name, str):
        return f"is of type {type(name).__name__}; names of metrics are strings"
    if not name:
        return "is empty"
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        return "holds a lone surrogate, which UTF-8 cannot say"
    if size_bytes > METRIC_NAME_BYTES_MAX:
        return f"has {size_bytes} bytes, at most {METRIC_NAME_BYTES_MAX} are allowed"
    if not name.isprintable() and any(unicodedata.category(c) == "Cc" for c in name):
        return "holds a control character"
    return ""


def check_label(text: str, what: str) -> str:
    """Returns the text if it may be a name to show, a group or a tag; raises InvalidArgument that says what is wrong."""
    problem = ""
    if len(text) > LABEL_LENGTH_MAX:
        problem = f"has {len(text)} characters, at most {LABEL_LENGTH_MAX} are allowed"
    elif any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        problem = "holds a control character or a lone surrogate"
    if problem:
        raise _invalid(what, text, problem)
    return text


def check_notes(text: str) -> str:
    """Returns the text if it may be notes; raises InvalidArgument that says what is wrong."""
    size_bytes = len(text.encode(errors="surrogatepass"))
    problem = ""
    if size_bytes > NOTES_BYTES_MAX:
        problem = f"have {size_bytes} bytes, at most {NOTES_BYTES_MAX} are allowed"
    elif any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
        problem = "hold a NUL character or a lone surrogate"
    if problem:
        raise _invalid("notes", text, problem)
    return text


def check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the tags if a run may have them; raises InvalidArgument that says what is wrong."""
    for tag in tags:
        check_label(tag, "tag")
        if not tag.strip():
            raise _invalid("tag", tag, "is empty")
    if len(set(tags)) > TAG_COUNT_MAX:
        raise _invalid(
            "tags", "", f"are {len(set(tags))}, at most {TAG_COUNT_MAX} are allowed for a run"
        )
    return tags


def _invalid(what: str, value: str, problem: str) -> InvalidArgument:
    shown = repr(value[:64]) + (" …" if len(value) > 64 else "")
    return InvalidArgument(
        f"{what} {shown} {problem}" if value else f"{what} {problem}",
        reason="FIELD_INVALID",
        metadata={"field": what, "value": shown},
    )


def _check(name: object, what: str, length_max: int, forbidden: frozenset[str]) -> str:
    problem = ""
    if not isinstance(name, str):
        problem = f"is of type {type(name).__name__}; it must be a string"
    elif not name:
        problem = "is empty"
    elif len(name) > length_max:
        problem = f"has {len(name)} characters, at most {length_max} are allowed"
    elif name != name.strip():
        problem = "begins or ends with a space"
    elif name in (".", ".."):
        problem = "is a relative folder name"
    else:
        wrong = sorted(
            {c for c in name if c in forbidden or unicodedata.category(c) in ("Cc", "Cs")}
        )
        if wrong:
            problem = f"holds {' '.join(map(repr, wrong))}, which it may not"
    if problem:
        raise InvalidArgument(
            f"{what} {name[:256] if isinstance(name, str) else name!r} {problem}",
            reason="FIELD_INVALID",
            metadata={"field": what, "value": str(name)[:256], "limit": str(length_max)},
        )
    return str(name)
