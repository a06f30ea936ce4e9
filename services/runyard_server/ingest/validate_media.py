"""Says what is wrong with media values: a value alone is refused, the rest of its batch is stored. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.extended_json import read_object
from runyard_server.domain.media import BINS_MAX, ITEMS_BYTES_MAX, Histogram, MediaKind, MediaValue
from runyard_server.domain.points import Rejection

_WRAP = '{"items":%s}'


def split_media(
    values: tuple[MediaValue, ...], name_problem: Callable[[str], str]
) -> tuple[tuple[MediaValue, ...], tuple[Rejection, ...]]:
    """Returns the values that may be stored, and for each name and reason of the others a rejection.

    Rejections count values as points. Their names are not cut.
    """
    kept: list[MediaValue] = []
    refused: Counter[tuple[str, str, str]] = Counter()
    for value in values:
        problem = name_problem(value.name)
        if problem:
            found = ("METRIC_NAME_INVALID", problem)
        else:
            found = _problem(value)
        if found[1]:
            refused[value.name, *found] += 1
        else:
            kept.append(value)
    rejections = [
        Rejection(name, reason, f"media value {_shown(name)} {problem}", count)
        for (name, reason, problem), count in refused.items()
    ]
    return tuple(kept), tuple(rejections)


def _problem(value: MediaValue) -> tuple[str, str]:
    """Returns (reason, problem); two empty texts if there is none."""
    if value.kind not in set(MediaKind):
        return (
            "FIELD_INVALID",
            f"is of kind {value.kind}, which this server does not know; it may be older than the client",
        )
    if value.kind == MediaKind.HISTOGRAM:
        if value.items_json:
            return "FIELD_INVALID", "is a histogram and has items; a histogram has bins only"
        return _histogram_problem(value.histogram)
    if value.histogram.edges.size or value.histogram.counts.size:
        return "FIELD_INVALID", "has bins, but is no histogram"
    return _items_problem(value.items_json)


def _histogram_problem(histogram: Histogram) -> tuple[str, str]:
    edges, counts = histogram.edges, histogram.counts
    if counts.size > BINS_MAX:
        return "FIELD_TOO_LARGE", f"has {counts.size} bins, at most {BINS_MAX} are allowed"
    if edges.size != counts.size + 1 and (edges.size or counts.size):
        return (
            "COLUMN_LENGTH_MISMATCH",
            f"has {edges.size} edges for {counts.size} bins; there is one edge more than bins",
        )
    wrong = np.flatnonzero(~np.isfinite(edges))
    if wrong.size:
        return "FIELD_INVALID", f"has the edge {edges[wrong[0]]}; edges are finite"
    wrong = np.flatnonzero(edges[1:] < edges[:-1])
    if wrong.size:
        first = wrong[0]
        return (
            "FIELD_INVALID",
            f"has the edge {edges[first + 1]} behind {edges[first]}; edges ascend",
        )
    wrong = np.flatnonzero(~(np.isfinite(counts) & (counts >= 0)))
    if wrong.size:
        return (
            "FIELD_INVALID",
            f"has a bin with {counts[wrong[0]]} values; counts are finite and at least 0",
        )
    return "", ""


def _items_problem(items_json: str) -> tuple[str, str]:
    size_bytes = len(items_json.encode("utf-8", "surrogatepass"))
    if size_bytes > ITEMS_BYTES_MAX:
        return (
            "FIELD_TOO_LARGE",
            f"has items of {size_bytes} bytes, at most {ITEMS_BYTES_MAX} are allowed; keep large values in a file of the run",
        )
    try:
        json.loads(items_json)  # alone, so that the object around it below cannot hide a comma
        content = read_object(
            _WRAP % items_json, field="items_json", bytes_max=ITEMS_BYTES_MAX + len(_WRAP)
        )
    except InvalidArgument as error:
        return error.reason, f"has items that cannot be: {error.message}"
    except (ValueError, RecursionError) as error:
        return "FIELD_INVALID", f"has items that are not extended JSON: {error}"
    items = content["items"]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return "FIELD_INVALID", "has items that are no JSON array of objects"
    if not items:
        return "FIELD_INVALID", "has no items"
    return "", ""


def _shown(name: str) -> str:
    return repr(name if len(name) <= 128 else name[:128] + "…")
