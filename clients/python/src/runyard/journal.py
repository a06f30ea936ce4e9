"""The journal's writer: what `log()` returned from is in the page cache, and on the disk half a second later."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Callable
from zlib import crc32

from runyard import journal_format as form

if TYPE_CHECKING:
    from runyard.journal_room import JournalRoom

SYNC_INTERVAL_S = 0.25
"""Pause between two looks of the syncing thread; data is on the disk within twice this."""
RETRY_INTERVAL_S = 1.0
"""Pause between two tries to open a segment while the disk refuses."""
SEGMENT_BYTES = (256 << 10, 1 << 20, 4 << 20, 8 << 20)
"""Sizes of the first, second, ... segment; the last one is the size of all that follow. Small runs stay small."""
SCHEMA_COUNT_MAX = 4096
"""Key sets kept at once; beyond, the cache starts anew, and segments repeat schemas."""
SAMPLE_BYTES_MAX = 1 << 20
"""Bytes of rows kept per key set for the sparklines at the end."""
SAMPLE_COUNT_MAX = 96
SAMPLED_SCHEMA_COUNT_MAX = 64
HELD_FRAME_COUNT_MAX = 1000
"""Changes, files and the end that wait for a refusing disk, unless another limit is given; rows do not wait."""

_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_fdatasync = getattr(os, "fdatasync", os.fsync)
_crc_pack = struct.Struct("<I").pack
_body_head_pack = struct.Struct("<HHI").pack


class RowSchema:
    """A key set: how its rows are packed, and the few of them that are remembered for the end of the run."""

    __slots__ = (
        "frame_bytes",
        "last_body",
        "last_sequence",
        "length_bytes",
        "names",
        "names_payload",
        "pack",
        "row_count",
        "row_head",
        "row_struct",
        "sample_limit",
        "sample_mask",
        "samples",
        "segment_number",
        "stop_offset",
    )

    def __init__(self, names: tuple[str, ...], names_payload: bytes, *, is_sampled: bool) -> None:
        payload_bytes = form.ROW_HEAD.size + 8 * len(names)
        self.names = names
        self.names_payload = names_payload
        self.row_struct = struct.Struct(f"<Qqq{len(names)}d")
        self.pack = self.row_struct.pack
        self.length_bytes = _crc_pack(payload_bytes)
        self.stop_offset = (
            form.FRAME_HEADER_BYTES + payload_bytes
        )  # of 8-byte parts: needs no padding
        self.frame_bytes = self.stop_offset
        self.segment_number = 0
        self.row_head = 0
        self.last_body = b""
        self.last_sequence = 0
        self.row_count = 0
        self.samples: list[bytes] = []
        self.sample_mask = 0
        fitting = SAMPLE_BYTES_MAX // self.frame_bytes
        self.sample_limit = max(2, min(SAMPLE_COUNT_MAX, fitting)) if is_sampled else 0
        if not is_sampled:
            self.sample_mask = -1  # row_count & -1 is never 0

    def keep_sample(self, body: bytes) -> None:
        """Remembers a row; when there are too many, forgets every second one and takes half as many from now on."""
        self.samples.append(body)
        if len(self.samples) >= self.sample_limit:
            del self.samples[1::2]
            self.sample_mask = self.sample_mask * 2 + 1

    def sampled_rows(self) -> list[tuple[int, Sequence[float]]]:
        """Returns (step, values) of the remembered rows and of the last one, in the order logged."""
        bodies = list(self.samples)
        if self.last_body and (not bodies or bodies[-1] is not self.last_body):
            bodies.append(self.last_body)
        unpacked = [self.row_struct.unpack(body) for body in bodies]
        return [(row[1], row[3:]) for row in unpacked]

    def last_values(self) -> Sequence[float]:
        """Returns the values of the last row."""
        return self.row_struct.unpack(self.last_body)[3:] if self.last_body else ()


class JournalWriter:
    """Appends frames to the segments of one folder; safe from any thread, never blocks on the disk, never raises OSError.

    While the disk refuses (full, read-only, broken), rows are dropped and counted, other frames are held, `on_trouble`
    is told once, and every few seconds a new segment is tried.
    """

    def __init__(
        self,
        folder: Path,
        *,
        on_trouble: Callable[[str], None] = lambda message: None,
        segment_bytes: Sequence[int] = SEGMENT_BYTES,
        time_ns: Callable[[], int] = time.time_ns,
        is_synced: bool = True,
        room: JournalRoom | None = None,
        held_frame_count_max: int = HELD_FRAME_COUNT_MAX,
        goes_on_from: tuple[int, int] = (0, 0),
    ) -> None:
        """`goes_on_from`: the last segment and the last record that an earlier writer left in the folder."""
        self.lock = threading.RLock()
        self.folder = folder
        self.dropped_count = 0
        """Records that the disk refused."""
        self._segment_number, self.sequence = goes_on_from
        self.is_closed = False
        self.on_tick: Callable[[], None] = _do_nothing
        """Called by the syncing thread about every SYNC_INTERVAL_S."""
        self._on_trouble = on_trouble
        self._room = room
        """None: as much as the disk has."""
        self._is_trouble_told = False
        self._retry_time_s = 0.0
        self._segment_bytes = tuple(segment_bytes)
        self._time_ns = time_ns
        self._file = -1
        self._map: mmap.mmap | None = None
        self._position = 0
        self._limit = 0
        self._schema_count = 0
        self._schemas_made = 0
        self._held: deque[tuple[int, bytes]] = deque()
        self._held_frame_count_max = held_frame_count_max
        self._syncer = _Syncer(self) if is_synced else None

    @property
    def held_count(self) -> int:
        """Returns how many frames wait for the disk."""
        return len(self._held)

    def append_row(
        self, schema: RowSchema, step: int, time_unix_ns: int, values: Collection[float]
    ) -> None:
        """Appends a row of the schema. The caller MUST hold `lock`. Raises struct.error if a value is no number."""
        position = self._position
        end = position + schema.frame_bytes
        if end > self._limit or schema.segment_number != self._segment_number:
            if not self._make_room(schema.frame_bytes, schema):
                self.dropped_count += 1
                return
            position = self._position
            end = position + schema.frame_bytes
        body = schema.pack(schema.row_head, step, time_unix_ns, *values)
        segment = self._map
        assert segment is not None
        segment[position + 4 : end] = _crc_pack(crc32(body)) + body
        segment[position : position + 4] = schema.length_bytes
        self._position = end
        self.sequence = schema.last_sequence = self.sequence + 1
        schema.last_body = body
        if not schema.row_count & schema.sample_mask:
            schema.keep_sample(body)
        schema.row_count += 1

    def append(self, kind: int, payload: bytes, schema_number: int = 0) -> bool:
        """Appends a frame of another kind; returns False if the disk refuses and it is held for later."""
        with self.lock:
            if self.is_closed:
                self.dropped_count += 1
                return False
            frame_bytes = _frame_bytes(payload)
            is_held_before = bool(self._held) and not self._open_segment(frame_bytes)
            if is_held_before or not self._make_room(frame_bytes, None):
                self._hold(kind, payload)
                return False
            self._put(kind, payload, schema_number)
            return True

    def sync(self) -> None:
        """Returns when all that was appended is on the disk, or the disk has refused."""
        with self.lock:
            file = self._file
        if file >= 0:
            self._sync_file(file)

    def close(self, last: tuple[int, bytes] | None = None) -> None:
        """Appends the last frame (kind, payload), cuts the unused rest of the segment off and syncs it.

        No row of another thread comes behind the last frame: what is appended after this is dropped and counted.
        """
        with self.lock:
            if self.is_closed:
                return
            # The end finds its place beyond the limit, and is tried on a disk that refused a moment ago.
            self._room, self._retry_time_s = None, 0.0
            if last is not None:
                self.append(*last)
            self.is_closed = True
            self.dropped_count += len(self._held)
            self._held.clear()
            segment, file, self._map, self._file = self._map, self._file, None, -1
            position, self._position, self._limit = self._position, 0, 0
        if self._syncer is not None:
            self._syncer.stop()
        if segment is None:
            return
        segment.close()
        try:
            os.ftruncate(file, position)
            os.fsync(file)
            _sync_folder(self.folder)  # a short run ends before the syncing thread looked
        except OSError as error:
            self._tell_trouble(error)
        finally:
            os.close(file)

    def abandon(self) -> None:
        """Lets go of the files without touching them: for a forked child, whose parent goes on writing."""
        self.lock = threading.RLock()
        self.is_closed = True
        segment, file, self._map, self._file = self._map, self._file, None, -1
        self._position = self._limit = 0
        if segment is not None:
            segment.close()
            os.close(file)

    def make_schema(self, names: tuple[str, ...], names_payload: bytes) -> RowSchema:
        """Returns a key set to append rows of; `names_payload` is the JSON array of the names."""
        with self.lock:
            self._schemas_made += 1
            is_sampled = self._schemas_made <= SAMPLED_SCHEMA_COUNT_MAX
        return RowSchema(names, names_payload, is_sampled=is_sampled)

    def _put(self, kind: int, payload: bytes, schema_number: int) -> None:
        segment, position = self._map, self._position
        assert segment is not None
        body = _body_head_pack(kind, 0, schema_number) + payload
        stop = position + form.CHECKED_OFFSET + len(body)
        segment[position + 4 : stop] = _crc_pack(crc32(body)) + body
        segment[position : position + 4] = _crc_pack(len(payload))
        self._position = position + form.FRAME_HEADER_BYTES + form.padded(len(payload))
        self.sequence += 1

    def _make_room(self, frame_bytes: int, schema: RowSchema | None) -> bool:
        """Makes the open segment hold the schema and fit the frame; returns False if the disk refuses."""
        if self.is_closed:
            return False
        names_bytes = _frame_bytes(schema.names_payload) if schema is not None else 0
        is_known = schema is None or schema.segment_number == self._segment_number
        needed_bytes = frame_bytes + (0 if is_known else names_bytes)
        if (
            self._map is None or self._position + needed_bytes > self._limit
        ) and not self._open_segment(frame_bytes + names_bytes):
            return False
        if schema is not None and schema.segment_number != self._segment_number:
            self._schema_count += 1
            schema.segment_number = self._segment_number
            schema.row_head = form.ROW | self._schema_count << 32
            self._put(form.SCHEMA, schema.names_payload, self._schema_count)
        return True

    def _open_segment(self, needed_bytes: int) -> bool:
        now_s = time.monotonic()
        if now_s < self._retry_time_s:
            return False
        number = self._segment_number + 1
        sizes = self._segment_bytes
        size_bytes = sizes[min(number, len(sizes)) - 1]
        held_bytes = sum(_frame_bytes(payload) for _, payload in self._held)
        least_bytes = form.HEADER_BYTES + form.padded(needed_bytes + held_bytes)
        size_bytes = max(size_bytes, least_bytes)
        path = self.folder / form.segment_name(number)
        try:
            try:
                file, segment = self._allocate(path, size_bytes)
            except OSError:
                if size_bytes <= max(sizes[0], least_bytes):
                    raise
                size_bytes = max(
                    sizes[0], least_bytes
                )  # a nearly full disk has room for a small one
                file, segment = self._allocate(path, size_bytes)
        except OSError as error:
            self._retry_time_s = now_s + RETRY_INTERVAL_S
            self._tell_trouble(error)
            return False
        self._retire_segment()
        self._file, self._map = file, segment
        self._segment_number, self._schema_count = number, 0
        self._position, self._limit = form.HEADER_BYTES, size_bytes
        self._flush_held()
        if self._syncer is not None:
            self._syncer.start()
        return True

    def _allocate(self, path: Path, size_bytes: int) -> tuple[int, mmap.mmap]:
        """Makes a segment file; its name appears when the header is in it. On failure only a .new file may be left."""
        if self._room is not None:  # the first segment holds START: without it there is no run
            self._room.take(size_bytes, is_refusable=self._segment_number > 0)
        new_path = path.with_suffix(".new")
        file = os.open(new_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            reserve(file, size_bytes)
            segment = mmap.mmap(file, size_bytes)
            segment[: form.HEADER_BYTES] = form.HEADER.pack(
                form.MAGIC, form.VERSION, form.HEADER_BYTES, self.sequence + 1, self._time_ns()
            )
            new_path.rename(path)
        except BaseException:
            os.close(file)
            try:
                new_path.unlink()
            except OSError:
                pass  # the disk refuses that too; the next try empties the file
            raise
        return file, segment

    def _retire_segment(self) -> None:
        segment, file = self._map, self._file
        if segment is None:
            return
        segment.close()
        if self._syncer is None or not self._syncer.retire(file):
            self._sync_file(file)
            os.close(file)

    def _hold(self, kind: int, payload: bytes) -> None:
        if len(self._held) < self._held_frame_count_max:
            self._held.append((kind, payload))
        else:
            self.dropped_count += 1

    def _flush_held(self) -> None:
        while self._held and self._map is not None:
            kind, payload = self._held[0]
            if self._position + _frame_bytes(payload) > self._limit:
                return
            self._held.popleft()
            self._put(kind, payload, 0)

    def _sync_file(self, file: int) -> None:
        try:
            _fdatasync(file)
        except OSError as error:
            self._tell_trouble(error)

    def _tell_trouble(self, error: OSError) -> None:
        if self._is_trouble_told:
            return
        self._is_trouble_told = True
        self._on_trouble(
            f"cannot write the journal in {self.folder}: {error.strerror or error}. Training goes on; what is logged "
            f"from now on may be lost. Make room there or set RUNYARD_DIR; it is tried again every "
            f"{RETRY_INTERVAL_S:g} s"
        )


class NullJournal(JournalWriter):
    """Keeps nothing: of a disabled run, or where no folder can be written; `is_loss` says whether that is counted."""

    def __init__(self, *, is_loss: bool) -> None:
        super().__init__(Path(os.devnull), is_synced=False)
        self._is_loss = is_loss

    def append_row(
        self, schema: RowSchema, step: int, time_unix_ns: int, values: Collection[float]
    ) -> None:
        """Remembers the row for the summary only."""
        body = schema.pack(0, step, time_unix_ns, *values)
        self.dropped_count += self._is_loss
        self.sequence = schema.last_sequence = self.sequence + 1
        schema.last_body = body
        if not schema.row_count & schema.sample_mask:
            schema.keep_sample(body)
        schema.row_count += 1

    def append(self, kind: int, payload: bytes, schema_number: int = 0) -> bool:
        """Keeps nothing."""
        with self.lock:
            self.dropped_count += self._is_loss
        return False


class _Syncer:
    """The thread that syncs the open segment when it grew, and closes segments that are full."""

    def __init__(self, journal: JournalWriter) -> None:
        self._journal = journal
        self._retired: deque[int] = deque()
        self._stop = threading.Event()
        self._synced = (0, 0)
        self._thread: threading.Thread | None = None

    def retire(self, file: int) -> bool:
        """Takes over a full segment's file: syncs and closes it. Returns False if the thread does not run."""
        if self._thread is None or not self._thread.is_alive() or self._stop.is_set():
            return False
        self._retired.append(file)
        return True

    def start(self) -> None:
        """Starts the thread unless it was; where none can be had, full segments are synced by the writer."""
        if self._thread is not None or self._stop.is_set():
            return
        thread = threading.Thread(target=self._run, name="runyard-journal-sync", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return
        self._thread = thread

    def stop(self) -> None:
        """Returns when the thread has synced and closed what it took over."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)
        self._drain()

    def _run(self) -> None:
        while not self._stop.wait(SYNC_INTERVAL_S):
            self._drain()
            self._sync_open()
            if self._journal._room is not None:
                self._journal._room.look()
            self._journal.on_tick()

    def _drain(self) -> None:
        while self._retired:
            file = self._retired.popleft()
            self._journal._sync_file(file)
            os.close(file)

    def _sync_open(self) -> None:
        journal = self._journal
        with journal.lock:
            reached = (journal._segment_number, journal._position)
            if reached == self._synced or journal._file < 0:
                return
            file = os.dup(journal._file)  # the writer may close its own while this one is synced
        try:
            journal._sync_file(file)
            if reached[0] != self._synced[0]:
                _sync_folder(journal.folder)
        finally:
            os.close(file)
        self._synced = reached


def _do_nothing() -> None:
    """Is what happens at a tick unless somebody asks for more."""


def _frame_bytes(payload: bytes) -> int:
    return form.FRAME_HEADER_BYTES + form.padded(len(payload))


def reserve(file: int, size_bytes: int) -> None:
    """Takes the blocks now, so that a full disk is an error here and not a SIGBUS in a later store."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size_bytes)
            return
        except OSError as error:
            if error.errno not in _NO_FALLOCATE:
                raise
    zeros = bytes(1 << 16)
    left = size_bytes
    while left > 0:
        left -= os.write(file, zeros[:left])


def _sync_folder(folder: Path) -> None:
    try:
        file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # not every system opens folders; the file's own data is synced
    try:
        os.fsync(file)
    except OSError:
        pass  # nor syncs them
    finally:
        os.close(file)
