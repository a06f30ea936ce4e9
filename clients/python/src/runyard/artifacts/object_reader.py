"""Reads contents from an object store by presigned URL: over connections that are kept, going on where one was cut."""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
import time
import urllib.parse
from typing import Any, Callable

from runyard.artifacts.entries import Entry
from runyard.errors import ContentMismatch, NotFound, Unavailable

TIMEOUT_S = 60.0
"""Longest pause in which not a byte moves."""
TRY_COUNT = 6
"""Tries in a row that got nothing across."""
PAUSE_S, PAUSE_MAX_S = 0.2, 5.0
CHUNK_BYTES = 1 << 20
_ERROR_BYTES_MAX = 2048


class ObjectReader:
    """Reads contents; safe from several threads, each of which has connections of its own."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: list[http.client.HTTPConnection] = []

    def content(self, entry: Entry, url: str, fresh_url: Callable[[], str]) -> bytes:
        """Returns a small content; raises ContentMismatch, NotFound, Unavailable."""
        parts: list[bytes] = []

        def begin() -> int:
            parts.clear()
            return 0

        def take(chunk: bytes) -> None:
            parts.append(chunk)

        self._read(entry, url, fresh_url, begin, take)
        content = b"".join(parts)
        _check(entry, len(content), hashlib.sha256(content).hexdigest())
        return content

    def fetch(self, entry: Entry, url: str, fresh_url: Callable[[], str], file: int) -> None:
        """Writes a content into a file, going on behind what that holds; raises as `content` does, and OSError."""
        for is_last in (False, True):
            try:
                self._fetch_once(entry, url, fresh_url, file)
                return
            except ContentMismatch:
                # What an earlier try left may have been damaged since: once from the beginning.
                os.ftruncate(file, 0)
                if is_last:
                    raise

    def close(self) -> None:
        """Lets go of all connections."""
        with self._lock:
            connections, self._all = self._all, []
        for connection in connections:
            connection.close()

    def _fetch_once(self, entry: Entry, url: str, fresh_url: Callable[[], str], file: int) -> None:
        digest = hashlib.sha256()
        os.lseek(file, 0, os.SEEK_SET)
        if os.fstat(file).st_size > entry.size:
            os.ftruncate(file, 0)
        while chunk := os.read(file, CHUNK_BYTES):
            digest.update(chunk)

        def begin() -> int:
            return os.lseek(file, 0, os.SEEK_END)

        def take(chunk: bytes) -> None:
            view = memoryview(chunk)
            digest.update(view)
            while len(view):
                view = view[os.write(file, view) :]

        self._read(entry, url, fresh_url, begin, take)
        _check(entry, os.fstat(file).st_size, digest.hexdigest())

    def _read(
        self,
        entry: Entry,
        url: str,
        fresh_url: Callable[[], str],
        begin: Callable[[], int],
        take: Callable[[bytes], None],
    ) -> None:
        """Feeds `take` with the bytes from where `begin` says; repeats what fails, with growing pauses."""
        count, pause_s = 0, PAUSE_S
        while True:
            first_byte = begin()
            if first_byte >= entry.size and (first_byte or count):
                return
            got = [0]
            try:
                self._exchange(url, first_byte, take, got)
                return
            except _RefusedError as error:
                # The address may have expired, or the object moved: a fresh one tells.
                if error.status == 404 and count:
                    raise NotFound(
                        f"the content of {entry.path!r} is not in the object store", reason="FILE_NOT_FOUND"
                    ) from None  # fmt: skip
                failure: Exception = error
                url = fresh_url()
            except _BrokenError as error:
                failure = error
            count = 1 if got[0] else count + 1
            if count >= TRY_COUNT:
                raise Unavailable(
                    f"the object store does not give {entry.path!r}: {failure}",
                    reason="STORE_UNAVAILABLE",
                )
            self._sleep(PAUSE_S if got[0] else pause_s)
            pause_s = min(PAUSE_MAX_S, pause_s * 2)

    def _exchange(
        self, url: str, first_byte: int, take: Callable[[bytes], None], got: list[int]
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        headers = {"Range": f"bytes={first_byte}-"} if first_byte else {}
        connection = self._connection(parts)
        is_done = False
        try:
            reply = self._reply(connection, path, headers)
            if reply.status not in (200, 206) or (first_byte and reply.status != 206):
                said = reply.read(_ERROR_BYTES_MAX).decode("utf-8", "replace")
                raise _RefusedError(reply.status, parts.netloc, said)
            while chunk := _receive(reply):
                got[0] += len(chunk)
                take(chunk)
            is_done = reply.isclosed() and not reply.will_close
        finally:
            if not is_done:
                connection.close()

    def _reply(self, connection: http.client.HTTPConnection, path: str, headers: Any) -> Any:
        # A kept connection may have been closed by the store meanwhile.
        is_kept = connection.sock is not None
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if not is_kept:
                raise _BrokenError(str(error) or type(error).__name__) from error
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(str(error) or type(error).__name__) from error

    def _connection(self, parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
        kept: dict[str, http.client.HTTPConnection] = getattr(self._local, "kept", {})
        self._local.kept = kept
        key = f"{parts.scheme}://{parts.netloc}"
        connection = kept.get(key)
        if connection is None:
            https = parts.scheme == "https"
            kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
            connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
            kept[key] = connection
            with self._lock:
                self._all.append(connection)
        return connection


class _BrokenError(Exception):
    """The connection failed."""


class _RefusedError(Exception):
    """The store answered with an error."""

    def __init__(self, status: int, where: str, said: str) -> None:
        super().__init__(f"{where} answered HTTP {status}: {said[:300]}")
        self.status = status


def _receive(reply: Any) -> bytes:
    try:
        chunk: bytes = reply.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error
    if not chunk and reply.length:  # closed before the end
        raise _BrokenError("the connection was closed in the middle")
    return chunk


def _check(entry: Entry, size_bytes: int, sha256_hex: str) -> None:
    if sha256_hex != entry.sha256.hex():
        raise ContentMismatch(
            f"{entry.path!r} came with {size_bytes} bytes and SHA-256 {sha256_hex}; stored were {entry.size} bytes with "
            f"{entry.sha256.hex()}",
            reason="FILE_CONTENT_MISMATCH",
        )
