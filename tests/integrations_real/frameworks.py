"""The environment that holds the training libraries, and how tests run scripts in it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.integration.yard import CHECKOUT, Yard

ENVIRONMENT = CHECKOUT / ".venv-integrations"
PYTHON = ENVIRONMENT / "bin" / "python"
SCRIPTS = Path(__file__).with_name("scripts")
TIMEOUT_S = 240.0
"""A library of 400 MB may take half a minute to import for the first time."""
PROBE = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]))
"""


@cache
def missing(modules: tuple[str, ...]) -> str:
    """Returns why scripts that need the modules cannot run here, "" if they can."""
    if not PYTHON.exists():
        return "there is no .venv-integrations (make integrations)"
    told = subprocess.run(
        [PYTHON, "-c", PROBE, *modules],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    absent = json.loads(told.stdout)
    if absent:
        return f"not in .venv-integrations: {', '.join(absent)}"
    if "torch" in modules and not list(
        ENVIRONMENT.glob("lib/python3*/site-packages/**/libcudart.so*")
    ):
        return "torch cannot be imported without CUDA libraries, and no empty ones could be made (deploy/cuda_stubs.py)"
    return ""


def needs(*modules: str) -> pytest.MarkDecorator:
    """Returns the mark of tests whose scripts import the modules."""
    why = missing(modules)
    return pytest.mark.skipif(bool(why), reason=why)


@dataclasses.dataclass(frozen=True)
class Told:
    """What became of a script: its exit code, what it printed, and the JSON of its last line that begins with "told "."""

    code: int
    output: str

    @property
    def facts(self) -> Any:
        lines = [line for line in self.output.splitlines() if line.startswith("told ")]
        assert lines, self.output
        return json.loads(lines[-1].removeprefix("told "))


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Runs scripts that log to a yard."""

    yard: Yard
    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Returns the environment of the scripts: nothing is fetched, and few threads, for several tests may run at once."""
        quiet = {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "0",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        away = {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HOME": str(self.folder / "hf"),
        }
        return self.yard.environment(
            self.folder / "runs", **quiet, **away, RUNYARD_PROJECT="integrations", **more
        )

    def command(self, script: str, *arguments: str) -> list[str]:
        """Returns the command line of a script."""
        return [str(PYTHON), str(SCRIPTS / f"{script}.py"), *arguments]

    def run(self, script: str, *arguments: str, code: int | None = 0, **more: str) -> Told:
        """Runs a script to its end, in the test's folder; fails with its output if it ends with another code."""
        done = subprocess.run(
            self.command(script, *arguments),
            cwd=self.folder,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert code is None or done.returncode == code, f"{done.returncode}:\n{done.stdout}"
        return Told(done.returncode, done.stdout)


def points(rows: Any, name: str) -> list[tuple[int, float]]:
    """Returns (step, value) of a metric out of the rows of scan_history()."""
    return [(row["_step"], row[name]) for row in rows if name in row]


def histograms(
    yard: Yard, run_path: str, name: str
) -> list[tuple[int, list[float], list[float], int]]:
    """Returns (step, counts, edges, values in no bin) of each histogram of a name."""
    found = []
    for value in _media(yard, run_path, name):
        histogram = value["histogram"]
        counts, edges = histogram.get("counts", []), histogram["edges"]
        found.append(
            (int(value.get("step", 0)), counts, edges, int(histogram.get("nonFiniteCount", 0)))
        )
    return found


def image_items(yard: Yard, run_path: str, name: str) -> list[tuple[int, list[dict[str, Any]]]]:
    """Returns (step, what is told of each) of the images that were logged under a name."""
    return [
        (int(value.get("step", 0)), json.loads(value["itemsJson"]))
        for value in _media(yard, run_path, name)
    ]


def _media(yard: Yard, run_path: str, name: str) -> list[dict[str, Any]]:
    request = {"runPaths": [run_path], "names": [name], "stepCountMax": 1000}
    reply = yard.call("query.v1.QueryService/QueryMedia", request)
    return [stored["value"] for series in reply.get("series", []) for stored in series["values"]]
