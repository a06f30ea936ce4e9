"""The journal: every crash point of every short history recovers to a prefix, and a refusing disk is survived."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard import journal_format as form
from runyard import journal_reader
from runyard.journal import JournalWriter, RowSchema
from runyard.journal_reader import JournalReader

REPOSITORY = Path(__file__).resolve().parents[3]
# The second file is never written again: it is what the first version of the format left on disks.
VECTORS = [
    vector
    for name in ("journal_vectors.json", "journal_vectors_version1.json")
    for vector in json.loads((REPOSITORY / "clients/conformance" / name).read_text("utf-8"))[
        "vectors"
    ]
]
VERSION1_SHA256 = "34f0385d78ca63cef8ab131959bf56c9ccb8d8075fc7014095be2594746bde4b"
JUNK = bytes(range(1, 256)) * 2

Step = tuple[str, int]


def schema_of(journal: JournalWriter, names: Sequence[str]) -> RowSchema:
    return journal.make_schema(tuple(names), json.dumps(list(names)).encode())


def write_history(folder: Path, history: Sequence[Step], segment_bytes: int) -> list[Path]:
    """Writes rows ("a", width) and frames ("c", payload bytes); returns the segments."""
    folder.mkdir()
    journal = JournalWriter(folder, segment_bytes=[segment_bytes], is_synced=False)
    journal.append(form.START, b'{"format":1}')
    schemas: dict[int, RowSchema] = {}
    for number, (kind, size) in enumerate(history):
        if kind == "row":
            schema = schemas.setdefault(size, schema_of(journal, [f"m{i}" for i in range(size)]))
            with journal.lock:
                journal.append_row(
                    schema, number, 1000 + number, [number + i / 8 for i in range(size)]
                )
        else:
            journal.append(form.CHANGE, json.dumps({"notes": "x" * size}).encode())
    journal.close()
    return sorted(folder.glob("*.seg"))


def read(segments: Sequence[tuple[str, bytes]]) -> tuple[list[journal_reader.Frame], str]:
    reader = JournalReader(list(segments))
    return list(reader.frames()), reader.stop_reason


histories = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.integers(1, 5)),
        st.tuples(st.just("change"), st.integers(0, 90)),
    ),
    max_size=14,
)


@given(history=histories, segment_bytes=st.sampled_from([256, 512, 4096]))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, history: list[Step], segment_bytes: int
) -> None:
    """Every record comes back once, in order, with sequences without gaps, over any number of segments."""
    paths = write_history(tmp_path_factory.mktemp("j") / "journal", history, segment_bytes)
    frames, stop = read([(path.name, path.read_bytes()) for path in paths])
    assert stop == journal_reader.END
    assert [frame.sequence for frame in frames] == list(range(1, len(frames) + 1))
    expected = [(kind, size) for kind, size in history]
    found = [
        ("row", len(frame.values))
        if frame.kind == form.ROW
        else ("change", len(frame.content["notes"]))
        for frame in frames
        if frame.kind in (form.ROW, form.CHANGE)
    ]
    assert found == expected
    for path in paths[:-1]:
        assert path.stat().st_size >= segment_bytes
    assert paths[-1].stat().st_size % 8 == 0


@pytest.mark.parametrize("tail", [b"", bytes(64), bytes(4096), JUNK, b"\x01" + bytes(63)])
def test_every_crash_point_recovers_to_a_prefix(tmp_path: Path, tail: bytes) -> None:
    """Whatever part of the last segment reached the disk, with zeros, junk or a torn frame behind it, what is read is
    a prefix of what was written that contains every frame that was there whole."""
    history: list[Step] = [
        ("row", 2),
        ("change", 11),
        ("row", 2),
        ("row", 3),
        ("change", 0),
        ("row", 2),
    ]
    for length in range(len(history) + 1):
        folder = tmp_path / f"{len(tail)}-{tail[:1].hex()}-{length}"
        paths = write_history(folder, history[:length], 1 << 12)
        content = paths[-1].read_bytes()
        whole, _ = read([(paths[-1].name, content)])
        ends = frame_ends(content)
        for cut in range(form.HEADER_BYTES, len(content) + 1):
            frames, stop = read([(paths[-1].name, content[:cut] + tail)])
            certain = sum(end <= cut for end in ends)
            assert certain <= len(frames) <= len(whole), (length, cut, stop)
            assert frames == whole[: len(frames)], (length, cut)


def frame_ends(content: bytes) -> list[int]:
    """Returns behind which byte each frame is whole (its padding does not count)."""
    ends, position = [], form.HEADER_BYTES
    while position + form.FRAME_HEADER_BYTES <= len(content):
        length = struct.unpack_from("<I", content, position)[0]
        if not length:
            break
        ends.append(position + form.FRAME_HEADER_BYTES + length)
        position += form.FRAME_HEADER_BYTES + form.padded(length)
    return ends


@given(data=st.data())
def test_flipped_bits_never_invent_records(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A journal with one byte changed reads as a prefix of the whole one, and says that it stopped."""
    folder = tmp_path_factory.mktemp("j") / "journal"
    paths = write_history(folder, [("row", 2), ("change", 9), ("row", 4), ("row", 2)], 1 << 12)
    content = paths[0].read_bytes()
    whole, _ = read([(paths[0].name, content)])
    position = data.draw(st.integers(form.HEADER_BYTES, len(content) - 1))
    change = data.draw(st.integers(1, 255))
    broken = bytearray(content)
    broken[position] ^= change
    frames, stop = read([(paths[0].name, bytes(broken))])
    assert frames == whole[: len(frames)]
    assert stop != journal_reader.END or len(frames) == len(whole)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["title"]))
def test_vectors(vector: dict[str, object]) -> None:
    """The reader finds what the conformance vectors say, and stops for the reason they say."""
    packed = vector["segments_zlib_base64"]
    assert isinstance(packed, dict)
    segments = [(n, zlib.decompress(base64.b64decode(packed[n]))) for n in sorted(packed)]
    frames, stop = read(segments)
    assert [described(frame) for frame in frames] == vector["records"]
    assert stop == vector["stop"]


def test_the_vectors_of_the_first_version_stay() -> None:
    """The frozen file is what it was: a change of it would only hide that old journals are no longer read."""
    content = (REPOSITORY / "clients/conformance/journal_vectors_version1.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == VERSION1_SHA256


def described(frame: journal_reader.Frame) -> dict[str, object]:
    kind = form.KIND_NAMES.get(frame.kind, str(frame.kind))
    fields: dict[str, object] = {"sequence": frame.sequence, "kind": kind}
    if frame.kind == form.ROW:
        bits = [struct.pack(">d", value).hex() for value in frame.values]
        fields.update(schema=frame.schema, step=frame.step, time_unix_ns=frame.time_unix_ns)
        fields.update(names=list(frame.names), value_bits=bits)
    elif frame.kind == form.SCHEMA:
        fields.update(schema=frame.schema, names=frame.content)
    elif frame.kind in form.KIND_NAMES:
        fields["content"] = frame.content
    return fields


def test_vectors_are_what_the_writer_writes() -> None:
    """The writer of today writes the vectors byte for byte."""
    script = REPOSITORY / "clients/conformance/make_journal_vectors.py"
    subprocess.run([sys.executable, script, "--check"], check=True, timeout=60)


def test_closing_cuts_the_unused_rest(tmp_path: Path) -> None:
    """A small run leaves a small file, not a whole segment."""
    paths = write_history(tmp_path / "journal", [("row", 2)], 1 << 20)
    assert paths[0].stat().st_size < 512


def test_a_frame_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    """A frame of any size is kept."""
    paths = write_history(tmp_path / "journal", [("change", 10_000), ("row", 1)], 512)
    frames, stop = read([(path.name, path.read_bytes()) for path in paths])
    assert (len(frames), stop) == (4, journal_reader.END)


def test_the_syncing_thread_closes_full_segments(tmp_path: Path) -> None:
    """With the thread running, nothing differs for the reader."""
    folder = tmp_path / "journal"
    folder.mkdir()
    journal = JournalWriter(folder, segment_bytes=[512])
    schema = schema_of(journal, ["a"])
    for step in range(200):
        with journal.lock:
            journal.append_row(schema, step, step, [step])
    journal.sync()
    journal.close()
    rows = [f for f in JournalReader.open(folder).frames() if f.kind == form.ROW]
    assert [frame.step for frame in rows] == list(range(200))


class Refusal:
    """A folder that refuses new files for a while: it is a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.write_bytes(b"")

    def end(self) -> None:
        self.folder.unlink()
        self.folder.mkdir()


def test_a_refusing_disk_is_told_once_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk refuses, rows are dropped and counted and changes wait; later records are kept again, in order."""
    told: list[str] = []
    refusal = Refusal(tmp_path / "journal")
    monkeypatch.setattr("runyard.journal.RETRY_INTERVAL_S", 0.0)
    journal = JournalWriter(refusal.folder, on_trouble=told.append, is_synced=False)
    schema = schema_of(journal, ["a"])
    assert not journal.append(form.START, b'{"format":1}')
    for step in range(3):
        with journal.lock:
            journal.append_row(schema, step, 0, [1.0])
    assert not journal.append(form.CHANGE, b'{"notes":"first"}')
    assert (len(told), journal.dropped_count, journal.held_count) == (1, 3, 2)
    refusal.end()
    assert journal.append(form.CHANGE, b'{"notes":"second"}')
    with journal.lock:
        journal.append_row(schema, 9, 0, [2.0])
    journal.close()
    frames = list(JournalReader.open(refusal.folder).frames())
    assert [f.kind for f in frames] == [form.START, form.CHANGE, form.CHANGE, form.SCHEMA, form.ROW]
    assert [f.content["notes"] for f in frames[1:3]] == ["first", "second"]
    assert len(told) == 1


FULL_DISK_SCRIPT = """
import resource, signal, sys
from pathlib import Path
from runyard import journal_format as form
from runyard.journal import JournalWriter
import runyard.journal
runyard.journal.RETRY_INTERVAL_S = 0.0
told = []
journal = JournalWriter(Path(sys.argv[1]), on_trouble=told.append, segment_bytes=[1024, 65536])
journal.append(form.START, b'{"format":1}')
resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
schema = journal.make_schema(("a",), b'["a"]')
for step in range(100):
    with journal.lock:
        journal.append_row(schema, step, 0, [1.0])
assert journal.dropped_count > 0 and len(told) == 1, (journal.dropped_count, told)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for step in range(100, 110):
    with journal.lock:
        journal.append_row(schema, step, 0, [1.0])
journal.close()
print(journal.sequence)
"""


def test_a_disk_that_is_full_raises_nothing(tmp_path: Path) -> None:
    """A segment that cannot be allocated costs rows, not the training; when there is room again, logging goes on."""
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK_SCRIPT, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    reader = JournalReader.open(tmp_path)
    frames = list(reader.frames())
    assert len(frames) == int(run.stdout)
    assert frames[-1].step == 109
    assert reader.stop_reason == journal_reader.END
    assert resource.getrlimit(resource.RLIMIT_FSIZE)  # the limit was the child's


@pytest.mark.parametrize("count", [1, 2, 95, 96, 97, 1000, 5000])
def test_rows_remembered_for_the_end_are_few_and_spread(
    tmp_path: Path, count: int, make_journal: Callable[[Path], JournalWriter]
) -> None:
    """Of any number of rows at most about a hundred are remembered: the first, the last, and even steps between."""
    journal = make_journal(tmp_path)
    schema = schema_of(journal, ["a"])
    for step in range(count):
        with journal.lock:
            journal.append_row(schema, step, 0, [step])
    steps = [step for step, _ in schema.sampled_rows()]
    assert steps[0] == 0 and steps[-1] == count - 1
    assert len(steps) <= 97
    assert len(steps) >= min(count, 40)
    assert len({b - a for a, b in itertools.pairwise(steps[:-1])}) <= 1


@pytest.fixture
def make_journal() -> Callable[[Path], JournalWriter]:
    return lambda folder: JournalWriter(folder, is_synced=False)
