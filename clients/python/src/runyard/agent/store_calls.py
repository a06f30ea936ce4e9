"""Sends parts of files to object stores by presigned URL, over connections that are kept."""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH123

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import stat
import threading
import time
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

from runyard.agent.content_upload import FILE_CHANGED, STORE_UNREACHABLE
from runyard.agent.ports import FilePart
from runyard.errors import Error, Unavailable

CONNECT_TIMEOUT_S = 5.0
PART_TIMEOUT_S = 60.0
"""Longest pause in which not a byte of a part moves, and longest wait for the answer to it."""
IDLE_S_MAX = 20.0
"""A connection that was not used for so long is not used again: servers close those."""
CHUNK_BYTES = 1 << 18
SLICE_BYTES = 1 << 22
"""Bytes that the kernel is given at once, and so between two words about progress."""
_REPLY_BYTES_MAX = 1 << 16
_Kept = tuple[http.client.HTTPConnection, float]


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
            reply = _send(connection, parts, file, part)
            content = reply.read(_REPLY_BYTES_MAX)
            is_kept = not reply.will_close and reply.isclosed()
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            raise _StaleError(str(error) or type(error).__name__) from error
        finally:
            self._give_back(parts, connection, is_kept=is_kept)
        if reply.status == 200:
            return reply.headers.get("ETag") or ""
        raise _refusal(parts, reply.status, content.decode("utf-8", "replace"), part)

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
        reason="STORE_UNAVAILABLE",
    )


def _changed(message: str) -> Error:
    return Unavailable(message, reason=FILE_CHANGED)


def _unreachable(parts: SplitResult, error: Exception) -> Error:
    return Unavailable(
        f"the object store at {parts.netloc} does not answer: {error}. It must be reachable from this machine, too",
        reason=STORE_UNREACHABLE,
    )
