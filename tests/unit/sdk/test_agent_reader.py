"""The agent's reader: what every journal means, whatever a crash left, and however it is cut into reads."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard import journal_format as form
from runyard.agent import messages
from runyard.agent import reader as reader_module
from runyard.agent.columns import Event, Piece
from runyard.agent.disk import LocalDisk
from runyard.agent.reader import JournalFollower
from runyard.agent.start import read_start
from runyard.journal import JournalWriter
from runyard.journal_reader import JournalReader

CONFORMANCE = Path(__file__).resolve().parents[3] / "clients/conformance"
VECTORS = [
    vector
    for name in ("journal_vectors.json", "journal_vectors_version1.json")
    for vector in json.loads((CONFORMANCE / name).read_text("utf-8"))["vectors"]
]

Record = tuple[int, str, object]


def read_all(follower: JournalFollower) -> list[Piece]:
    pieces = []
    while (piece := follower.read()) is not None:
        pieces.append(piece)
    return pieces


def content_of(event: Event) -> object:
    """Returns the content of an event; of a CONSOLE what the agent sends of it."""
    if event.kind != form.CONSOLE:
        return json.loads(event.payload)
    block = messages._console_block(event)
    return {
        "first_line": block.first_line,
        "time_unix_ns": block.time_unix_ns,
        "stream": block.stream,
        "line_count": block.line_count,
        "lines": block.text.split("\n"),
    }


def records_of(pieces: Sequence[Piece]) -> list[Record]:
    """Returns rows as (sequence, "ROW", (names, step, time, value bits)) and other records with their JSON."""
    found: list[Record] = []
    for piece in pieces:
        for table in piece.tables:
            values = np.frombuffer(table.values_bytes(), "<u8").reshape(len(table.names), -1)
            steps = np.frombuffer(table.steps_bytes(), "<i8")
            times = np.frombuffer(table.times_bytes(), "<i8")
            sequences = np.frombuffer(table.sequences_bytes(), "<u8")
            for row, sequence in enumerate(sequences):
                bits = tuple(f"{int(bits):016x}" for bits in values[:, row])
                row_content = (table.names, int(steps[row]), int(times[row]), bits)
                found.append((int(sequence), "ROW", row_content))
        for event in piece.events:
            found.append((event.sequence, form.KIND_NAMES[event.kind], content_of(event)))
    return sorted(found, key=lambda record: record[0])


def expected_of(vector: dict[str, object]) -> list[Record]:
    found: list[Record] = []
    records = vector["records"]
    assert isinstance(records, list)
    for record in records:
        if record["kind"] == "ROW":
            bits = tuple(record["value_bits"])
            row = (tuple(record["names"]), record["step"], record["time_unix_ns"], bits)
            found.append((record["sequence"], "ROW", row))
        elif record["kind"] in form.KIND_NAMES.values() and record["kind"] != "SCHEMA":
            found.append((record["sequence"], record["kind"], record["content"]))
    return found


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["title"] for vector in VECTORS])
def test_every_client_reads_the_same(tmp_path: Path, vector: dict[str, object]) -> None:
    """The agent's reader agrees with the conformance vectors, bit by bit."""
    segments = vector["segments_zlib_base64"]
    assert isinstance(segments, dict)
    for name, content in segments.items():
        (tmp_path / name).write_bytes(zlib.decompress(base64.b64decode(content)))
    follower = JournalFollower(LocalDisk(), str(tmp_path), durable_sequence=0)
    pieces = read_all(follower)
    found, expected = records_of(pieces), expected_of(vector)
    assert expected == found[: len(expected)]
    if (
        vector["stop"] == "missing"
    ):  # a reader stops there; the agent sends what is behind, and tells
        assert follower.lost[0].message
    else:
        assert expected == found
        assert not follower.lost
    assert (vector["stop"] == "torn") == follower.is_torn
    assert (vector["stop"] == "unknown_kind") == bool(follower.blocked)


Step = tuple[str, int]
histories = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.sampled_from([1, 1, 1, 2, 3, 7])),
        st.tuples(st.just("change"), st.integers(0, 90)),
    ),
    max_size=60,
)


def write_history(folder: Path, history: Sequence[Step], segment_bytes: int) -> None:
    folder.mkdir()
    journal = JournalWriter(folder, segment_bytes=[segment_bytes], is_synced=False)
    journal.append(form.START, b'{"format":1}')
    schemas = {}
    for number, (kind, size) in enumerate(history):
        if kind == "row":
            names = tuple(f"m{i}" for i in range(size))
            if size not in schemas:
                schemas[size] = journal.make_schema(names, json.dumps(names).encode())
            values = [number + i / 8 for i in range(size)]
            with journal.lock:
                journal.append_row(schemas[size], number, 1000 + number, values)
        else:
            journal.append(form.CHANGE, json.dumps({"notes": "x" * size}).encode())
    journal.append(form.FINISH, b'{"exit_code":0}')
    journal.close()


def slow_records(folder: Path) -> list[Record]:
    """Returns what the standard library's reader of the SDK finds."""
    found: list[Record] = []
    for frame in JournalReader.open(folder).frames():
        if frame.kind == form.ROW:
            bits = tuple(struct.pack(">d", value).hex() for value in frame.values)
            found.append(
                (frame.sequence, "ROW", (frame.names, frame.step, frame.time_unix_ns, bits))
            )
        elif frame.kind != form.SCHEMA:
            kind = form.KIND_NAMES[frame.kind]
            found.append((frame.sequence, kind, json.loads(frame.payload)))
    return found


@given(
    history=histories,
    segment_bytes=st.sampled_from([256, 1024, 1 << 16]),
    read_bytes=st.sampled_from([64, 333, 1 << 12, 1 << 20]),
    durable=st.integers(0, 70),
)
def test_pieces_cover_all_records_once(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[Step],
    segment_bytes: int,
    read_bytes: int,
    durable: int,
) -> None:
    """Any interleaving of key sets, in segments and reads of any size: gapless pieces, each record once."""
    folder = tmp_path_factory.mktemp("j") / "journal"
    write_history(folder, history, segment_bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "FIRST_READ_BYTES", read_bytes)
        patch.setattr(reader_module, "PIECE_BYTES_MAX", max(read_bytes, 1 << 12))
        follower = JournalFollower(LocalDisk(), str(folder), durable_sequence=durable)
        pieces = read_all(follower)
    expected = slow_records(folder)
    assert [record for record in expected if record[0] > durable] == records_of(pieces)
    assert follower.finish is not None and follower.finish.sequence == follower.next_sequence - 1
    reached = min(durable, follower.next_sequence - 1)
    for piece in pieces:
        assert reached + 1 == piece.first_sequence
        reached = piece.last_sequence
    assert reached == follower.next_sequence - 1
    assert not follower.lost and not follower.is_torn


@given(history=histories, cut=st.integers(64, 4096), fill=st.sampled_from(["zeros", "junk", "end"]))
def test_a_live_tail_is_read_again_until_it_is_whole(
    tmp_path_factory: pytest.TempPathFactory, history: list[Step], cut: int, fill: str
) -> None:
    """A journal seen half-written gives a prefix; when the rest has come, the rest, and nothing twice."""
    folder = tmp_path_factory.mktemp("j") / "journal"
    write_history(folder, history, 1 << 16)
    segment = folder / form.segment_name(1)
    whole = segment.read_bytes()
    cut = min(cut, len(whole))
    rest = {"zeros": bytes(len(whole) - cut), "junk": b"\x5a" * (len(whole) - cut), "end": b""}
    segment.write_bytes(whole[:cut] + rest[fill])
    follower = JournalFollower(LocalDisk(), str(folder), durable_sequence=0)
    early = records_of(read_all(follower))
    expected = slow_records(folder)
    assert expected == early
    with segment.open("r+b") as file:
        file.write(whole)
    follower_records = early + records_of(read_all(follower))
    assert slow_records(folder) == follower_records
    assert not follower.lost


@given(history=histories, first=st.integers(1, 30), length=st.integers(0, 30))
def test_halves_hold_what_the_whole_held(
    tmp_path_factory: pytest.TempPathFactory, history: list[Step], first: int, length: int
) -> None:
    """Halving a piece, again and again, loses and doubles nothing."""
    folder = tmp_path_factory.mktemp("j") / "journal"
    write_history(folder, history, 1 << 16)
    (piece,) = read_all(JournalFollower(LocalDisk(), str(folder), durable_sequence=0))
    pieces = [piece]
    while any(part.record_count > 1 for part in pieces):
        pieces = [
            half
            for part in pieces
            for half in (part.halves() if part.record_count > 1 else (part,))
        ]
    assert [part.first_sequence for part in pieces] == list(range(1, piece.last_sequence + 1))
    assert records_of([piece]) == records_of(pieces)


def test_a_damaged_segment_loses_its_end_only(tmp_path: Path) -> None:
    """A bit flipped in a closed segment costs the rest of that segment, which is told; later ones are read."""
    folder = tmp_path / "journal"
    write_history(folder, [("row", 3)] * 40, 1024)
    second = folder / form.segment_name(2)
    content = bytearray(second.read_bytes())
    content[300] ^= 1
    second.write_bytes(bytes(content))
    follower = JournalFollower(LocalDisk(), str(folder), durable_sequence=0)
    pieces = read_all(follower)
    (lost,) = follower.lost
    assert "damaged" in lost.message
    covered = {s for p in pieces for s in range(p.first_sequence, p.last_sequence + 1)}
    missing = set(range(lost.first_sequence, lost.last_sequence + 1))
    assert covered | missing == set(range(1, follower.next_sequence))
    assert not covered & missing
    assert follower.finish is not None


def test_durable_segments_are_named_front_first(tmp_path: Path) -> None:
    """Only segments that are durable whole may go, without a gap, never the first and never the open one."""
    folder = tmp_path / "journal"
    write_history(folder, [("row", 3)] * 60, 1024)
    follower = JournalFollower(LocalDisk(), str(folder), durable_sequence=0)
    assert follower.removable(10**9) == []
    pieces = read_all(follower)
    last = pieces[-1].last_sequence
    every = follower.removable(last)
    assert [Path(path).name for path, _, _ in every] == [
        form.segment_name(n) for n in range(2, len(list(folder.glob("*.seg"))))
    ]
    assert follower.removable(every[1][2]) == every[:2]
    assert follower.removable(every[1][2] - 1) == every[:1]


def test_a_journal_without_its_front_goes_on(tmp_path: Path) -> None:
    """With durable segments removed behind the first, reading begins at the mark; nothing counts as lost."""
    folder = tmp_path / "journal"
    write_history(folder, [("row", 3)] * 60, 1024)
    follower = JournalFollower(LocalDisk(), str(folder), durable_sequence=0)
    read_all(follower)
    (path, _, last), *_ = follower.removable(10**9)
    Path(path).unlink()
    again = JournalFollower(LocalDisk(), str(folder), durable_sequence=last)
    pieces = read_all(again)
    assert last + 1 == pieces[0].first_sequence
    assert not again.lost
    unmarked = JournalFollower(LocalDisk(), str(folder), durable_sequence=0)
    read_all(unmarked)
    assert [lost.message for lost in unmarked.lost] == [""]


def test_a_start_record_is_read_or_waited_for(tmp_path: Path) -> None:
    """Nothing, an empty segment and a torn START read as none; a whole one as its object."""
    disk, folder = LocalDisk(), tmp_path / "journal"
    assert read_start(disk, str(folder)) is None
    write_history(folder, [], 4096)
    assert read_start(disk, str(folder)) == {"format": 1}
    segment = folder / form.segment_name(1)
    content = segment.read_bytes()
    for torn in (content[:64], content[:80], content[:85], content[:64] + bytes(64), b""):
        segment.write_bytes(torn)
        assert read_start(disk, str(folder)) is None
