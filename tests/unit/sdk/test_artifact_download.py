"""Bringing versions to this disk: checked, atomic, going on after a cut, from the cache, never outside of the root."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard.artifacts import object_reader
from runyard.errors import ContentMismatch, DataLoss, NotFound, Unavailable
from runyard_protos.files.v1 import artifacts_pb2
from tests.unit.sdk.answering import Yard

BIG = bytes(range(256)) * 12_000


class Store:
    """An object store that gives ranges, and fails as a test says."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.cut_after: list[int] = []
        """The next replies break off after so many bytes."""
        self.statuses: list[int] = []
        """The next requests are answered with these."""
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                wanted = self.headers.get("Range") or ""
                store.requests.append((self.path, wanted))
                content = store.objects.get(self.path)
                status = store.statuses.pop(0) if store.statuses else 200
                if content is None or status != 200:
                    self.send_error(status if status != 200 else 404)
                    return
                start = int(wanted[6:].rstrip("-")) if wanted else 0
                self.send_response(206 if wanted else 200)
                self.send_header("content-length", str(len(content) - start))
                self.end_headers()
                if store.cut_after:
                    self.wfile.write(content[start : start + store.cut_after.pop(0)])
                    self.close_connection = True
                else:
                    self.wfile.write(content[start:])

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    thread = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield store
    store.server.shutdown()
    thread.join()
    store.server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNYARD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(object_reader, "PAUSE_S", 0.01)
    return tmp_path


def serve(yard: Yard, store: Store, files: dict[str, bytes], *more: artifacts_pb2.Entry) -> None:
    """Has the yard know a version `e/p/data:v1` with these files."""
    entries = [
        artifacts_pb2.Entry(path=p, size_bytes=len(c), sha256=hashlib.sha256(c).digest())
        for p, c in sorted(files.items())
    ]
    entries += more
    store.objects = {f"/o/{hashlib.sha256(c).hexdigest()}": c for c in files.values()}
    version = artifacts_pb2.ArtifactVersion(
        project_path="e/p", name="data", type="dataset", version=1, aliases=["latest"],
        entry_count=len(entries), size_bytes=sum(map(len, files.values())), metadata_json="{}",
    )  # fmt: skip
    yard.reply("GetArtifact", artifacts_pb2.GetArtifactResponse(version=version))

    def list_entries(path: str, body: bytes) -> tuple[int, str, bytes]:
        request = artifacts_pb2.ListEntriesRequest.FromString(body)
        start = int(request.page_token or 0)
        found = [entry for entry in entries if entry.path.startswith(request.prefix)]
        page = found[start : start + min(request.page_size, 3)]
        reply = artifacts_pb2.ListEntriesResponse(entries=page, total_count=len(found))
        if start + len(page) < len(found):
            reply.next_page_token = str(start + len(page))
        if request.with_urls:
            reply.download_urls.extend(
                f"{store.url}/o/{one.sha256.hex()}" if one.sha256 else "" for one in page
            )
        return 200, "application/proto", reply.SerializeToString()

    yard.answers["ListEntries"] = list_entries


FILES = {"a.txt": b"one", "d/b.txt": b"two", "d/e/c.bin": BIG, "empty": b"", "same": b"one"}


def test_a_version_is_brought_whole(
    api: runyard.Api, yard: Yard, store: Store, folder: Path
) -> None:
    """All files, each content fetched once; a second time nothing is fetched; verify() agrees."""
    serve(yard, store, FILES)
    artifact = api.artifact("e/p/data")
    root = artifact.download()
    assert root == str(folder / "artifacts" / "data:v1")
    assert {p: Path(root, p).read_bytes() for p in FILES} == FILES
    assert not list(Path(root).rglob("*.part"))
    fetched = len(store.requests)
    assert fetched <= 5
    artifact.verify()
    assert artifact.download(root=folder / "second") == str(folder / "second")
    assert {p: (folder / "second" / p).read_bytes() for p in FILES} == FILES
    artifact.download()
    assert len(store.requests) == fetched
    assert artifact.download(root="third", path_prefix="d/") == str(folder / "third")
    assert sorted(p.name for p in (folder / "third").rglob("*") if p.is_file()) == ["b.txt", "c.bin"]  # fmt: skip
    with pytest.raises(NotFound, match="begins with 'q'"):
        artifact.download(path_prefix="q")


def test_verify_names_what_is_wrong(
    api: runyard.Api, yard: Yard, store: Store, folder: Path
) -> None:
    """Changed, missing and foreign files; download() mends the first two, checkout() all."""
    serve(yard, store, FILES)
    artifact = api.artifact("e/p/data")
    root = Path(artifact.download())
    (root / "a.txt").write_bytes(b"0ne")
    (root / "d/b.txt").unlink()
    (root / "d/foreign").write_text("x")
    with pytest.raises(ValueError, match=r"a\.txt has another content; d/b\.txt is missing; d/foreign is not of"):  # fmt: skip
        artifact.verify()
    artifact.download()
    with pytest.raises(ContentMismatch, match=r": d/foreign is not of the artifact$"):
        artifact.verify()
    artifact.checkout()
    artifact.verify()


def test_a_download_that_is_cut_goes_on(
    api: runyard.Api, yard: Yard, store: Store, folder: Path
) -> None:
    """By range, within a call, and in the next process behind what an earlier one left."""
    serve(yard, store, {"big": BIG})
    store.cut_after = [1_000_000, 500_000]
    root = Path(api.artifact("e/p/data").download())
    assert (root / "big").read_bytes() == BIG
    assert [wanted for _, wanted in store.requests] == ["", "bytes=1000000-", "bytes=1500000-"]
    (root / "big").unlink()
    sha256 = hashlib.sha256(BIG)
    next((folder / "cache" / "objects").rglob(sha256.hexdigest()[2:])).unlink()
    (folder / "cache" / "partial" / sha256.hexdigest()).write_bytes(BIG[:2_000_000])
    api.artifact("e/p/data").download()
    assert (root / "big").read_bytes() == BIG and store.requests[-1][1] == "bytes=2000000-"
    assert not list((folder / "cache" / "partial").iterdir())


def test_a_damaged_beginning_is_fetched_anew(
    api: runyard.Api, yard: Yard, store: Store, folder: Path
) -> None:
    """What an earlier process left may be wrong: the digest tells, and all is fetched once more."""
    serve(yard, store, {"big": BIG})
    folder.joinpath("cache", "partial").mkdir(parents=True)
    name = hashlib.sha256(BIG).hexdigest()
    (folder / "cache" / "partial" / name).write_bytes(b"?" * 1_000_000)
    root = Path(api.artifact("e/p/data").download())
    assert (root / "big").read_bytes() == BIG
    assert [wanted for _, wanted in store.requests] == ["bytes=1000000-", ""]


def test_a_damaged_cache_is_found_and_mended(
    api: runyard.Api, yard: Yard, store: Store, folder: Path
) -> None:
    """Of the same size and other bytes: not given out, but fetched again."""
    serve(yard, store, FILES)
    artifact = api.artifact("e/p/data")
    artifact.download()
    for content in (b"two", BIG):
        name = hashlib.sha256(content).hexdigest()
        path = folder / "cache" / "objects" / name[:2] / name[2:]
        path.chmod(0o644)
        path.write_bytes(b"\0" * len(content))
    count = len(store.requests)
    root = artifact.download(root=folder / "again")
    assert {p: Path(root, p).read_bytes() for p in FILES} == FILES
    assert len(store.requests) == count + 2


def test_wrong_bytes_from_the_store_are_refused(
    api: runyard.Api, yard: Yard, store: Store, folder: Path
) -> None:
    """Nothing of them is left under the root or in the cache."""
    serve(yard, store, {"a": b"right", "big": BIG})
    store.objects = {path: bytes(len(content)) for path, content in store.objects.items()}
    for name in ("a", "big"):
        with pytest.raises(ContentMismatch, match=f"'{name}' came with"):
            api.artifact("e/p/data").get_entry(name).download()
    assert not [p for p in (folder / "artifacts").rglob("*") if p.is_file()]
    assert not [p for p in (folder / "cache" / "objects").rglob("*") if p.is_file()]


def test_skip_cache_goes_past_it(api: runyard.Api, yard: Yard, store: Store, folder: Path) -> None:
    """Neither read nor written."""
    serve(yard, store, FILES)
    api.artifact("e/p/data").download(skip_cache=True)
    assert not (folder / "cache").exists()
    assert (folder / "artifacts" / "data:v1" / "d/e/c.bin").read_bytes() == BIG


@pytest.mark.parametrize("path", ["../x", "/tmp/x", "a/../../x", "a\x00", "..", "c:\\x"])
def test_nothing_escapes_the_root(
    api: runyard.Api, yard: Yard, store: Store, folder: Path, path: str
) -> None:
    """Whatever a server tells."""
    entry = artifacts_pb2.Entry(path=path, size_bytes=3, sha256=hashlib.sha256(b"one").digest())
    serve(yard, store, {"ok": b"one"}, entry)
    with pytest.raises(DataLoss, match="nothing was written there"):
        api.artifact("e/p/data").download(root=folder / "in" / "root")
    inside = {p.name for p in (folder / "in").rglob("*") if p.is_file()}
    assert inside <= {"ok"}


def test_the_store_is_asked_again(api: runyard.Api, yard: Yard, store: Store) -> None:
    """An expired address is replaced by a fresh one, a store that fails for a while is waited for, a lost content is told."""
    serve(yard, store, {"a": b"one"})
    store.statuses = [403, 500, 503]
    artifact = api.artifact("e/p/data")
    assert Path(artifact.file()).read_bytes() == b"one"
    store.objects.clear()
    with pytest.raises(NotFound, match="is not in the object store"):
        artifact.download(root="other", skip_cache=True)
    store.statuses = [500] * 100
    with pytest.raises(Unavailable, match=r"does not give 'a': .* HTTP 500"):
        artifact.download(root="other", skip_cache=True)


def test_references_are_followed(api: runyard.Api, yard: Yard, store: Store, folder: Path) -> None:
    """Files are checked by their digest, pages fetched; one that is gone is an error unless it may be missing."""
    (folder / "there").write_bytes(b"here")
    digest = f"sha256:{hashlib.sha256(b'here').hexdigest()}"
    uri = (folder / "there").as_uri()
    page = artifacts_pb2.Entry(path="page", reference=f"{store.url}/page", size_bytes=4, etag="e")
    serve(yard, store, {}, artifacts_pb2.Entry(path="f", reference=uri, size_bytes=4, etag=digest), page)  # fmt: skip
    store.objects["/page"] = b"html"
    artifact = api.artifact("e/p/data")
    root = Path(artifact.download())
    assert (root / "f").read_bytes() == b"here" and (root / "page").read_bytes() == b"html"
    artifact.verify()
    (folder / "there").write_bytes(b"else")
    with pytest.raises(ContentMismatch, match="has changed since"):
        artifact.download()
    (folder / "there").unlink()
    with pytest.raises(NotFound):
        artifact.download()
    artifact.download(allow_missing_references=True)


def test_a_disk_that_cannot_hold_a_path_is_told(
    api: runyard.Api, yard: Yard, store: Store, folder: Path
) -> None:
    """A file where a folder must be: the system's own words."""
    serve(yard, store, {"a/b": b"one"})
    (folder / "root").mkdir()
    (folder / "root" / "a").write_text("in the way")
    with pytest.raises(OSError, match="a"):
        api.artifact("e/p/data").download(root=folder / "root")
