"""The examples, run as a reader runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runyard import journal_format as form
from runyard.journal_reader import JournalReader

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
START_TIMEOUT_S, END_TIMEOUT_S = 60.0, 30.0


def test_digits_ends_on_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C in training ends the script with one word instead of a traceback; the run is recorded as killed."""
    pytest.importorskip("sklearn")
    environment = {
        **os.environ,
        "RUNYARD_MODE": "offline",
        "RUNYARD_DIR": str(tmp_path / "journals"),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "digits.py"), "--epochs", "100000"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while form.ROW not in _kinds(tmp_path):
            assert process.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=END_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, output
    assert "interrupted" in output and "Traceback" not in output
    (folder,) = (tmp_path / "journals").glob("run-*")
    last = list(JournalReader.open(folder).frames())[-1]
    assert last.kind == form.FINISH
    assert isinstance(last.content, dict)
    assert (last.content["exit_code"], last.content["cause"]) == (130, "SIGNAL")


def _kinds(tmp_path: Path) -> set[int]:
    """Returns the kinds of the records written so far."""
    folders = list((tmp_path / "journals").glob("run-*/journal/*.seg"))
    return {frame.kind for path in folders for frame in JournalReader.open(path).frames()}
