"""Hashes files: the SHA-256 of the whole and the MD5 of each part, in one pass."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from runyard.agent.ports import FileDigest
from runyard.agent.store_calls import open_regular

CHUNK_BYTES = 1 << 20
TWO_THREADS_BYTES = 8 << 20
"""From this size on the two hashes of a file are computed side by side: MD5 takes twice as long as SHA-256 where the CPU has that."""


def digest_file(
    path: str, size_bytes: int, part_bytes: int, cancelled: threading.Event
) -> FileDigest:
    """Hashes the first `size_bytes` of a file, or what there is of them: one that grows all the time has an end, too."""
    whole, parts = hashlib.sha256(), _PartMd5s(part_bytes)
    done_bytes = 0
    helper = ThreadPoolExecutor(1) if size_bytes >= TWO_THREADS_BYTES else None
    pending: Future[None] | None = None
    # Two buffers: MD5 may still read the one while the other is filled.
    buffers = [bytearray(min(CHUNK_BYTES, max(1, size_bytes))) for _ in range(2)]
    try:
        with open_regular(path) as file:
            turn = 0
            while done_bytes < size_bytes and not cancelled.is_set():
                wanted = memoryview(buffers[turn])[: size_bytes - done_bytes]
                count = file.readinto(wanted)  # type: ignore[attr-defined]  # a raw file has it
                if not count:
                    break
                chunk = wanted[:count]
                if pending is not None:
                    pending.result()
                if helper is not None:
                    pending = helper.submit(parts.update, chunk)
                else:
                    parts.update(chunk)
                whole.update(chunk)
                done_bytes += count
                turn = 1 - turn
        if pending is not None:
            pending.result()
    finally:
        if helper is not None:
            helper.shutdown()
    return FileDigest(done_bytes, whole.digest(), parts.finish(), part_bytes)


class _PartMd5s:
    """MD5s of the parts of what it is fed; none where the system's library refuses MD5, as FIPS builds do."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._md5 = _new_md5()
        self._size_bytes = 0
        self._done: list[bytes] = []

    def update(self, chunk: memoryview) -> None:
        while self._md5 is not None and len(chunk):
            piece = chunk[: self._part_bytes - self._size_bytes]
            self._md5.update(piece)
            self._size_bytes += len(piece)
            chunk = chunk[len(piece) :]
            if self._size_bytes == self._part_bytes:
                self._close()

    def finish(self) -> tuple[bytes, ...]:
        if self._md5 is not None and (self._size_bytes or not self._done):
            self._close()
        return tuple(self._done)

    def _close(self) -> None:
        if self._md5 is not None:
            self._done.append(self._md5.digest())
        self._md5, self._size_bytes = _new_md5(), 0


def _new_md5() -> hashlib._Hash | None:
    try:
        return hashlib.md5(usedforsecurity=False)
    except ValueError:
        return None
