"""What a run folder tells of the run's artifacts: which became versions, which did not and why, which are unsent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SHOWN_MAX = 10


def answer_lines(folder: Path, unnoted: Mapping[str, Any] | None = None) -> list[str]:
    """Returns a line for each artifact of which the agent has told what became of it: first those that failed.

    `unnoted` are answers that only the mark has, as there was no room for them in the folder.
    """
    failed, done = [], []
    told: Iterable[Any] = (unnoted or {}).values()
    for answer in (*_answers(folder), *(one for one in told if isinstance(one, dict))):
        error = answer.get("error")
        if isinstance(error, dict):
            name = answer.get("name") or "?"
            failed.append(f"artifact {name} did not become a version: {error.get('message')}")
        else:
            note = " (unchanged)" if answer.get("is_unchanged") else ""
            done.append(f"artifact {answer.get('path')}{note}")
    lines = [*failed, *done]
    more = len(lines) - SHOWN_MAX
    return lines[:SHOWN_MAX] + ([f"+{more} more artifacts"] if more > 0 else [])


def count_unsent(folder: Path) -> int:
    """Returns how many artifacts were handed over and are no versions."""
    found = 0
    for manifest in folder.glob("*.manifest"):
        answer = _read(manifest.with_suffix(".json"))
        found += answer is None or "error" in answer
    return found


def _answers(folder: Path) -> list[dict[str, Any]]:
    def moment(path: Path) -> int:
        try:
            return path.stat().st_mtime_ns
        except OSError:
            return 0

    answers = (_read(path) for path in sorted(folder.glob("*.json"), key=moment))
    return [answer for answer in answers if answer is not None]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None
