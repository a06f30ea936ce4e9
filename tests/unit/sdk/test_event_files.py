"""Event files as their writers, disks and bugs leave them: growing, torn, damaged, replaced, odd."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.integration import event_files
from runyard.integration.event_files import PATIENCE, EventFile
from runyard.integration.event_records import EventParser, crc32c, frame
from runyard.integration.event_values import Found
from runyard.integration.event_wire import DamagedRecord
from tests.unit.sdk.event_messages import (
    bytes_field,
    event,
    float_field,
    number_field,
    record,
    simple,
    tensor,
    varint,
)

FLOAT, DOUBLE, INT32, INT64, BFLOAT16, HALF, STRING = 1, 2, 3, 9, 14, 19, 7


def read_all(file: EventFile, *, is_last: bool = False) -> list[Found]:
    found: list[Found] = []
    while file.read(found.append, is_last=is_last):
        pass
    return found


def test_the_checksum_is_that_of_castagnoli() -> None:
    """The checksum of "123456789" is the one that its definition gives."""
    assert crc32c(b"123456789") == 0xE3069283


@given(st.lists(st.floats(width=32), min_size=1, max_size=5), st.data())
def test_what_is_torn_is_waited_for(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], data: st.DataObject
) -> None:
    """Wherever the file ends for now, all whole records are read, and the rest when it has come."""
    records = [record(f"t{i % 2}", value, i - 2) for i, value in enumerate(values)]
    whole = b"".join(records)
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.mktemp("events") / "events.out.tfevents.1"
    path.write_bytes(whole[:cut])
    file = EventFile(path)
    first = [read_all(file) for _ in range(PATIENCE + 2)]
    count = sum(1 for i in range(len(records)) if len(b"".join(records[: i + 1])) <= cut)
    assert [len(some) for some in first] == [count, *[0] * (PATIENCE + 1)]
    path.write_bytes(whole)
    found = [*first[0], *read_all(file)]
    assert [struct.pack("<d", scalar.value) for scalar in found] == [
        struct.pack("<d", v) for v in values
    ]
    assert [scalar.step for scalar in found] == [i - 2 for i in range(len(values))]
    assert [scalar.tag for scalar in found] == [f"t{i % 2}" for i in range(len(values))]
    assert {scalar.time_unix_ns for scalar in found} == {1_500_000_000_000_000_000}
    assert not file.problem


def test_a_damaged_record_is_left_out(tmp_path: Path) -> None:
    """One that does not fit its checksum is looked at a few times, then passed over; what follows is read."""
    path = tmp_path / "events.out.tfevents.1"
    damaged = bytearray(record("b", 2.0, 1))
    damaged[-6] ^= 1
    path.write_bytes(record("a", 1.0, 0) + damaged + record("c", 3.0, 2))
    file = EventFile(path)
    looks = [[scalar.tag for scalar in read_all(file)] for _ in range(PATIENCE)]
    assert looks[0] == ["a"] and [tag for tags in looks for tag in tags] == ["a", "c"]
    assert "is left out" in file.problem
    at_once = EventFile(path)
    assert [scalar.tag for scalar in read_all(at_once, is_last=True)] == ["a", "c"]


def test_a_damaged_length_ends_a_file(tmp_path: Path) -> None:
    """Behind a length that cannot be true nothing is found, and the file says so."""
    path = tmp_path / "events.out.tfevents.1"
    damaged = bytearray(record("b", 2.0, 1))
    damaged[0] ^= 4
    path.write_bytes(record("a", 1.0, 0) + damaged + record("c", 3.0, 2))
    file = EventFile(path)
    assert [scalar.tag for scalar in read_all(file, is_last=True)] == ["a"]
    assert "from byte" in file.problem
    assert read_all(file, is_last=True) == []


def test_a_record_mended_in_time_is_read(tmp_path: Path) -> None:
    """A file whose end shows as zeros for a moment, as on network file systems, loses nothing."""
    path = tmp_path / "events.out.tfevents.1"
    whole = record("a", 1.0, 0) + record("b", 2.0, 1)
    for hidden in (len(record("b", 2.0, 1)), 8):
        path.write_bytes(whole[:-hidden] + bytes(hidden))
        file = EventFile(path)
        assert [scalar.tag for scalar in read_all(file)] == ["a"]
        path.write_bytes(whole)
        assert [scalar.tag for scalar in read_all(file)] == ["b"]
        path.unlink()


def test_a_file_in_its_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    """A shorter file, or another one of its name, is read whole; one that is gone gives nothing."""
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(record("a", 1.0, 0) + record("a", 2.0, 1))
    file = EventFile(path)
    assert len(read_all(file)) == 2
    path.write_bytes(record("b", 1.0, 0))
    assert [scalar.tag for scalar in read_all(file)] == ["b"]
    other = tmp_path / "other"
    other.write_bytes(record("c", 1.0, 0) * 3)
    other.replace(path)
    assert len(read_all(file)) == 3
    path.unlink()
    assert read_all(file) == []


def test_long_records_are_read_or_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record longer than a piece is read; one beyond the limit is not, and what follows it is."""
    path = tmp_path / "events.out.tfevents.1"
    graph = frame(bytes_field(4, bytes(5000)))
    long = frame(event(simple("long", 1.0)) + bytes_field(3, b"x" * 3000))
    path.write_bytes(record("a", 1.0, 0) + graph + long + record("b", 2.0, 1))
    monkeypatch.setattr(event_files, "CHUNK_BYTES", 256)
    monkeypatch.setattr(event_files, "RECORD_BYTES_MAX", 4000)
    assert [scalar.tag for scalar in read_all(EventFile(path))] == ["a", "long", "b"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (number_field(1, FLOAT) + bytes_field(5, struct.pack("<f", 0.1)), struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        (number_field(1, FLOAT) + float_field(5, 2.5), 2.5),
        (number_field(1, FLOAT) + bytes_field(4, struct.pack("<f", -1.5)), -1.5),
        (number_field(1, DOUBLE) + bytes_field(6, struct.pack("<d", 0.1)), 0.1),
        (number_field(1, DOUBLE) + bytes_field(4, struct.pack("<d", 1e300)), 1e300),
        (number_field(1, INT32) + bytes_field(7, varint(-7)), -7.0),
        (number_field(1, INT64) + number_field(10, -(2**40)), float(-(2**40))),
        (number_field(1, INT64) + bytes_field(4, struct.pack("<q", 12)), 12.0),
        (number_field(1, HALF) + bytes_field(13, varint(0x3E00)), 1.5),
        (number_field(1, BFLOAT16) + bytes_field(13, varint(0x3FC0)), 1.5),
        (number_field(1, BFLOAT16) + bytes_field(4, b"\xc0\x3f"), 1.5),
        (number_field(1, FLOAT), 0.0),
        (number_field(1, FLOAT) + bytes_field(2, bytes_field(2, number_field(1, 1))) + float_field(5, 4.0), 4.0),
        (number_field(1, FLOAT) + bytes_field(2, bytes_field(2, number_field(1, 3))) + bytes_field(4, bytes(12)), None),
        (number_field(1, STRING) + bytes_field(8, b"text"), None),
    ],
)  # fmt: skip
def test_numbers_in_tensors(message: bytes, expected: float | None) -> None:
    """Founds of every type are read, as lists, packed, or as bytes; other tensors are no numbers."""
    found = EventParser().parse(memoryview(event(tensor("t", message, "scalars"))))
    assert [scalar.value for scalar in found] == ([] if expected is None else [expected])


def test_tags_are_of_what_their_first_value_says() -> None:
    """Tensors of other plugins are no scalars, also those that come without a word of the plugin."""
    message = number_field(1, FLOAT) + float_field(5, 4.0)
    parser = EventParser()
    events = [("s", "scalars"), ("s", None), ("h", "hparams"), ("h", None), ("bare", None)]
    found = [
        parser.parse(memoryview(event(tensor(tag, message, plugin)))) for tag, plugin in events
    ]
    assert [len(some) for some in found] == [1, 1, 0, 0, 1]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    """What is no event is refused as damaged, in no other way."""
    try:
        found = EventParser().parse(memoryview(payload))
    except DamagedRecord:
        return
    assert all(isinstance(scalar.value, float) and not math.isnan(scalar.step) for scalar in found)
