"""Runs in IPython: what the end of a cell, its error, a stop and the kernel's shutdown mean."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_client
import pytest

import runyard
from tests.integration.readback import readback, wait_until
from tests.integration.test_ends import await_end
from tests.integration.yard import Yard
from tests.robustness.traffic import agent_pid

pytestmark = pytest.mark.parametrize("yard", ["all"], indirect=True)
INIT = "import os, time, runyard\nrun = runyard.init(entity='nico', project='cells', id={id!r})\nrun.log({{'a': 1.0}})"


class Kernel:
    """A real kernel of its own process."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        kernel_manager = jupyter_client.manager.KernelManager(kernel_name="")
        kernel_manager.kernel_spec_manager  # noqa: B018 (made on first use)
        self._manager: Any = kernel_manager
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel_manager._kernel_spec = jupyter_client.kernelspec.KernelSpec(
            argv=command, display_name="test", language="python"
        )
        # Where it is set, kernels leave the descriptors alone.
        environment.pop("PYTEST_CURRENT_TEST", None)
        kernel_manager.start_kernel(env=environment, cwd=str(folder))
        self._client: Any = kernel_manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def run(self, source: str) -> str:
        """Runs a cell; returns "ok" or the name of its error."""
        reply = self._client.execute_interactive(source, timeout=60, output_hook=lambda m: None)
        content = reply["content"]
        return str(content.get("ename") or content["status"])

    def begin(self, source: str) -> str:
        """Starts a cell and does not wait for it."""
        return str(self._client.execute(source))

    def await_reply(self, message_id: str) -> str:
        """Returns how a started cell ended."""
        while True:
            reply = self._client.get_shell_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == message_id:
                content = reply["content"]
                return str(content.get("ename") or content["status"])

    def shut_down(self) -> None:
        """Ends the kernel as a notebook server does."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=False)

    def close(self) -> None:
        if self._manager.is_alive():
            self._manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(yard: Yard, tmp_path: Path) -> Iterator[Kernel]:
    one = Kernel(tmp_path, yard.environment(tmp_path / "runyard"))
    try:
        yield one
    finally:
        one.close()


@pytest.mark.parametrize(
    ("name", "cells", "state", "cause"),
    [
        ("well", ["run.log({'a': 2.0})"], "FINISHED", "PROCESS_EXITED"),
        ("failed", ["1 / 0"], "FAILED", "UNHANDLED_EXCEPTION"),
        ("mended", ["1 / 0", "run.log({'a': 2.0})"], "FINISHED", "PROCESS_EXITED"),
        ("finish", ["1 / 0", "run.finish()", "1 / 0"], "FINISHED", "FINISH_CALLED"),
        ("with", ["with run:\n  1 / 0", "2"], "FAILED", "UNHANDLED_EXCEPTION"),
        ("again", ["runyard.init(entity='nico', project='cells', id='again2')"], "FINISHED", "FINISH_CALLED"),
    ],
)  # fmt: skip
def test_cells_end_nothing(
    yard: Yard, kernel: Kernel, name: str, cells: list[str], state: str, cause: str
) -> None:
    """A run goes on from cell to cell, whatever they do; finish(), the next init() or the shutdown ends it."""
    path = f"nico/cells/{name}"
    assert kernel.run(INIT.format(id=name)) == "ok"
    with readback(yard.grpc) as reader:
        assert reader.state(path) == "RUNNING"
        for cell in cells:
            assert kernel.run(cell) in ("ok", "ZeroDivisionError")
        if cause == "PROCESS_EXITED" or name == "failed":
            assert reader.state(path) == "RUNNING"
            kernel.shut_down()
        end = await_end(reader, path, state, cause, 5)
        assert "ZeroDivisionError" in end.evidence or state == "FINISHED"


def test_a_kernel_that_takes_long_to_shut_down_is_no_crash(yard: Yard, kernel: Kernel) -> None:
    """Jupyter kills it after some seconds: by then it has said how its run ended."""
    assert kernel.run("import atexit, signal\natexit.register(signal.pause)") == "ok"
    assert kernel.run(INIT.format(id="slow")) == "ok"
    kernel.shut_down()
    wait_until(lambda: agent_pid(kernel.folder / "runyard") is None, 40, "the agent to be done")
    with readback(yard.grpc) as reader:
        await_end(reader, "nico/cells/slow", "FINISHED", "PROCESS_EXITED", 5)


def ask_to_stop(kernel: Kernel) -> None:
    """Hands a stop over as the agent does."""
    (folder,) = (kernel.folder / "runyard").glob("run-*")
    fields = {"requested_by": "nico", "request_time_unix_ns": 1, "grace_s": 60}
    (folder / "stop.new").write_text(json.dumps(fields))
    (folder / "stop.new").rename(folder / "stop.json")


@pytest.mark.parametrize("is_running", [True, False])
def test_a_stop_ends_the_run_and_not_the_kernel(
    yard: Yard, kernel: Kernel, is_running: bool
) -> None:
    """A stop interrupts the cell that runs, and ends the run between two cells; the kernel and its values stay."""
    name = f"stop-{is_running}"
    kernel.run("kept = 5")
    assert kernel.run(INIT.format(id=name)) == "ok"
    with readback(yard.grpc) as reader:
        if is_running:
            up = kernel.folder / "up"
            message_id = kernel.begin(f"open({str(up)!r}, 'w').close(); time.sleep(60)")
            wait_until(up.exists, 20, "the cell to run")
        ask_to_stop(kernel)
        if is_running:
            assert kernel.await_reply(message_id) == "KeyboardInterrupt"
        await_end(reader, f"nico/cells/{name}", "KILLED", "USER_REQUEST", 5)
    assert kernel.run("assert kept == 5 and run.state == 'killed'") == "ok"


CELLS = [
    "print('of the first cell')",
    "import subprocess, sys, threading\nprint('of a cell')\nprint('an error', file=sys.stderr)",
    "!echo of a shell",
    "done = subprocess.run(['echo', 'of a child'])\nsize = os.write(1, b'of the descriptor\\n')",
    "thread = threading.Thread(target=print, args=('of a thread',))\nthread.start()\nthread.join()",
    "for i in range(4):\n  print(f'{i} of 3', end='\\r')\nprint()",
    "1 / 0",
    "print('of the last cell')\nrun.finish()\nprint('after it')",
]


def test_what_cells_print_is_kept(yard: Yard, kernel: Kernel) -> None:
    """Of every cell, of its shell and of its threads, each line once; IPython replaces `write` around each cell."""
    with runyard.Api(yard.base_url) as api:

        def lines_kept() -> list[str]:
            return [line.text for line in api.run("nico/cells/printed").logs()]

        assert kernel.run(INIT.format(id="printed") + "\n" + CELLS[0]) == "ok"
        for cell in CELLS[1:]:
            assert kernel.run(cell) in ("ok", "ZeroDivisionError")
            if "os.write" in cell:
                # A thread of the kernel's reads the descriptor, when it comes to it.
                wait_until(lambda: "of the descriptor" in lines_kept(), 20, "the descriptor's line")
        wait_until(lambda: "of the last cell" in lines_kept(), 20, "the last line")
        lines = lines_kept()
    told = [
        "of the first cell", "of a cell", "an error", "of a shell", "of a child", "of the descriptor", "of a thread",
        "3 of 3", "of the last cell",
    ]  # fmt: skip
    assert [line for line in lines if line in told] == told
    assert sum("ZeroDivisionError" in line for line in lines) == 0, "IPython shows it as no output"
    assert "after it" not in lines
