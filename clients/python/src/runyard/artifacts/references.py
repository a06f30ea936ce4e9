"""What is behind an address: files of this machine, pages, objects in S3 or Google's store; each as an entry that refers to it."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import os
import posixpath
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from runyard.artifacts.cache import file_sha256
from runyard.artifacts.entries import REFERENCE_BYTES_MAX, Entry, checked_path
from runyard.errors import InvalidArgument, NotFound, Unavailable, UsageError
from runyard.given import shown
from runyard.settings import s3_endpoint

OBJECT_COUNT_MAX = 1_000_000
TIMEOUT_S = 30.0
SCHEMES = ("file", "http", "https", "s3", "gs")
CHUNK_BYTES = 1 << 20


class Target(NamedTuple):
    """One thing that an address names."""

    path: str
    """Its path below the address; "" for the address itself."""
    uri: str
    size_bytes: int
    etag: str


def reference_entries(
    uri: str, name: str | None, *, is_checked: bool, count_max: int | None
) -> list[Entry]:
    """Returns an entry for the address, or one for each object beneath it.

    `is_checked`: size and ETag are asked for; else they stay unknown, and nothing is looked at.
    Raises NotFound, Unavailable, InvalidArgument, and UsageError where a package is missing.
    """
    parts = urllib.parse.urlsplit(str(uri))
    if parts.scheme not in SCHEMES:
        raise InvalidArgument(
            f"{str(uri)[:200]!r} is no address that can be referred to: it begins with {', '.join(f'{s}://' for s in SCHEMES)}. "
            f"add_file() takes files",
            reason="FIELD_INVALID",
        )
    if not is_checked:
        return [_entry(Target("", str(uri), 0, ""), name)]
    limit = OBJECT_COUNT_MAX if count_max is None else count_max
    entries: list[Entry] = []
    for target in _targets(str(uri), parts):
        if len(entries) >= limit:
            raise InvalidArgument(
                f"{uri} holds more than {limit:,} objects; add_reference(max_objects=…) allows more",
                reason="FIELD_TOO_LARGE",
            )
        entries.append(_entry(target, name))
    if not entries:
        raise NotFound(f"there is nothing at {uri}", reason="FILE_NOT_FOUND")
    return entries


def read_target(entry: Entry) -> Iterator[bytes]:
    """Yields the bytes that an entry refers to; raises NotFound, Unavailable, UsageError."""
    parts = urllib.parse.urlsplit(entry.ref)
    if parts.scheme == "file":
        path = _local_path(parts)
        try:
            with Path(path).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise NotFound(f"{entry.ref} cannot be read: {error.strerror}", reason="FILE_NOT_FOUND") from error  # fmt: skip
    elif parts.scheme in ("http", "https"):
        with _opened(entry.ref, "GET") as reply:
            while chunk := reply.read(CHUNK_BYTES):
                yield chunk
    else:
        yield from _read_object(parts)


def current_etag(entry: Entry) -> str:
    """Returns what now tells whether the target has changed; "" where nothing does."""
    parts = urllib.parse.urlsplit(entry.ref)
    if parts.scheme == "file" and Path(_local_path(parts)).is_dir():
        return ""
    found = list(_targets(entry.ref, parts))
    return found[0].etag if found else ""


def _entry(target: Target, name: str | None) -> Entry:
    if len(target.uri.encode()) > REFERENCE_BYTES_MAX:
        raise InvalidArgument(
            f"the address {target.uri[:80]!r}… has more than {REFERENCE_BYTES_MAX:,} bytes",
            reason="FIELD_TOO_LARGE",
        )
    parts = urllib.parse.urlsplit(target.uri)
    if target.path:
        path = posixpath.join(name, target.path) if name else target.path
    else:
        last = posixpath.basename(urllib.parse.unquote(parts.path).rstrip("/"))
        path = name or last or parts.netloc
    return Entry(checked_path(path), target.size_bytes, ref=target.uri, etag=target.etag)


def _targets(uri: str, parts: urllib.parse.SplitResult) -> Iterator[Target]:
    if parts.scheme == "file":
        return _files(uri, parts)
    if parts.scheme in ("http", "https"):
        return iter([_page(uri)])
    return _objects(parts)


def _files(uri: str, parts: urllib.parse.SplitResult) -> Iterator[Target]:
    root = _local_path(parts)
    path = Path(root)
    if path.is_dir():
        for parent, folders, names in os.walk(path):
            folders.sort()
            for file_name in sorted(names):
                file = Path(parent, file_name)
                relative = file.relative_to(path).as_posix()
                quoted = f"{uri.rstrip('/')}/{urllib.parse.quote(relative)}"
                yield Target(relative, quoted, *_file_facts(file))
    elif path.exists():
        yield Target("", uri, *_file_facts(path))


def _file_facts(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_size, f"sha256:{file_sha256(str(path)).hex()}"
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}", reason="FILE_NOT_FOUND") from error  # fmt: skip


def _local_path(parts: urllib.parse.SplitResult) -> str:
    if parts.netloc not in ("", "localhost"):
        raise InvalidArgument(
            f"{parts.geturl()!r} names the host {parts.netloc!r}: a path of this machine is file:///…",
            reason="FIELD_INVALID",
        )
    return urllib.request.url2pathname(parts.path)


def _page(uri: str) -> Target:
    try:
        with _opened(uri, "HEAD") as reply:
            headers = reply.headers
    except _NotAllowedError:  # some servers answer GET only
        with _opened(uri, "GET") as reply:
            headers = reply.headers
    size = headers.get("Content-Length") or "0"
    etag = headers.get("ETag") or headers.get("Last-Modified") or ""
    return Target("", uri, int(size) if size.isdecimal() else 0, etag.strip('"'))


class _NotAllowedError(Exception):
    """The server takes no HEAD."""


@contextlib.contextmanager
def _opened(uri: str, verb: str) -> Iterator[Any]:
    request = urllib.request.Request(uri, method=verb, headers={"Accept-Encoding": "identity"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            yield reply
    except urllib.error.HTTPError as error:
        error.close()
        if verb == "HEAD" and error.code in (403, 405, 501):
            raise _NotAllowedError from None
        kind = NotFound if error.code in (404, 410) else Unavailable
        raise kind(f"{uri} answered HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(f"{uri} cannot be reached: {reason}") from error


def _objects(parts: urllib.parse.SplitResult) -> Iterator[Target]:
    """Yields the object of that key, or those beneath it."""
    bucket, key = parts.netloc, urllib.parse.unquote(parts.path.lstrip("/"))
    store = _gs_store() if parts.scheme == "gs" else _s3_store()
    for found, size_bytes, etag in store.list(bucket, key):
        if found == key and not key.endswith("/"):
            yield Target("", parts.geturl(), size_bytes, etag)
            return
        folder = key if not key or key.endswith("/") else f"{key}/"
        if found.startswith(folder) and not found.endswith("/"):
            uri = f"{parts.scheme}://{bucket}/{urllib.parse.quote(found)}"
            yield Target(found[len(folder) :], uri, size_bytes, etag)


def _read_object(parts: urllib.parse.SplitResult) -> Iterator[bytes]:
    store = _gs_store() if parts.scheme == "gs" else _s3_store()
    yield from store.read(parts.netloc, urllib.parse.unquote(parts.path.lstrip("/")))


class _BotoStore:
    """S3 through boto3, with its ways of finding credentials."""

    def __init__(self, library: Any) -> None:
        # A session of its own: the common one keeps the credentials that it found first.
        self._client = library.Session().client("s3", endpoint_url=s3_endpoint() or None)

    def list(self, bucket: str, prefix: str) -> Iterator[tuple[str, int, str]]:
        """Yields (key, size, ETag)."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in _answered(pages):
            for one in page.get("Contents") or ():
                yield one["Key"], int(one["Size"]), str(one["ETag"]).strip('"')

    def read(self, bucket: str, key: str) -> Iterator[bytes]:
        """Yields the bytes of an object."""
        for reply in _answered(self._client.get_object(Bucket=bucket, Key=key) for _ in range(1)):
            yield from reply["Body"].iter_chunks(CHUNK_BYTES)


class _MinioStore:
    """S3 through minio; credentials from the environment, ~/.aws or the machine's role."""

    def __init__(self, library: Any) -> None:
        credentials = importlib.import_module("minio.credentials")
        endpoint = urllib.parse.urlsplit(s3_endpoint() or "https://s3.amazonaws.com")
        providers = [credentials.EnvAWSProvider(), credentials.AWSConfigProvider()]
        self._client = library.Minio(
            endpoint.netloc,
            secure=endpoint.scheme == "https",
            credentials=credentials.ChainedProvider([*providers, credentials.IamAwsProvider()]),
        )

    def list(self, bucket: str, prefix: str) -> Iterator[tuple[str, int, str]]:
        """Yields (key, size, ETag)."""
        found = self._client.list_objects(bucket, prefix=prefix, recursive=True)
        for one in _answered(found):
            yield str(one.object_name), int(one.size or 0), str(one.etag or "").strip('"')

    def read(self, bucket: str, key: str) -> Iterator[bytes]:
        """Yields the bytes of an object."""
        for reply in _answered(self._client.get_object(bucket, key) for _ in range(1)):
            try:
                yield from reply.stream(CHUNK_BYTES)
            finally:
                reply.close()
                reply.release_conn()


class _GoogleStore:
    """Google's object store."""

    def __init__(self, library: Any) -> None:
        self._client = library.Client()

    def list(self, bucket: str, prefix: str) -> Iterator[tuple[str, int, str]]:
        """Yields (key, size, ETag)."""
        for one in _answered(self._client.list_blobs(bucket, prefix=prefix)):
            yield one.name, int(one.size or 0), str(one.etag or one.md5_hash or "")

    def read(self, bucket: str, key: str) -> Iterator[bytes]:
        """Yields the bytes of an object."""
        blob = self._client.bucket(bucket).blob(key)
        for file in _answered(blob.open("rb") for _ in range(1)):
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def _answered(calls: Any) -> Iterator[Any]:
    """Yields what a store's library does; its failures, of whatever class, become Unavailable."""
    found = iter(calls)
    while True:
        try:
            one = next(found)
        except StopIteration:
            return
        except (
            Exception
        ) as error:  # a library's own classes, which cannot be imported where it is absent
            raise Unavailable(f"the object store answered: {error}") from error
        yield one


def _s3_store() -> Any:
    endpoint = s3_endpoint()
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise UsageError(
            f"AWS_ENDPOINT_URL {shown(endpoint)} is no address of an object store: one begins with http:// or https://"
        )
    for name, kind in (("boto3", _BotoStore), ("minio", _MinioStore)):
        with contextlib.suppress(ImportError):
            return kind(importlib.import_module(name))
    raise _missing("s3://", "boto3 (or minio)", "boto3")


def _gs_store() -> Any:
    try:
        return _GoogleStore(importlib.import_module("google.cloud.storage"))
    except ImportError:
        raise _missing("gs://", "google-cloud-storage", "google-cloud-storage") from None


def _missing(scheme: str, packages: str, distribution: str) -> UsageError:
    return UsageError(
        f"references to {scheme} need the package {packages}: pip install {distribution}. Without it, "
        f"add_reference(…, checksum=False) refers to it without looking"
    )


def is_target(entry: Entry, sha256_hex: str) -> bool:
    """Returns whether bytes that were read are those that were referred to, as far as the entry tells."""
    kind, _, told = entry.etag.partition(":")
    return kind != "sha256" or told == sha256_hex
