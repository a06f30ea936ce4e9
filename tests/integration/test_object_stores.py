"""Artifacts, archives of logs, media and tables over each S3 server: logged by scripts, read back whole, and gone when deleted."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import minio
import numpy as np
import pytest
from PIL import Image as Pil

import runyard
from runyard.errors import NotFound
from tests.contract.s3_server import S3Server, start_juicefs, start_weed
from tests.integration.readback import wait_until
from tests.integration.test_console_archives import SETTINGS, await_drop, logs_state
from tests.integration.yard import Yard

MIB = 1 << 20
PURGE_TIMEOUT_S = 120
TIMEOUT_S = 120
SERVERS = {"weed": start_weed, "juicefs": start_juicefs}
ARTIFACTS = """
import hashlib, sys
import runyard
with runyard.init(project="stores", id=sys.argv[1]) as run:
    for version in (b"one", b"two"):
        artifact = runyard.Artifact("data", "dataset")
        for name, content in (
            ("big.bin", hashlib.shake_256(b"big").digest(11 << 20)), ("a/small", version), ("empty", b""), ("same", version),
        ):
            with artifact.new_file(name, "wb") as file:
                file.write(content)
        run.log_artifact(artifact, aliases=["first"] if version == b"one" else []).wait()
"""
LINES = """
import sys
import runyard
with runyard.init(project="stores", id=sys.argv[1]):
    for number in range(20_000):
        print(f"step {number} loss {number * 7919 % 1000}")
"""
MEDIA = """
import sys
import numpy as np
import runyard
with runyard.init(project="stores", id=sys.argv[1]) as run:
    image = runyard.Image(np.arange(12, dtype=np.uint8).reshape(3, 4), caption="c")
    rows = [[number, f"row {number}", number % 7 / 7] for number in range(20_000)]
    table = runyard.Table(columns=["id", "text", "score"], data=rows)
    run.log({"image": image, "table": table, "loss": 0.5})
"""


@dataclass(frozen=True)
class Site:
    """A yard whose objects lie on an S3 server of its own."""

    yard: Yard
    client: minio.Minio

    def run(self, script: str, run_id: str, folder: Path) -> str:
        """Runs a script to its end; returns the path of its run."""
        done = subprocess.run(
            [sys.executable, "-c", script, run_id],
            cwd=folder,
            env=self.yard.environment(folder / "runs", RUNYARD_CACHE_DIR=str(folder / "cache")),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        return f"local/stores/{run_id}"

    def objects(self) -> dict[str, int]:
        """Returns the size of each object, by its key; a gateway over a file system lists folders that are left, too."""
        found = self.client.list_objects("runyard", recursive=True)
        return {str(one.object_name): one.size or 0 for one in found if not one.is_dir}

    def delete(self, path: str) -> None:
        """Has a run purged now."""
        ask = {"runPaths": [path], "isNow": True}
        self.yard.call("metadata.v1.MetadataService/DeleteRuns", ask)


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with SERVERS[request.param]() as server:
        settings = (*SETTINGS, *_settings(server))
        folder = tmp_path_factory.mktemp(f"yard-{request.param}")
        client = minio.Minio(
            server.endpoint, server.access_key, server.secret_key, secure=False, region="us-east-1"
        )
        with Yard(folder, settings=settings) as yard:
            yield Site(yard, client)


def _settings(server: S3Server) -> tuple[str, ...]:
    return (
        f"s3.endpoint={server.endpoint}",
        f"s3.access_key={server.access_key}",
        f"s3.secret_key={server.secret_key}",
    )


def test_artifacts(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions share their large file; each is downloaded and verified; a deleted one frees what it had alone."""
    monkeypatch.setenv("RUNYARD_CACHE_DIR", str(tmp_path / "other-cache"))
    before = site.objects()
    site.run(ARTIFACTS, "artifacts", tmp_path)
    with_both = site.objects()
    big = hashlib.shake_256(b"big").digest(11 * MIB)
    sizes = sorted(size for key, size in with_both.items() if key not in before)
    assert sizes == [0, 3, 3, len(big)]
    api = runyard.Api(site.yard.base_url)
    for alias, content in (("first", b"one"), ("latest", b"two")):
        artifact = api.artifact(f"local/stores/data:{alias}")
        folder = Path(artifact.download(tmp_path / alias, skip_cache=True))
        artifact.verify(folder)
        files = {"big.bin": big, "a/small": content, "empty": b"", "same": content}
        assert {name: (folder / name).read_bytes() for name in files} == files
    receipt = api.artifact("local/stores/data:v0").delete(delete_aliases=True)
    assert (receipt.freed_objects, receipt.freed_bytes) == (1, 3)
    wait_until(
        lambda: sum(key not in before for key in site.objects()) == 3, PURGE_TIMEOUT_S, "3 objects"
    )
    latest = api.artifact("local/stores/data:latest")
    latest.download(tmp_path / "again", skip_cache=True)
    latest.verify(tmp_path / "again")
    latest.delete(delete_aliases=True)
    wait_until(lambda: set(site.objects()) <= set(before), PURGE_TIMEOUT_S, "no object to be left")
    with pytest.raises(NotFound):
        api.artifact("local/stores/data:v1")


def test_archives_of_logs(site: Site, tmp_path: Path) -> None:
    """A log is archived, leaves ClickHouse, is read and searched all the same, and its object goes with its run."""
    before, seen = site.objects(), logs_state(site.yard)
    path = site.run(LINES, "lines", tmp_path)
    await_drop(site.yard, seen)
    made = {key: size for key, size in site.objects().items() if key not in before}
    assert len(made) == 1 and min(made.values()) > 1000
    with runyard.Api(site.yard.base_url) as api:
        run = api.run(path)
        texts = [f"step {number} loss {number * 7919 % 1000}" for number in range(20_000)]
        assert [line.text for line in run.logs()] == texts
        assert [line.text for line in run.logs("loss 999")] == [
            text for text in texts if text.endswith("loss 999")
        ]
        (last,) = run.logs(tail=1)
        assert last.text == texts[-1]
        whole = run.download_logs(tmp_path / "whole.log")
        assert whole.read_text().splitlines() == texts
    site.delete(path)
    wait_until(lambda: set(site.objects()) <= set(before), PURGE_TIMEOUT_S, "no object to be left")


def test_media_and_tables(site: Site, tmp_path: Path) -> None:
    """An image comes back as it was, rows of a table are read at the server, and their objects go with their run."""
    before = site.objects()
    path = site.run(MEDIA, "media", tmp_path)
    with runyard.Api(site.yard.base_url) as api:
        run = api.run(path)
        (image,) = run.media("image")
        with Pil.open(io.BytesIO(image.file().read())) as picture:
            assert np.asarray(picture).tolist() == np.arange(12).reshape(3, 4).tolist()
        table = run.table("table")
        rows = table.rows(100, 3, sort="id", descending=True, where=[("score", "<", 0.1)])
        wanted = [number for number in reversed(range(20_000)) if number % 7 == 0][100:103]
        assert [(row["id"], row["text"]) for row in rows] == [(n, f"row {n}") for n in wanted]
    site.delete(path)
    wait_until(lambda: set(site.objects()) <= set(before), PURGE_TIMEOUT_S, "no object to be left")
