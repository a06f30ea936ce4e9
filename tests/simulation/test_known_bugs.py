"""The bugs that `make sim-bugs` puts back can still be put back, and one of them is found at once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.known_bugs import BUGS

CHECKOUT = Path(__file__).resolve().parents[2]
FOUND_SOON = "acknowledged before the insert"


@pytest.mark.parametrize("name", BUGS)
def test_a_known_bug_can_be_put_back(name: str) -> None:
    """The lines that it changes are there, once."""
    bug = BUGS[name]
    spec = importlib.util.find_spec(bug.module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    assert source.count(bug.right) == 1
    compile(source.replace(bug.right, bug.wrong), spec.origin, "exec")


def test_a_known_bug_is_found() -> None:
    """An acknowledgement before the insert is found within 20 seeds."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.simulation.known_bugs", "20", FOUND_SOON],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "NOT FOUND" not in found.stdout
