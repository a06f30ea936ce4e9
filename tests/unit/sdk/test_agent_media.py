"""MEDIA records through the agent: into batches whole, and what no message can say is told, not sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runyard import journal_format as form
from runyard.agent.columns import Event
from runyard.agent.disk import LocalDisk
from runyard.agent.messages import write_batch_request
from runyard.agent.ports import Batch
from runyard.agent.reader import JournalFollower
from runyard.journal import JournalWriter
from runyard_protos.ingest.v1 import ingest_pb2

AT = {"step": 3, "time_unix_ns": 17, "name": "examples/é"}
IMAGE = {**AT, "kind": "image", "items": [{"file": "a.png", "x": {"$float": "NaN"}, "big": 2**63}]}
HISTOGRAM = {**AT, "kind": "histogram", "histogram": {"edges": [-0.5, 0, 1e308], "counts": [1, 2.5], "non_finite_count": 9}}  # fmt: skip


def message_of(content: dict[str, Any]) -> ingest_pb2.MediaValue:
    event = Event(5, form.MEDIA, json.dumps(content).encode())
    request = write_batch_request(Batch(1, 1, 5, 5, (), (), media=[event]))
    (value,) = ingest_pb2.WriteBatchRequest.FromString(request).media_values
    return value


def test_all_of_a_record_is_sent() -> None:
    """Items go as they lie in the journal, bins as doubles; the record's sequence names it."""
    image = message_of(IMAGE)
    assert (image.sequence, image.step, image.time_unix_ns, image.name) == (5, 3, 17, "examples/é")
    assert image.kind == ingest_pb2.MEDIA_KIND_IMAGE
    assert json.loads(image.items_json) == IMAGE["items"]
    assert not image.HasField("histogram")
    bins = message_of(HISTOGRAM)
    assert bins.kind == ingest_pb2.MEDIA_KIND_HISTOGRAM
    assert list(bins.histogram.edges) == [-0.5, 0.0, 1e308]
    assert (list(bins.histogram.counts), bins.histogram.non_finite_count) == ([1.0, 2.5], 9)
    assert bins.items_json == ""


def test_a_kind_not_known_is_sent_as_none() -> None:
    """The journal of a newer SDK: the server says that it does not know the kind."""
    assert message_of({**IMAGE, "kind": "hologram"}).kind == ingest_pb2.MEDIA_KIND_UNSPECIFIED


BAD: list[dict[str, Any]] = [
    {**IMAGE, "step": 1.5},
    {**IMAGE, "step": 2**63},
    {**IMAGE, "step": True},
    {**IMAGE, "time_unix_ns": None},
    {**IMAGE, "name": 3},
    {key: value for key, value in IMAGE.items() if key != "kind"},
    {**IMAGE, "items": {}},
    {key: value for key, value in IMAGE.items() if key != "items"},
    {**HISTOGRAM, "histogram": []},
    {**HISTOGRAM, "histogram": {"edges": [{"$float": "NaN"}, 1], "counts": [1]}},
    {**HISTOGRAM, "histogram": {"edges": [0, 1], "counts": 1}},
    {**HISTOGRAM, "histogram": {"edges": [0, 1], "counts": [1], "non_finite_count": -1}},
]


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_what_no_message_can_say_is_lost_alone(tmp_path: Path, content: dict[str, Any]) -> None:
    """A MEDIA record that lacks what it needs is told by its number; those around it are read."""
    journal = JournalWriter(tmp_path, segment_bytes=[1 << 16], is_synced=False)
    for one in ({"format": 1}, IMAGE, content, HISTOGRAM):
        kind = form.START if one == {"format": 1} else form.MEDIA
        journal.append(kind, json.dumps(one).encode())
    journal.close()
    follower = JournalFollower(LocalDisk(), str(tmp_path), durable_sequence=0)
    piece = follower.read()
    assert piece is not None
    assert [event.sequence for event in piece.events] == [1, 2, 4]
    (lost,) = follower.lost
    assert (lost.first_sequence, lost.last_sequence) == (3, 3)
    assert "record 3 is a MEDIA w" in lost.message
