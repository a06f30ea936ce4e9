"""References of artifacts: files and folders of this machine, pages, and objects where no library is installed."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard.artifacts import references
from runyard.errors import InvalidArgument, NotFound, Unavailable, UsageError


@pytest.fixture
def site() -> Iterator[str]:
    """A site with a page that has an ETag, one that takes GET only, and nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(is_with_body=False)

        def do_GET(self) -> None:
            self._answer(is_with_body=True)

        def _answer(self, *, is_with_body: bool) -> None:
            if self.path == "/get-only" and not is_with_body:
                self.send_error(405)
            elif self.path in ("/a%20page", "/get-only"):
                self.send_response(200)
                self.send_header("ETag", '"tag-1"')
                self.send_header("Content-Length", "5")
                self.end_headers()
                if is_with_body:
                    self.wfile.write(b"hello")
            else:
                self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_told_by_its_content(tmp_path: Path) -> None:
    """Size and SHA-256; the name is that of the file unless one is given."""
    (tmp_path / "a b.csv").write_bytes(b"1,2")
    artifact = runyard.Artifact("data", "dataset")
    (entry,) = artifact.add_reference((tmp_path / "a b.csv").as_uri())
    etag = f"sha256:{hashlib.sha256(b'1,2').hexdigest()}"
    assert (entry.path, entry.size, entry.etag, entry.sha256) == ("a b.csv", 3, etag, b"")
    assert artifact.add_reference((tmp_path / "a b.csv").as_uri(), "x/y")[0].path == "x/y"
    assert b"".join(references.read_target(entry)) == b"1,2"
    assert entry.ref_target().startswith("file://") and artifact.size == 6


def test_a_folder_gives_its_files(tmp_path: Path) -> None:
    """Under the name, up to a limit; nothing is an error."""
    for name in ("b/c", "a"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(name)
    (tmp_path / "empty").mkdir()
    artifact = runyard.Artifact("data", "dataset")
    uri = (tmp_path / "root").as_uri()
    assert [entry.path for entry in artifact.add_reference(uri)] == ["a", "b/c"]
    assert [entry.path for entry in artifact.add_reference(uri, "in")] == ["in/a", "in/b/c"]
    assert b"".join(references.read_target(artifact["in/b/c"])) == b"b/c"
    with pytest.raises(InvalidArgument, match="more than 1 objects"):
        artifact.add_reference(uri, "more", max_objects=1)
    for wrong in ("empty", "nothing"):
        with pytest.raises(NotFound, match="there is nothing at"):
            artifact.add_reference((tmp_path / wrong).as_uri())


def test_a_page_is_told_by_its_etag(site: str) -> None:
    """With HEAD, or GET where that is refused; without a look where checksum=False."""
    artifact = runyard.Artifact("data", "dataset")
    (entry,) = artifact.add_reference(f"{site}/a%20page")
    assert (entry.path, entry.size, entry.etag) == ("a page", 5, "tag-1")
    assert artifact.add_reference(f"{site}/get-only")[0].etag == "tag-1"
    assert b"".join(references.read_target(entry)) == b"hello"
    with pytest.raises(NotFound, match="HTTP 404"):
        artifact.add_reference(f"{site}/nothing")
    (unseen,) = artifact.add_reference(f"{site}/nothing", checksum=False)
    assert (unseen.size, unseen.etag) == (0, "")


def test_addresses_that_cannot_be_are_refused() -> None:
    """No scheme, another one, another host, too long, nobody there."""
    artifact = runyard.Artifact("data", "dataset")
    for uri in ("/a/path", "ftp://host/x", "file://host/x"):
        with pytest.raises(InvalidArgument):
            artifact.add_reference(uri)
    with pytest.raises(InvalidArgument, match="more than 4,096 bytes"):
        artifact.add_reference("http://x/" + "a" * 5000, "name", checksum=False)
    with pytest.raises(Unavailable, match="cannot be reached"):
        artifact.add_reference("http://127.0.0.1:1/x")
    assert artifact.file_count == 0


def test_a_missing_library_is_named() -> None:
    """With the way that needs none."""
    artifact = runyard.Artifact("data", "dataset")
    with pytest.raises(UsageError, match=r"google-cloud-storage.*checksum=False"):
        artifact.add_reference("gs://bucket/key")
    artifact.add_reference("gs://bucket/key", checksum=False)
    assert artifact["key"].ref == "gs://bucket/key"
