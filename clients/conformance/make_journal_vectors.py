"""Makes journal_vectors.json: journals as bytes, and what every client must read out of them.

    python clients/conformance/make_journal_vectors.py            writes the file
    python clients/conformance/make_journal_vectors.py --check    fails if the file is not what would be written

Vectors are only ever added: a journal that a version wrote is read by every later one.
journal_vectors_version1.json is what the first version of the format wrote; it never changes. The writer is the Python
SDK's with a fixed clock; damaged journals are made from whole ones by hand.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runyard import extended_json
from runyard import journal_format as form
from runyard.journal import JournalWriter

PATH = Path(__file__).with_name("journal_vectors.json")
START_TIME_UNIX_NS = 1_790_000_000_000_000_000

Segments = dict[str, bytes]
Record = dict[str, Any]


class Recorder:
    """Writes a journal and keeps what a reader must find in it."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self.folder = folder
        self.time_unix_ns = START_TIME_UNIX_NS
        self.records: list[Record] = []
        self.beside: dict[str, str] = {}
        """Texts of other files of the run folder, by their paths in it."""
        self.journal = JournalWriter(
            folder,
            segment_bytes=[segment_bytes],
            time_ns=lambda: START_TIME_UNIX_NS,
            is_synced=False,
        )
        self._schemas: dict[tuple[str, ...], Any] = {}

    def add(self, kind: int, content: dict[str, Any]) -> None:
        """Appends a frame with a JSON object."""
        plain = extended_json.plain(content)
        self.journal.append(kind, extended_json.dumps(plain).encode())
        self._record(form.KIND_NAMES[kind], content=json.loads(extended_json.dumps(plain)))

    def row(self, step: int, values: dict[str, float]) -> None:
        """Appends a row, and the SCHEMA before it that the writer puts there."""
        names = tuple(values)
        if names not in self._schemas:
            payload = json.dumps(names, ensure_ascii=False, separators=(",", ":")).encode()
            self._schemas[names] = self.journal.make_schema(names, payload)
        schema = self._schemas[names]
        self.time_unix_ns += 1_000_000
        before = self.journal.sequence
        self.journal.append_row(schema, step, self.time_unix_ns, values.values())
        if self.journal.sequence == before + 2:
            self._record("SCHEMA", schema=schema.row_head >> 32, names=list(names))
        bits = [struct.pack(">d", value).hex() for value in values.values()]
        self._record(
            "ROW", schema=schema.row_head >> 32, step=step, time_unix_ns=self.time_unix_ns,
            names=list(names), value_bits=bits,
        )  # fmt: skip

    def console(self, first_line: int, stream: int, *lines: bytes) -> None:
        """Appends lines that a process printed."""
        self.time_unix_ns += 1_000_000
        head = form.CONSOLE_HEAD.pack(first_line, self.time_unix_ns, stream, len(lines))
        self.journal.append(form.CONSOLE, head + b"\n".join(lines))
        content = {
            "first_line": first_line,
            "time_unix_ns": self.time_unix_ns,
            "stream": stream,
            "line_count": len(lines),
            "lines": [line.decode("utf-8", "replace") for line in lines],
        }
        self._record("CONSOLE", content=content)

    def artifact(self, entries: list[dict[str, Any]], **fields: Any) -> None:
        """Appends the record of an artifact; its manifest, with the entries by path, lies beside the journal."""
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]
        self.beside[f"artifacts/{fields['request_id']}.manifest"] = "".join(lines)
        digest = hashlib.sha256()
        for entry in entries:
            names = ("path", "size_bytes", "sha256", "reference", "etag")
            digest.update(("\0".join(str(entry.get(name, "")) for name in names) + "\n").encode())
        self.add(
            form.ARTIFACT, {**fields, "digest": digest.hexdigest(), "entry_count": len(entries)}
        )

    def close(self) -> Segments:
        """Returns the journal's segments."""
        self.journal.close()
        return {path.name: path.read_bytes() for path in sorted(self.folder.glob("*.seg"))}

    def _record(self, kind: str, **fields: Any) -> None:
        self.records.append({"sequence": len(self.records) + 1, "kind": kind, **fields})


def start(recorder: Recorder, **more: Any) -> None:
    """Appends the START frame of an ordinary run."""
    fields = {
        "format": 1, "request_id": "00112233445566778899aabbccddeeff", "mode": "online",
        "base_url": "http://127.0.0.1:8080", "entity": "nico", "project": "awesome-project", "run_id": "k3j2h1ab",
        "is_id_given": False, "start_time_unix_ns": START_TIME_UNIX_NS,
    }  # fmt: skip
    recorder.add(form.START, {**fields, **more})


def finish(recorder: Recorder) -> None:
    """Appends the FINISH frame of a run that ended well."""
    recorder.add(
        form.FINISH,
        {
            "exit_code": 0, "cause": "FINISH_CALLED", "evidence": "",
            "time_unix_ns": START_TIME_UNIX_NS + 60_000_000_000,
        },
    )  # fmt: skip


def whole_run(recorder: Recorder) -> None:
    """Writes a run with every kind of record."""
    config = {"learning_rate": 0.01, "epochs": 2, "seed": 2**63 - 1, "clip": math.inf, "名": "é"}
    start(recorder, config=config, tags=["first"])
    for epoch in range(2):
        recorder.row(epoch, {"accuracy": 0.5 + epoch / 4, "loss": 1 / (epoch + 1)})
        recorder.row(epoch, {"lr": 0.01 * 0.5**epoch})
    recorder.add(form.CHANGE, {"config_set": {"epochs": 3}, "config_removed": ["clip"]})
    recorder.add(
        form.CHANGE, {"summary_set": {"best.accuracy": math.nan}, "summary_removed": ["old"]}
    )
    definition = {
        "name": "val/*", "step_metric": "epoch", "summaries": ["min", "last"], "goal": "minimize", "is_hidden": False,
    }  # fmt: skip
    recorder.add(
        form.CHANGE,
        {"metric_definition": definition, "display_name": "neu", "notes": "", "tags": ["a", "b"]},
    )
    recorder.add(
        form.FILE,
        {
            "path": "/data/model.bin",
            "name": "model.bin",
            "policy": "end",
            "size_bytes": 3,
            "mtime_ns": 17,
        },
    )
    recorder.add(form.RESUMED_STEP, {"step": 2})
    finish(recorder)


def stopped_run(recorder: Recorder) -> None:
    """Writes a run that alerts, learns of a preemption, is told to stop, and ends by an exception."""
    start(recorder)
    recorder.row(0, {"loss": 0.5})
    alert = {"title": "Loss rises", "text": "é 名", "level": "WARN", "wait_duration_s": 60.0}
    recorder.add(form.CHANGE, {"alert": alert})
    recorder.add(form.CHANGE, {"preemption_notice": "mark_preempting()"})
    recorder.add(
        form.STOP_TOLD,
        {
            "how": "interrupt", "request_time_unix_ns": START_TIME_UNIX_NS,
            "time_unix_ns": START_TIME_UNIX_NS + 1_000_000_000,
        },
    )  # fmt: skip
    recorder.add(
        form.FINISH,
        {
            "exit_code": 1, "cause": "USER_REQUEST", "evidence": "nico asked for it",
            "time_unix_ns": START_TIME_UNIX_NS + 60_000_000_000,
            "exception": {
                "type": "ValueError", "message": "too hot",
                "traceback": "Traceback (most recent call last):\nValueError: too hot\n",
            },
        },
    )  # fmt: skip


def media_run(recorder: Recorder) -> None:
    """Writes a run that logs an image, a histogram and a plot beside numbers, the image's file before it."""
    start(recorder)
    recorder.row(0, {"loss": 0.5})
    image = "media/image/examples/digits_0_0123456789ab.png"
    recorder.add(
        form.FILE,
        {
            "path": f"/data/run/files/{image}", "name": image, "policy": "now", "size_bytes": 70, "mtime_ns": 17,
            "is_copy": True,
        },
    )  # fmt: skip
    at = {"step": 0, "time_unix_ns": START_TIME_UNIX_NS + 1}
    item = {
        "file": image, "format": "png", "size_bytes": 70, "sha256": "ab" * 32, "caption": "é 名", "width": 8, "height": 8,
        "boxes": {
            "truth": {
                "box_data": [
                    {
                        "position": {"minX": 0.1, "maxX": 0.5, "minY": 0.25, "maxY": 1.0}, "class_id": 1,
                        "scores": {"p": math.nan},
                    }
                ],
                "class_labels": {"1": "cat"},
            }
        },
    }  # fmt: skip
    recorder.add(form.MEDIA, {**at, "name": "examples/digits", "kind": "image", "items": [item]})
    histogram = {"edges": [-1.5, 0.0, 5e-324, 1e308], "counts": [3.0, 0, 2**53], "non_finite_count": 2**64 - 1}  # fmt: skip
    recorder.add(form.MEDIA, {**at, "name": "weights", "kind": "histogram", "histogram": histogram})
    plot = {
        "chart": "line", "title": "t", "encoding": {"x": "x", "y": "y"}, "row_count": 2,
        "data": {"x": [2**63 - 1, None], "y": [math.inf, -0.0]},
    }  # fmt: skip
    recorder.add(
        form.MEDIA,
        {**at, "step": form.STEP_MIN, "name": "curve", "kind": "plot", "items": [plot]},
    )
    finish(recorder)


def artifact_run(recorder: Recorder) -> None:
    """Writes a run that logs two artifacts: one with all that a record can hold, one with no more than it needs."""
    start(recorder)
    content = b"a,b\n1,2\n"
    sha256 = hashlib.sha256(content).hexdigest()
    file = {"path": "data/é.csv", "size_bytes": len(content), "sha256": sha256}
    # No source: only the server has its bytes, from an earlier version.
    known = {"path": "known", "size_bytes": 3, "sha256": hashlib.sha256(b"old").hexdigest()}
    reference = {"path": "web", "size_bytes": 7, "sha256": "", "reference": "s3://bucket/key", "etag": '"tag"'}  # fmt: skip
    both = "ffeeddccbbaa99887766554433221100"
    first = [{**file, "source": f"staged/{both}.{sha256}"}, known, reference]
    recorder.beside[f"artifacts/staged/{both}.{sha256}"] = content.decode()
    recorder.artifact(
        first, request_id=both, name="data", type="dataset", description="é 名", metadata={"rows": 2**63 - 1, "loss": math.nan},
        aliases=["best"], tags=["first"], ttl_s=3600,
    )  # fmt: skip
    recorder.artifact([reference], request_id="one_by_hand-1", name="links", type="dataset")
    finish(recorder)


def console(recorder: Recorder) -> None:
    """Writes the console of a process: lines, empty ones, a bar that moves, colours, what is no UTF-8, and what was left out."""
    recorder.console(1, 1, b"first", b"", "é 名 \U0001f680".encode())
    recorder.console(4, 2, b"\x1b[31mred\x1b[0m")
    recorder.console(5, 1, b" 10%")
    recorder.console(5, 1, b"100%", b"")
    recorder.console(7, 3, b"runyard: 3 lines were not kept")
    recorder.console(8, 1, b"cut \xf0\x9f\x9a", b"x" * 300)


def odd_values(recorder: Recorder) -> None:
    """Writes values whose bits must come through: NaN payloads, infinities, -0.0, subnormals, extremes of steps."""
    start(recorder)
    odd = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_BEEF))[0]
    values = [odd, -math.nan, math.inf, -math.inf, -0.0, 5e-324, sys.float_info.max, 2.0**53]
    for step, value in zip((0, 1, -1, form.STEP_MIN, form.STEP_MAX, 7, 7, 3), values, strict=True):
        recorder.row(step, {"x": value, "y/é 名": -value})
    finish(recorder)


def many_segments(recorder: Recorder) -> None:
    """Writes over several segments: schemas stand again in each one, a large frame gets a segment of its own."""
    start(recorder)
    for step in range(40):
        recorder.row(step, {"loss": 1 / (step + 1)})
        if step % 3 == 0:
            recorder.row(step, {"val/loss": 0.5, "val/accuracy": 0.25})
    recorder.add(form.CHANGE, {"notes": "n" * 3000})
    recorder.row(40, {"loss": 0.0})
    finish(recorder)


def build() -> dict[str, Any]:
    """Returns the file's content."""
    vectors = []
    run = make("a run with every kind of record", whole_run, vectors)
    make("values and steps keep every bit", odd_values, vectors)
    many = make("several segments", many_segments, vectors, segment_bytes=512)
    name, content = last_segment(run)
    records = vectors[0]["records"]
    last_offset = offset_of_last_frame(content)
    damages: list[tuple[str, bytes]] = [
        ("zeros behind the last frame", content + bytes(4096)),
        ("the last frame is cut", content[:-8]),
        ("only the head of the last frame is there", content[: last_offset + 8] + bytes(64)),
        ("the last frame was written but its length", without_length(content, last_offset) + bytes(64)),
        ("a bit of the last frame is flipped", flipped(content, last_offset + 20)),
        ("junk behind the last frame", content + b"\xa5" * 64),
        ("a length beyond the end of the file", content + struct.pack("<IIHHI", 1 << 30, 0, form.ROW, 0, 1)),
    ]  # fmt: skip
    for title, damaged in damages:
        is_whole = title.startswith(("zeros", "junk", "a length"))
        stop = "end" if title.startswith("zeros") else "torn"
        add(vectors, title, {name: damaged}, records if is_whole else records[:-1], stop)
    middle = offset_of_frame(content, 3)
    add(
        vectors,
        "a bit of a frame in the middle is flipped",
        {name: flipped(content, middle + 18)},
        records[:3],
        "torn",
    )
    unknown = content[:last_offset] + frame(99, b'{"x":1}') + content[last_offset:]
    add(vectors, "an unknown kind stops a reader", {name: unknown}, records[:-1], "unknown_kind")
    passed_over = content[:last_offset] + frame(0x8063, b"later") + content[last_offset:]
    skipped = {"sequence": len(records), "kind": str(0x8063)}
    after = {**records[-1], "sequence": len(records) + 1}
    add(
        vectors,
        "an unknown kind with bit 15 is passed over",
        {name: passed_over},
        [*records[:-1], skipped, after],
        "end",
    )
    names = sorted(many)
    first_of_third = struct.unpack_from("<Q", many[names[2]], 16)[0]
    rest = {n: many[n] for n in names[2:]}
    add(
        vectors,
        "durable segments at the front are deleted",
        rest,
        vectors[2]["records"][first_of_third - 1 :],
        "end",
    )
    gap = {n: many[n] for n in names if n != names[2]}
    add(
        vectors,
        "a segment in the middle is missing",
        gap,
        vectors[2]["records"][: first_of_third - 1],
        "missing",
    )
    add(vectors, "a segment without a header", {name: bytes(4096)}, [], "bad_header")
    make("a run that was told to stop and ended by an exception", stopped_run, vectors)
    make("media values beside numbers", media_run, vectors)
    make("what a process printed", console, vectors)
    make("artifacts, with their manifests beside the journal", artifact_run, vectors)
    return {"version": 1, "format": "protos/journal.md", "vectors": vectors}


def make(
    title: str,
    write: Callable[[Recorder], None],
    vectors: list[dict[str, Any]],
    segment_bytes: int = 1 << 16,
) -> Segments:
    """Adds a whole journal to the vectors and returns its segments."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder), segment_bytes)
        write(recorder)
        segments = recorder.close()
    add(vectors, title, segments, recorder.records, "end")
    if recorder.beside:
        vectors[-1]["beside"] = recorder.beside
    return segments


def add(
    vectors: list[dict[str, Any]], title: str, segments: Segments, records: list[Record], stop: str
) -> None:
    """Adds a vector: the segments, the records that a reader finds, and why it stops."""
    packed = {
        name: base64.b64encode(zlib.compress(content, 9)).decode()
        for name, content in segments.items()
    }
    vectors.append(
        {"title": title, "segments_zlib_base64": packed, "records": records, "stop": stop}
    )


def frame(kind: int, payload: bytes) -> bytes:
    """Returns a whole frame."""
    body = struct.pack("<HHI", kind, 0, 0) + payload
    padding = bytes(form.padded(len(payload)) - len(payload))
    return struct.pack("<II", len(payload), zlib.crc32(body)) + body + padding


def last_segment(segments: Segments) -> tuple[str, bytes]:
    """Returns name and content of the last segment."""
    name = max(segments)
    return name, segments[name]


def offsets(content: bytes) -> list[int]:
    """Returns where the segment's frames begin."""
    found, position = [], form.HEADER_BYTES
    while position + form.FRAME_HEADER_BYTES <= len(content):
        length = struct.unpack_from("<I", content, position)[0]
        if not length:
            break
        found.append(position)
        position += form.FRAME_HEADER_BYTES + form.padded(length)
    return found


def offset_of_last_frame(content: bytes) -> int:
    """Returns where the last frame begins."""
    return offsets(content)[-1]


def offset_of_frame(content: bytes, index: int) -> int:
    """Returns where the frame of that index begins."""
    return offsets(content)[index]


def without_length(content: bytes, offset: int) -> bytes:
    """Returns the content as it is a moment before the frame's length is stored."""
    return content[:offset] + bytes(4) + content[offset + 4 :]


def flipped(content: bytes, offset: int) -> bytes:
    """Returns the content with one bit changed."""
    return content[:offset] + bytes([content[offset] ^ 0x10]) + content[offset + 1 :]


def main() -> int:
    """Writes or checks the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args()
    content = build()
    if not options.check:
        PATH.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return 0
    if unpacked(json.loads(PATH.read_text(encoding="utf-8"))) != unpacked(content):
        sys.exit(f"{PATH.name} is not what the writer writes now")
    return 0


def unpacked(content: dict[str, Any]) -> list[Any]:
    """Returns the vectors with their segments as bytes: what compresses them may differ from machine to machine."""
    return [
        {**vector, "segments_zlib_base64": segments_of(vector)} for vector in content["vectors"]
    ]


def segments_of(vector: dict[str, Any]) -> Segments:
    """Returns the segments of a vector."""
    packed = vector["segments_zlib_base64"]
    return {name: zlib.decompress(base64.b64decode(text)) for name, text in packed.items()}


if __name__ == "__main__":
    sys.exit(main())
