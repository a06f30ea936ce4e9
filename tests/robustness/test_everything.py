"""A run with all that it can carry, under kill -9 of agent and server, and at last of itself: what was told is there, once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import runyard
from tests.integration.readback import readback, wait_until
from tests.integration.yard import Yard
from tests.robustness.traffic import kill_agent

KILLS = int(os.environ.get("RUNYARD_TEST_KILLS") or 12)
PATH = "nico/everything/all"

# Each thing is told in a file of the test's once the call that made it has returned: then it must not be lost.
SCRIPT = """
import hashlib, json, os, random, sys, time
import numpy as np
import runyard

chance = random.Random(int(sys.argv[1]))
told = open("told.jsonl", "a", buffering=1)
tell = lambda kind, *what: told.write(json.dumps([kind, *what]) + chr(10))
run = runyard.init(entity="nico", project="everything", id="all")
step = 0
while not os.path.exists("enough"):
    run.log({"x": step})
    tell("row", step)
    line = f"line {step} " + "\\u00e9" * chance.randrange(5)
    os.write(1, line.encode() + b"\\n")
    tell("line", line)
    if step % 20 == 5:
        run.log({"image": runyard.Image(np.full((8, 8), step % 255, np.uint8))}, commit=False)
        tell("image", step + 1)
    if step % 50 == 10:
        content = chance.randbytes(chance.choice([10, 5_000, 9_000_000]))
        name = f"file-{step}.bin"
        with open(name, "wb") as file:
            file.write(content)
        run.save(name, policy=chance.choice(["now", "end", "live"]))
        tell("file", name, hashlib.sha256(content).hexdigest())
    if step % 100 == 30:
        artifact, digests = runyard.Artifact("data", type="dataset"), {}
        for number in range(chance.randrange(1, 10)):
            content = chance.randbytes(chance.choice([10, 10_000, 2_000_000]))
            with artifact.new_file(f"{number}.bin", "wb") as file:
                file.write(content)
            digests[f"{number}.bin"] = hashlib.sha256(content).hexdigest()
        run.log_artifact(artifact, aliases=[f"step-{step}"])
        tell("artifact", f"step-{step}", digests)
    step += 1
    time.sleep(0.01)
os.kill(os.getpid(), 9)
"""


def told_in(folder: Path, kind: str) -> list[Any]:
    """Returns what the script told of a kind."""
    path = folder / "told.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [what for kind_told, *what in entries if kind_told == kind]


def test_all_that_a_run_carries_survives_kills(tmp_path: Path) -> None:
    """Rows, lines, images, files and artifacts, told by a process that is killed in the end: each once, byte by byte."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    root = tmp_path / "runyard"
    with Yard(tmp_path / "yard") as yard:
        environment = yard.environment(root, RUNYARD_CACHE_DIR=str(tmp_path / "cache"))
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(seed)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: bool(told_in(tmp_path, "row")), 30, "the first row")
            for number in range(KILLS):
                time.sleep(chance.uniform(0.05, 1.5))
                if number % 3 < 2:
                    kill_agent(root)
                else:
                    yard.kill()
                    time.sleep(chance.uniform(0.0, 1.0))
                    yard.start()
            wait_until(lambda: bool(told_in(tmp_path, "artifact")), 60, "an artifact")
            (tmp_path / "enough").touch()
            process.wait(30)
        finally:
            process.kill()
            process.wait()
        synced = subprocess.run(
            [sys.executable, "-m", "runyard", "sync"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert synced.returncode == 0, synced.stdout + synced.stderr
        with readback(yard.grpc) as reader:
            reader.wait_for_state(PATH, "CRASHED", timeout_s=20)
        check(yard, tmp_path)


def check(yard: Yard, folder: Path) -> None:
    """Asks for each thing that was told."""
    with runyard.Api(yard.base_url) as api:
        run = api.run(PATH)
        # The script may have been killed between a call and its word of it: one more may be there.
        steps = [row["_step"] for row in run.scan_history(["x"])]
        rows = [step for (step,) in told_in(folder, "row")]
        assert steps[: len(rows)] == rows and len(steps) <= len(rows) + 1
        lines = [line.text for line in run.logs() if line.text.startswith("line ")]
        printed = [line for (line,) in told_in(folder, "line")]
        assert lines[: len(printed)] == printed and len(lines) <= len(printed) + 1
        images = [step for (step,) in told_in(folder, "image")]
        assert [media.step for media in run.media("image")][: len(images)] == images
        files = {file.name: file.sha256 for file in run.files()}
        saved = told_in(folder, "file")
        assert saved and {name: files.get(name) for name, _ in saved} == dict(saved)
        for alias, digests in told_in(folder, "artifact"):
            artifact = api.artifact(f"nico/everything/data:{alias}")
            back = Path(artifact.download(root=folder / alias))
            found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in back.iterdir()}
            assert found == digests
