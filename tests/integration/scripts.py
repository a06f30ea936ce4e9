"""Training scripts that tests run as processes of their own, and how to run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT_TIMEOUT_S = 90.0

# As a user writes it: the whole script, no finish().
SHORTEST = """
import runyard
run = runyard.init(entity="nico", project="awesome-project")
run.log({"accuracy": 0.9, "loss": 0.1})
"""

# As a user writes it; the seed comes from outside.
EPOCHS = """
import random, runyard
epochs, lr = 10, 0.01
run = runyard.init(entity="nico", project="awesome-project", config={"learning_rate": lr, "epochs": epochs})
offset = random.random() / 5
for epoch in range(epochs):
    acc = 1 - 2**-epoch - random.random() / (epoch + 1) - offset
    loss = 2**-epoch + random.random() / (epoch + 1) + offset
    run.log({"accuracy": acc, "loss": loss})
"""

RUN_SEEDED = (
    "import random, runpy, sys; random.seed(7); runpy.run_path(sys.argv[1], run_name='__main__')"
)


def start(script: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Starts the script with `random` seeded; its output is kept together."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN_SEEDED, script],
        env=environment,
        cwd=script.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Returns exit code and output of a started script; kills one that takes too long, and fails with its output."""
    try:
        output, _ = process.communicate(timeout=SCRIPT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"the script ran for over {SCRIPT_TIMEOUT_S} s:\n{output}") from None
    return process.returncode, output


def run(text: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a script to its end and returns exit code and output."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "train.py"
    script.write_text(text)
    return finish(start(script, environment))
