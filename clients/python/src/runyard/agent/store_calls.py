"""Sends parts of files to object stores by presigned URL, over connections that are kept."""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH123

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.client
import io
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Sequence
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

from runyard.agent.content_upload import FILE_CHANGED, STORE_REFUSED, STORE_UNREACHABLE
from runyard.agent.ports import FilePart
from runyard.errors import Error, Unavailable

CONNECT_TIMEOUT_S = 5.0
PART_TIMEOUT_S = 60.0
"""Longest pause in which not a byte of a part moves, and longest wait for the answer to it."""
IDLE_S_MAX = 20.0
"""A connection that was not used for so long is not used again: servers close those."""
CHUNK_BYTES = 1 << 18
SMALL_BYTES = 1 << 20
"""Parts up to this size are read whole and go out together with their headers."""
SLICE_BYTES = 1 << 22
"""Bytes that the kernel is given at once, and so between two words about progress."""
_REPLY_BYTES_MAX = 1 << 16
_SILENT = (408, 429)
"""Besides those from 500 on, statuses of a store that has no answer now."""
_END = b"\r\n\r\n"
_Kept = tuple[http.client.HTTPConnection, float]


@dataclasses.dataclass(frozen=True)
class _Reply:
    status: int
    etag: str
    content: bytes
    is_kept: bool
    """Whether the connection can be used again."""


class StoreCalls:
    """Sends parts; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[_Kept]] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._is_closed = False

    def put_part(self, url: str, part: FilePart) -> str:
        """Returns the ETag. Raises Unavailable, OSError if the file is gone or cannot be read."""
        parts = urlsplit(url)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open_regular(part.path))
            kept = self._take(parts)
            if kept is not None:
                try:
                    return self._exchange(kept, parts, file, part)
                except _StaleError:
                    pass  # the store had closed it meanwhile
            try:
                return self._exchange(_connect(parts), parts, file, part)
            except _StaleError as error:
                raise _unreachable(parts, error) from error

    def close(self) -> None:
        """Closes all connections; what is in flight ends with an error."""
        with self._lock:
            self._is_closed = True
            idle = [connection for kept in self._idle.values() for connection, _ in kept]
            self._idle.clear()
            busy = list(self._busy)
        for connection in idle:
            connection.close()
        for connection in busy:
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        parts: SplitResult,
        file: IO[bytes],
        part: FilePart,
    ) -> str:
        with self._lock:
            self._busy.add(connection)
        is_kept = False
        try:
            if part.size_bytes <= SMALL_BYTES:
                reply = _send_small(connection.sock, parts, file, part)
            else:
                reply = _read(_send(connection, parts, file, part))
            is_kept = reply.is_kept
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            raise _StaleError(str(error) or type(error).__name__) from error
        finally:
            self._give_back(parts, connection, is_kept=is_kept)
        if reply.status == 200:
            return reply.etag
        raise _refusal(parts, reply.status, reply.content.decode("utf-8", "replace"), part)

    def put_parts(
        self,
        jobs: Sequence[tuple[str, FilePart]],
        waiting: collections.deque[int],
        answers: list[str | Error | OSError | None],
    ) -> None:
        """Sends parts, one after another, until none waits any more; several threads may share `waiting` and `answers`.

        A store that does not answer is not asked again by any of them.
        """
        while True:
            try:
                index = waiting.popleft()
            except IndexError:
                return
            try:
                answers[index] = self.put_part(*jobs[index])
            except (Error, OSError) as error:
                answers[index] = error
                if isinstance(error, Error) and error.reason == STORE_UNREACHABLE:
                    waiting.clear()

    def _take(self, parts: SplitResult) -> http.client.HTTPConnection | None:
        now_s = time.monotonic()
        with self._lock:
            kept = self._idle.get((parts.scheme, parts.netloc), [])
            while kept:
                connection, since_s = kept.pop()
                if now_s - since_s < IDLE_S_MAX:
                    return connection
                connection.close()
        return None

    def _give_back(
        self, parts: SplitResult, connection: http.client.HTTPConnection, *, is_kept: bool
    ) -> None:
        with self._lock:
            self._busy.discard(connection)
            if is_kept and not self._is_closed:
                kept = self._idle.setdefault((parts.scheme, parts.netloc), [])
                kept.append((connection, time.monotonic()))
                return
        connection.close()


class _StaleError(Exception):
    """The connection broke before an answer came."""


def open_regular(path: str) -> IO[bytes]:
    """Opens a file for reading; raises OSError also for what is none: a pipe would be waited on, a device may never end."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    number = os.open(path, flags | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(f"{path} is no regular file (a pipe, socket, device or folder)")
        return open(number, "rb", buffering=0)
    except BaseException:
        os.close(number)
        raise


def _connect(parts: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT_S)
    try:
        connection.connect()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise _unreachable(parts, error) from error
    connection.sock.settimeout(PART_TIMEOUT_S)
    return connection


def _send(
    connection: http.client.HTTPConnection, parts: SplitResult, file: IO[bytes], part: FilePart
) -> http.client.HTTPResponse:
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection.putrequest("PUT", path, skip_accept_encoding=True)
    connection.putheader("Content-Length", str(part.size_bytes))
    if part.content_md5:
        connection.putheader("Content-MD5", part.content_md5)
    connection.endheaders()
    try:
        _send_range(connection.sock, file, part)
    except (BrokenPipeError, ConnectionResetError):
        # A store that refuses early closes without reading on; what it says is why.
        with contextlib.suppress(OSError, http.client.HTTPException):
            return connection.getresponse()
        raise
    return connection.getresponse()


def _read(response: http.client.HTTPResponse) -> _Reply:
    content = response.read(_REPLY_BYTES_MAX)
    is_kept = not response.will_close and response.isclosed()
    return _Reply(response.status, response.headers.get("ETag") or "", content, is_kept)


def _send_small(sock: Any, parts: SplitResult, file: IO[bytes], part: FilePart) -> _Reply:
    """Does what `_send` does at a third of the time: of small files there are many."""
    file.seek(part.offset)
    body = file.read(part.size_bytes)
    while len(body) < part.size_bytes:
        more = file.read(part.size_bytes - len(body))
        if not more:
            raise _changed(f"{part.path} became shorter while it was sent")
        body += more
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    md5 = f"Content-MD5: {part.content_md5}\r\n" if part.content_md5 else ""
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n{md5}\r\n"
    )
    try:
        sock.sendall(head.encode("ascii") + body)
    except (BrokenPipeError, ConnectionResetError):
        # As in `_send`: what it says is why.
        with contextlib.suppress(OSError, http.client.HTTPException):
            return _read_reply(sock)
        raise
    if part.told is not None and body:
        part.told(len(body))
    return _read_reply(sock)


def _read_reply(sock: Any) -> _Reply:
    """Reads the answer: that of a store that has taken the bytes by hand, any other by the library."""
    received = sock.recv(_REPLY_BYTES_MAX)
    while received and _END not in received and len(received) < _REPLY_BYTES_MAX:
        more = sock.recv(_REPLY_BYTES_MAX)
        if not more:
            break
        received += more
    head, end, rest = received.partition(_END)
    if end and not rest and head.startswith(b"HTTP/1.1 200 "):
        lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        headers = {name.lower(): value.strip() for name, _, value in lines}
        is_plain = headers.get(b"content-length") == b"0" and b"transfer-encoding" not in headers
        if is_plain and headers.get(b"connection", b"keep-alive").lower() == b"keep-alive":
            return _Reply(200, headers.get(b"etag", b"").decode("latin-1"), b"", is_kept=True)
    response = http.client.HTTPResponse(_Replay(received, sock), method="PUT")  # type: ignore[arg-type]  # of a socket it calls makefile only
    response.begin()
    return dataclasses.replace(_read(response), is_kept=False)


class _Replay(io.RawIOBase):
    """A socket from which some bytes were read already: gives those first."""

    def __init__(self, received: bytes, sock: Any) -> None:
        self._received = received
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        """Returns itself, buffered."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Returns that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads what there is."""
        if not self._received:
            return int(self._sock.recv_into(buffer))
        count = min(len(buffer), len(self._received))
        buffer[:count] = self._received[:count]
        self._received = self._received[count:]
        return count


def _send_range(sock: Any, file: IO[bytes], part: FilePart) -> None:
    told = part.told or (lambda sent_bytes: None)
    sent_bytes = 0
    if isinstance(sock, ssl.SSLSocket):
        file.seek(part.offset)
        buffer = memoryview(bytearray(min(CHUNK_BYTES, part.size_bytes)))
    while sent_bytes < part.size_bytes:
        left_bytes = part.size_bytes - sent_bytes
        if isinstance(sock, ssl.SSLSocket):
            count = file.readinto(buffer[: min(len(buffer), left_bytes)])  # type: ignore[attr-defined]  # a raw file has it
            sock.sendall(buffer[:count])
        else:
            # The kernel copies: no byte passes through Python.
            count = sock.sendfile(file, part.offset + sent_bytes, min(left_bytes, SLICE_BYTES))
        if not count:
            raise _changed(f"{part.path} became shorter while it was sent")
        sent_bytes += count
        told(sent_bytes)


def _refusal(parts: SplitResult, status: int, said: str, part: FilePart) -> Error:
    if status == 400 and ("BadDigest" in said or "InvalidDigest" in said):
        return _changed(f"{part.path} changed while it was sent")
    # Repeated with fresh addresses: an expired one answers 403, one of an upload that the store has dropped 404.
    return Unavailable(
        f"the object store at {parts.netloc} answered HTTP {status}: {said[:300]}",
        reason="STORE_UNAVAILABLE" if status >= 500 or status in _SILENT else STORE_REFUSED,
    )


def _changed(message: str) -> Error:
    return Unavailable(message, reason=FILE_CHANGED)


def _unreachable(parts: SplitResult, error: Exception) -> Error:
    return Unavailable(
        f"the object store at {parts.netloc} does not answer: {error}. It must be reachable from this machine, too",
        reason=STORE_UNREACHABLE,
    )
