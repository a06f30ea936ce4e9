"""Artifacts under kill -9, an absent server and a full disk: what was logged becomes a version, once, or it is told."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runyard
from runyard.errors import NotFound
from tests.integration import scripts
from tests.integration.yard import Yard
from tests.robustness.small_disks import fill, small_disk
from tests.robustness.traffic import kill_agent

MIB = 1 << 20
KILLS = int(os.environ.get("RUNYARD_TEST_KILLS") or 12) // 2

LOG = """
import runyard
with runyard.init(entity="nico", project="kills", id="RUN") as run:
    artifact = runyard.Artifact("data", "dataset")
    artifact.add_dir("files")
    artifact.add_file("big.bin", policy="immutable")
    run.log_artifact(artifact)
    print("LOGGED", flush=True)
    artifact.wait(150)
    print("VERSION", artifact.version)
"""


def environment(yard: Yard, folder: Path) -> dict[str, str]:
    return yard.environment(
        folder / "runyard",
        RUNYARD_CACHE_DIR=str(folder / "cache"),
        RUNYARD_CONSOLE="off",
        RUNYARD_SYSTEM_INTERVAL_S="0",
    )


def make_files(folder: Path, chance: random.Random) -> dict[str, bytes]:
    (folder / "files").mkdir(parents=True)
    made = {"big.bin": chance.randbytes(40 * MIB + 3)}
    (folder / "big.bin").write_bytes(made["big.bin"])
    for number in range(250):
        made[f"{number:04d}"] = chance.randbytes(200)
        (folder / "files" / f"{number:04d}").write_bytes(made[f"{number:04d}"])
    return made


def check(yard: Yard, folder: Path, made: dict[str, bytes], *, versions: int = 1) -> None:
    """The one version has just these contents, fetched from the store."""
    os.environ["RUNYARD_CACHE_DIR"] = str(folder / "second-cache")
    try:
        api = runyard.Api(base_url=yard.base_url)
        found = api.artifact_versions("nico/kills/data")
        assert len(found) == versions
        root = Path(found[0].download(root=folder / "back"))
        found[0].verify(root)
    finally:
        del os.environ["RUNYARD_CACHE_DIR"]
    for name, content in made.items():
        there = hashlib.sha256((root / name).read_bytes()).digest()
        assert there == hashlib.sha256(content).digest(), name


def test_kills_of_the_agent_make_one_whole_version(tmp_path: Path) -> None:
    """Its agent killed again and again while it sends: the script's wait() returns, and nothing is doubled or lost."""
    chance = random.Random(random.SystemRandom().getrandbits(32))
    made = make_files(tmp_path, chance)
    with Yard(tmp_path / "yard") as yard:
        script = tmp_path / "train.py"
        script.write_text(LOG.replace("RUN", "agents"))
        process = scripts.start(script, environment(yard, tmp_path))
        assert process.stdout is not None
        while "LOGGED" not in process.stdout.readline():
            assert process.poll() is None
        killed = 0
        deadline = time.monotonic() + 60
        while killed < KILLS and process.poll() is None and time.monotonic() < deadline:
            time.sleep(chance.uniform(0.1, 1.5))
            killed += kill_agent(tmp_path / "runyard")
        output, _ = process.communicate(timeout=200)
        assert killed and process.returncode == 0, (killed, output)
        check(yard, tmp_path, made)
    print(f"{killed} kills")


def test_kills_of_the_server_and_the_script_lose_nothing(tmp_path: Path) -> None:
    """The script killed after log_artifact() returned, the server killed while it takes: the agent carries it through."""
    chance = random.Random(random.SystemRandom().getrandbits(32))
    made = make_files(tmp_path, chance)
    with Yard(tmp_path / "yard") as yard:
        script = tmp_path / "train.py"
        script.write_text(LOG.replace("RUN", "servers"))
        process = scripts.start(script, environment(yard, tmp_path))
        assert process.stdout is not None
        while "LOGGED" not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
        process.communicate(timeout=10)
        for _ in range(2):
            time.sleep(chance.uniform(0.2, 1.5))
            yard.kill()
            time.sleep(chance.uniform(0.0, 1.0))
            yard.start()
        api = runyard.Api(base_url=yard.base_url)
        deadline = time.monotonic() + 120
        while True:
            try:
                if api.artifact("nico/kills/data").version == "v0":
                    break
            except NotFound:
                pass
            assert time.monotonic() < deadline, (tmp_path / "runyard" / "agent.log").read_text()
            time.sleep(0.2)
        check(yard, tmp_path, made)


def test_an_absent_server_delays_and_loses_nothing(tmp_path: Path) -> None:
    """finish() says what is missing and where it is safe; once the server is there, sync sends it."""
    (tmp_path / "files").mkdir(parents=True)
    (tmp_path / "files" / "a").write_bytes(b"a")
    (tmp_path / "big.bin").write_bytes(b"big")
    yard = Yard(tmp_path / "yard")
    script = LOG.replace("RUN", "absent").replace("artifact.wait(150)", "pass")
    script = script.replace('print("VERSION", artifact.version)', "pass")
    more = environment(yard, tmp_path)
    code, output = scripts.run(script, tmp_path, {**more, "RUNYARD_INIT_TIMEOUT_S": "1"})
    assert code == 0 and "Not all is at the server" in output, output
    with yard:
        sync = "import sys; from runyard.cli import main; sys.exit(main(['sync', 'runyard']))"
        code, output = scripts.run(sync, tmp_path, more)
        assert code == 0 and "1 artifact" in output, output
        check(yard, tmp_path, {"a": b"a", "big.bin": b"big"})


def test_a_full_disk_at_staging_is_told_and_harms_nothing(tmp_path: Path) -> None:
    """The script hears of it at add_file(); smaller files, and immutable ones, go on; nothing half written stays."""
    (tmp_path / "big.bin").write_bytes(bytes(20 * MIB))
    script = """
import runyard, os, pathlib
from runyard.errors import ResourceExhausted
with runyard.init(entity="nico", project="kills", mode="offline") as run:
    artifact = runyard.Artifact("data", "dataset")
    try:
        artifact.add_file("big.bin")
    except ResourceExhausted as error:
        print("TOLD", error)
    artifact.add_file("big.bin", policy="immutable")
    with artifact.new_file("small") as file:
        file.write("x")
    run.log_artifact(artifact)
    print("LEFT", sum(p.stat().st_size for p in pathlib.Path(os.environ["RUNYARD_CACHE_DIR"]).rglob("*") if p.is_file()) < 1000)
"""
    with small_disk(tmp_path / "disk", 8 * MIB) as disk:
        yard = Yard(tmp_path / "yard")
        more = {**environment(yard, tmp_path), "RUNYARD_CACHE_DIR": str(disk / "cache")}
        code, output = scripts.run(script, tmp_path, more)
    assert code == 0, output
    assert "TOLD the disk of the cache" in output and "LEFT True" in output


def test_a_disk_that_is_full_when_the_answer_comes(tmp_path: Path) -> None:
    """Filled to its last block after log_artifact(), its agent killed as well: wait() returns the version all the same."""
    script = """
import runyard, sys
with runyard.init(entity="nico", project="kills", id="full") as run:
    artifact = runyard.Artifact("data", "dataset", metadata={"facts": ["a fact"] * 500})
    with artifact.new_file("a") as file:
        file.write("a")
    print("READY", flush=True)
    sys.stdin.readline()
    run.log_artifact(artifact)
    print("LOGGED", flush=True)
    sys.stdin.readline()
    artifact.wait()
    print("VERSION", artifact.version, len(artifact.metadata["facts"]))
"""
    with small_disk(tmp_path / "disk", 4 * MIB) as disk, Yard(tmp_path / "yard") as yard:
        (tmp_path / "train.py").write_text(script)
        process = subprocess.Popen(
            [sys.executable, tmp_path / "train.py"],
            env={**environment(yard, tmp_path), "RUNYARD_DIR": str(disk / "runyard")},
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        server = yard.parts["server"].process
        assert server is not None
        try:
            while process.stdout.readline() != "READY\n":
                assert process.poll() is None
            server.send_signal(signal.SIGSTOP)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "LOGGED\n"
            fill(disk)
            kill_agent(disk / "runyard")
            server.send_signal(signal.SIGCONT)
            out, told = process.communicate("\n", timeout=90)
        finally:
            server.send_signal(signal.SIGCONT)
            process.kill()
            kill_agent(disk / "runyard")
        assert (process.returncode, out) == (0, "VERSION v0 500\n"), told
        (answer,) = (disk / "runyard").glob("run-*/artifacts/*.json")
        assert json.loads(answer.read_bytes())["path"] == "nico/kills/data:v0"
        check(yard, tmp_path, {"a": b"a"})


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_memory_stays_bounded(tmp_path: Path, policy: str) -> None:
    """A sparse file of 1 GiB: neither the script nor its agent holds much of it."""
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    script = f"""
import runyard, resource, pathlib
with runyard.init(entity="nico", project="kills") as run:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    artifact = runyard.Artifact("sparse", "dataset")
    artifact.add_file("sparse", policy={policy!r})
    run.log_artifact(artifact).wait(80)
    pid = int(pathlib.Path("runyard/agent.lock").read_text())
    peak = next(line for line in open(f"/proc/{{pid}}/status") if line.startswith("VmHWM"))
    print("GREW", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, "AGENT", peak.split()[1])
"""
    with Yard(tmp_path / "yard") as yard:
        code, output = scripts.run(script, tmp_path, environment(yard, tmp_path))
    assert code == 0, output
    line = next(line for line in output.splitlines() if line.startswith("GREW"))
    print(line)
    _, grew, _, agent = line.split()
    assert int(grew) < 40_000 and int(agent) < 160_000, line
