"""Downloads: whole and checked or not at all; a break is gone on from; a name never leads elsewhere."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard import downloads
from runyard.errors import DataLoss, NotFound, Unavailable

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Store:
    """Serves CONTENT with ranges, and breaks off after so many bytes of each answer."""

    def __init__(self) -> None:
        self.break_after = len(CONTENT)
        self.ranges: list[str] = []
        self.status = 0
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("range") or ""
                store.ranges.append(asked)
                if store.status:
                    self.send_error(store.status)
                    return
                first = int(asked[len("bytes=") : -1]) if asked else 0
                rest = CONTENT[first:]
                self.send_response(206 if asked else 200)
                self.send_header("content-length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest[: store.break_after])

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(downloads, "PAUSE_S", 0.001)
    store = Store()
    threading.Thread(target=store.server.serve_forever, daemon=True).start()
    yield store
    store.server.shutdown()
    store.server.server_close()


def get(store: Store, target: Path, **changes: Any) -> None:
    known = {"name": "f", "size_bytes": len(CONTENT), "sha256": SHA256, **changes}
    downloads.download(lambda: store.url, target, **known)


def test_a_file_comes_whole(store: Store, tmp_path: Path) -> None:
    """Into folders that are made, with the modes of an ordinary file, in place of what was there."""
    target = tmp_path / "a" / "b"
    target.parent.mkdir()
    target.write_text("before")
    told: list[int] = []
    get(store, target, told=told.append)
    assert target.read_bytes() == CONTENT
    assert told[-1] == len(CONTENT)
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask
    assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_a_break_is_gone_on_from(store: Store, tmp_path: Path) -> None:
    """What has come is not asked for again."""
    store.break_after = 500_000
    get(store, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert store.ranges == ["", "bytes=500000-", "bytes=1000000-"]
    assert (
        downloads.read(lambda: store.url, name="f", size_bytes=len(CONTENT), sha256=SHA256)
        == CONTENT
    )


def test_a_store_that_brings_nothing_is_given_up(store: Store, tmp_path: Path) -> None:
    """After some tries; what was there stays, and nothing half is left."""
    store.break_after = 0
    (tmp_path / "f").write_text("before")
    with pytest.raises(Unavailable):
        get(store, tmp_path / "f")
    assert (tmp_path / "f").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_another_content_is_refused(store: Store, tmp_path: Path) -> None:
    """DataLoss, and nothing is written."""
    with pytest.raises(DataLoss):
        get(store, tmp_path / "f", sha256="0" * 64)
    store.status = 404
    with pytest.raises(NotFound):
        get(store, tmp_path / "f")
    assert not list(tmp_path.iterdir())


def test_a_link_is_replaced_not_followed(store: Store, tmp_path: Path) -> None:
    """What a link in the folder names outside of it stays as it is."""
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "f").symlink_to(tmp_path / "outside")
    get(store, tmp_path / "root" / "f")
    assert (tmp_path / "outside").read_text() == "mine"
    assert (tmp_path / "root" / "f").read_bytes() == CONTENT
