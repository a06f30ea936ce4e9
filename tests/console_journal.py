"""Reads the console's journal of a run folder as plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runyard import journal_format as form
from runyard.journal_walk import Place, segments_of, walk


def kept(folder: Path) -> tuple[dict[int, tuple[int, str]], list[dict[str, Any]]]:
    """Returns (stream, text) by line, the last telling of each, and the ends; all records MUST be whole."""
    lines: dict[int, tuple[int, str]] = {}
    ends: list[dict[str, Any]] = []
    for one in walk(segments_of(folder)):
        assert isinstance(one, Place) and not one.problem, one
        if one.frame.kind == form.FINISH:
            ends.append(json.loads(one.frame.payload))
            continue
        content = one.frame.content
        for place, text in enumerate(content["lines"]):
            lines[content["first_line"] + place] = (content["stream"], text)
    return lines, ends
