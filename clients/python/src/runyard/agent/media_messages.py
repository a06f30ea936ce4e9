"""Turns MEDIA records of the journal into messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runyard.agent.columns import Event
    from runyard_protos.ingest.v1 import ingest_pb2

_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


def media_problem(content: Mapping[str, Any]) -> str:
    """Returns what of a MEDIA record's content no message can say; empty if all of it can be sent."""
    for field in ("step", "time_unix_ns"):
        if type(content.get(field)) is not int or content[field] not in _INT64:
            return f"without {field}"
    for field in ("name", "kind"):
        if not isinstance(content.get(field), str):
            return f"without {field}"
    histogram = content.get("histogram")
    if histogram is None:
        return "" if isinstance(content.get("items"), list) else "without items"
    if not isinstance(histogram, Mapping):
        return "whose histogram is none"
    for field in ("edges", "counts"):
        values = histogram.get(field)
        if not isinstance(values, list) or not all(type(one) in (int, float) for one in values):
            return f"whose histogram has {field} that are no numbers"
    count = histogram.get("non_finite_count", 0)
    return "" if type(count) is int and count in _UINT64 else "with a count that cannot be"


def set_media_value(message: ingest_pb2.MediaValue, event: Event) -> None:
    """Sets the message to what a MEDIA record says that has no `media_problem`.

    A kind that this version does not know is sent as none: the server then says so.
    """
    from runyard_protos.ingest.v1 import ingest_pb2

    content = json.loads(event.payload)
    message.sequence = event.sequence
    message.name = content["name"]
    message.step = content["step"]
    message.time_unix_ns = content["time_unix_ns"]
    kinds = dict(ingest_pb2.MediaKind.items())
    message.kind = kinds.get(
        f"MEDIA_KIND_{content['kind'].upper()}", ingest_pb2.MEDIA_KIND_UNSPECIFIED
    )
    if content.get("items") is not None:
        message.items_json = json.dumps(content["items"], ensure_ascii=False, separators=(",", ":"))
    histogram = content.get("histogram")
    if histogram is not None:
        message.histogram.edges.extend(histogram["edges"])
        message.histogram.counts.extend(histogram["counts"])
        message.histogram.non_finite_count = histogram.get("non_finite_count", 0)
