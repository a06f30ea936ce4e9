"""Gets bytes from a presigned URL into a file: goes on after a break, checks SHA-256, and leaves nothing half behind."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Callable

from runyard.errors import DataLoss, Error, NotFound, Unavailable

TIMEOUT_S = 60.0
"""Longest pause in which not a byte comes."""
CHUNK_BYTES = 1 << 20
TRY_COUNT_MAX = 5
"""Tries in a row that bring not a byte."""
PAUSE_S = 0.5


def download(
    url_of: Callable[[], str],
    target: Path,
    *,
    name: str,
    size_bytes: int,
    sha256: str,
    told: Callable[[int], None] = lambda done_bytes: None,
) -> None:
    """Puts the content in place of `target`, whole and checked, or leaves what was there.

    `url_of` gives an address that is good for a while; it is asked again after a break. Raises DataLoss if the content is
    not that of `sha256`, NotFound, Unavailable, OSError if it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    number, partial = tempfile.mkstemp(dir=target.parent, prefix=".runyard-", suffix=".part")
    try:
        with os.fdopen(number, "wb") as file:
            found = _fill(file, url_of, name, size_bytes, told)
        if found != sha256:
            raise DataLoss(
                f"{name!r} came with SHA-256 {found}, {sha256} was stored; nothing was written"
            )
        os.chmod(partial, 0o666 & ~_umask())  # noqa: PTH101 (mkstemp gives it to its owner alone)
        os.replace(partial, target)  # noqa: PTH105 (both are beside each other)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)  # noqa: PTH108
        raise


def read(url_of: Callable[[], str], *, name: str, size_bytes: int, sha256: str) -> bytes:
    """Returns the content, checked; see download."""
    import io

    buffer = io.BytesIO()
    found = _fill(buffer, url_of, name, size_bytes, lambda done_bytes: None)
    if found != sha256:
        raise DataLoss(f"{name!r} came with SHA-256 {found}, {sha256} was stored")
    return buffer.getvalue()


def _fill(
    file: IO[bytes],
    url_of: Callable[[], str],
    name: str,
    size_bytes: int,
    told: Callable[[int], None],
) -> str:
    """Writes the content, with as many requests as it takes; returns its SHA-256."""
    digest = hashlib.sha256()
    done_bytes = tries = 0
    while True:
        before_bytes = done_bytes
        failure: Error | None = None
        try:
            for chunk in _chunks(url_of(), done_bytes, name):
                file.write(chunk)
                digest.update(chunk)
                done_bytes += len(chunk)
                told(done_bytes)
        except Unavailable as error:
            failure = error
        if failure is None and done_bytes >= size_bytes:
            return digest.hexdigest()
        tries = 0 if done_bytes > before_bytes else tries + 1
        if tries >= TRY_COUNT_MAX:
            raise failure or Unavailable(
                f"the store ended {name!r} after {done_bytes} of {size_bytes} bytes"
            )
        time.sleep(PAUSE_S * tries)


def _chunks(url: str, offset: int, name: str) -> Iterator[bytes]:
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            if offset and reply.status != 206:
                raise Unavailable(f"the store does not go on within {name!r} (HTTP {reply.status})")
            while chunk := reply.read(CHUNK_BYTES):
                yield chunk
    except urllib.error.HTTPError as error:
        kind = NotFound if error.code == 404 else Unavailable
        raise kind(f"the store answered {error.code} for {name!r}") from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    ) as error:
        reason = getattr(error, "reason", None) or error
        raise Unavailable(f"the store does not answer: {reason}") from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
