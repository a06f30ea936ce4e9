"""The object store is away for longer than an agent waits for it: nothing counts as failed, and `runyard sync` or the next agent sends it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import runyard
from tests.contract.s3_server import start_weed
from tests.integration.readback import readback, wait_until
from tests.integration.yard import Yard
from tests.robustness.faults import Link, Proxy
from tests.robustness.traffic import kill_agent

DEADLINE_S = 150.0
SMALL_COUNT = 20
LARGE_BYTES = 9 << 20
"""More than one part: the server has to ask the store before the agent does."""
SAVE = """
import sys, runyard
run = runyard.init(entity="robust", project="away", id=sys.argv[1], settings={"store_wait_s": 2.0, "finish_timeout_s": 120.0})
run.log({"loss": 0.5})
run.save("many/*", policy="end")
run.save("large.bin", policy="now")
artifact = runyard.Artifact("data", "dataset")
artifact.add_dir("many")
run.log_artifact(artifact)
run.finish()
"""
OTHER = """
import sys, runyard
runyard.init(entity="robust", project="away", id=sys.argv[1]).finish()
"""


@dataclass(frozen=True)
class Site:
    """A yard that reaches its object store, as agents do, through a proxy."""

    yard: Yard
    proxy: Proxy

    def take_store_away(self) -> None:
        self.proxy.set(Link(is_refusing=True))
        self.proxy.cut()

    def run(self, script: str, run_id: str, folder: Path) -> str:
        """Runs a script to its end; returns what it printed."""
        return self._command([sys.executable, "-c", script, run_id], folder, code=0)

    def sync(self, folder: Path, *arguments: str, code: int) -> str:
        """Runs `runyard sync`; returns what it printed."""
        command = [sys.executable, "-m", "runyard", "sync", *arguments, str(folder / "runyard")]
        return self._command(command, folder, code=code)

    def _command(self, command: list[str], folder: Path, *, code: int) -> str:
        done = subprocess.run(
            command,
            cwd=folder,
            env=self.yard.environment(folder / "runyard"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def check(self, run_id: str, contents: dict[str, bytes], folder: Path) -> None:
        """Reads all files and the artifact back."""
        run = runyard.Api(self.yard.base_url).run(f"robust/away/{run_id}")
        back = folder / "back"
        files = {file.name: file.download(back).read_bytes() for file in run.files()}
        assert contents.items() <= files.items()
        artifact = runyard.Api(self.yard.base_url).artifact("robust/away/data:latest")
        root = Path(artifact.download(root=folder / "artifact"))
        many = {f"many/{path.name}": path.read_bytes() for path in root.iterdir()}
        assert many == {name: content for name, content in contents.items() if "/" in name}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_weed() as store, Proxy() as proxy:
        proxy.target = store.endpoint
        settings = (
            f"s3.endpoint={proxy.address}",
            f"s3.access_key={store.access_key}",
            f"s3.secret_key={store.secret_key}",
        )
        with Yard(tmp_path_factory.mktemp("yard"), settings=settings) as yard:
            yield Site(yard, proxy)


@pytest.fixture
def contents(site: Site, tmp_path: Path) -> Iterator[dict[str, bytes]]:
    draw = random.Random(str(tmp_path))
    contents = {f"many/f{number:02}": draw.randbytes(100) for number in range(SMALL_COUNT)}
    contents["large.bin"] = draw.randbytes(LARGE_BYTES)
    (tmp_path / "many").mkdir()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    yield contents
    site.proxy.set()
    kill_agent(tmp_path / "runyard")


def finish_without_store(site: Site, run_id: str, folder: Path) -> None:
    """Runs the script while the store is away; the run ends on the server all the same."""
    site.take_store_away()
    output = site.run(SAVE, run_id, folder)
    assert f"{SMALL_COUNT + 1} files and 1 artifact wait for the object store" in output
    assert "could not be uploaded" not in output
    with readback(site.yard.grpc) as reader:
        reader.wait_for_state(f"robust/away/{run_id}", "FINISHED", timeout_s=DEADLINE_S)


def test_sync_sends_what_waited(site: Site, contents: dict[str, bytes], tmp_path: Path) -> None:
    """finish() and `--status` tell what waits; a sync while the store is away says so; one when it is back sends all."""
    finish_without_store(site, "sync", tmp_path)
    kill_agent(tmp_path / "runyard")
    status = site.sync(tmp_path, "--status", code=0)
    assert f"{SMALL_COUNT + 1} files" in status and "1 artifact" in status
    away = site.sync(tmp_path, code=1)
    assert "the object store does not answer; nothing is lost, try again later" in away
    assert f"{SMALL_COUNT + 1} files waiting, 1 artifact waiting" in away
    site.proxy.set()
    synced = site.sync(tmp_path, code=0)
    assert "synced (" in synced and "waiting" not in synced and "failed" not in synced
    site.check("sync", contents, tmp_path)


def test_the_next_agent_sends_what_waited(
    site: Site, contents: dict[str, bytes], tmp_path: Path
) -> None:
    """An agent that was started for another run finds it, with no word from anybody."""
    finish_without_store(site, "agent", tmp_path)
    kill_agent(tmp_path / "runyard")
    site.proxy.set()
    site.run(OTHER, "other", tmp_path)
    run = runyard.Api(site.yard.base_url).run("robust/away/agent")
    wait_until(
        lambda: len(list(run.files())) >= len(contents), DEADLINE_S, "the next agent to send it"
    )
    wait_until(
        lambda: "1 artifact" not in site.sync(tmp_path, "--status", code=0),
        DEADLINE_S,
        "the artifact",
    )
    site.check("agent", contents, tmp_path)
