"""finish() ends in time whatever its agent, its server or its disk do; what it could not see delivered arrives later."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.agent.disk import LocalDisk
from tests.integration.readback import Readback, readback, wait_until
from tests.integration.yard import Yard
from tests.robustness.traffic import agent_pid, kill_agent

FINISH_TIMEOUT_S = 3
SLACK_S = 6
"""For a process to begin and to end on a busy machine."""
DEADLINE_S = 60
# Logs, waits for a word, finishes, and says how long that took and what the receipt is.
SCRIPT = """
import sys, time, runyard
runs = [runyard.init(entity="robust", project="finish", id=i, reinit="create_new") for i in sys.argv[1:]]
for step in range(200):
    for run in runs:
        run.log({"a": step})
print("logged", flush=True)
sys.stdin.readline()
for run in runs:
    begin = time.monotonic()
    for step in range(100):
        run.log({"a": 200 + step})
    run.finish()
    receipt = run.receipt()
    print(time.monotonic() - begin, receipt.records_durable, receipt.records_written, receipt.is_complete, flush=True)
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with Yard(tmp_path_factory.mktemp("yard-finish")) as running:
        yield running


@pytest.fixture
def reader(yard: Yard) -> Iterator[Readback]:
    with readback(yard.grpc) as stubs:
        yield stubs


class Script:
    """One training process and its root."""

    def __init__(self, yard: Yard, folder: Path) -> None:
        self.folder, self.root = folder, folder / "runs"
        self.environment = yard.environment(
            self.root,
            RUNYARD_QUIET="1",
            RUNYARD_FINISH_TIMEOUT_S=str(FINISH_TIMEOUT_S),
            RUNYARD_INIT_TIMEOUT_S="2",
            XDG_CONFIG_HOME=str(folder),
        )
        self.process: subprocess.Popen[str] | None = None

    def start(self, *run_ids: str) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *run_ids],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "logged\n"
        return self.process

    def finish(self) -> tuple[list[list[str]], str]:
        """Lets the script finish; returns the words it said of each run, and what it printed. Fails if it takes too long."""
        assert self.process is not None
        begin_s = time.monotonic()
        out, told = self.process.communicate("\n", timeout=DEADLINE_S)
        assert self.process.returncode == 0, told
        lines = [line.split() for line in out.splitlines()]
        assert time.monotonic() - begin_s < FINISH_TIMEOUT_S * len(lines) + SLACK_S
        return lines, told

    def agent(self) -> int:
        """Returns the pid of the agent, once it has taken the run's rows."""
        pid = agent_pid(self.root)
        assert pid is not None
        return pid


@pytest.fixture
def script(yard: Yard, tmp_path: Path) -> Iterator[Script]:
    made = Script(yard, tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate(timeout=10)
    kill_agent(made.root)


def points(reader: Readback, run_id: str) -> int:
    return len(reader.history(f"robust/finish/{run_id}").get("a", ()))


def test_a_stopped_agent(script: Script, reader: Readback) -> None:
    """With an agent that stands still, finish() says after its time what is missing; once it goes on, all arrives."""
    script.start("stopped")
    agent = script.agent()
    os.kill(agent, signal.SIGSTOP)
    try:
        ((took_s, durable, written, is_complete),), told = script.finish()
    finally:
        os.kill(agent, signal.SIGCONT)
    assert float(took_s) < FINISH_TIMEOUT_S + 2 and is_complete == "False"
    assert int(durable) < int(written) and f"not done after {FINISH_TIMEOUT_S} s" in told
    reader.wait_for_state("robust/finish/stopped", "FINISHED", timeout_s=30)
    assert points(reader, "stopped") == 300
    reader.assert_receipt_is_whole("robust/finish/stopped", points=300)


def test_a_killed_agent(script: Script, reader: Readback) -> None:
    """Another agent is started; finish() waits for it as long as it may, and the rest is sent behind it."""
    script.start("agentless")
    assert kill_agent(script.root)
    script.finish()
    reader.wait_for_state("robust/finish/agentless", "FINISHED", timeout_s=30)
    reader.assert_receipt_is_whole("robust/finish/agentless", points=300)


def test_a_server_that_stands_still(script: Script, reader: Readback, yard: Yard) -> None:
    """A server that answers nothing any more costs finish() its time and no more; when it goes on, all arrives."""
    script.start("still")
    server = yard.parts["server"].process
    assert server is not None
    server.send_signal(signal.SIGSTOP)
    try:
        _, told = script.finish()
    finally:
        server.send_signal(signal.SIGCONT)
    assert "Not all is at the server" in told and "runyard sync" in told
    reader.wait_for_state("robust/finish/still", "FINISHED", timeout_s=60)
    reader.assert_receipt_is_whole("robust/finish/still", points=300)


def test_a_server_that_takes_calls_and_answers_none(script: Script) -> None:
    """A port that accepts and never answers: init() and finish() keep their times, and everything is on the disk."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        script.environment["RUNYARD_BASE_URL"] = f"http://127.0.0.1:{hole.getsockname()[1]}"
        script.start("hole")
        ((_, durable, written, _),), told = script.finish()
    assert (durable, written) == ("0", "303")
    assert "Not all is at the server" in told
    done = subprocess.run(
        [sys.executable, "-m", "runyard", "sync", "--status", str(script.root)],
        env=script.environment, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "303 records" in done.stdout


def test_ctrl_c_ends_the_wait(script: Script, reader: Readback) -> None:
    """Ctrl-C while finish() waits ends the wait at once; the agent goes on."""
    script.environment["RUNYARD_FINISH_TIMEOUT_S"] = "50"
    process = script.start("impatient")
    agent = script.agent()
    os.kill(agent, signal.SIGSTOP)
    try:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        lock = str(next(script.root.glob("run-*")) / "writer.lock")
        wait_until(lambda: not LocalDisk().is_locked(lock), 10, "the journal to be closed")
        begin_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
        assert time.monotonic() - begin_s < SLACK_S
    finally:
        os.kill(agent, signal.SIGCONT)
    assert "Not all is at the server (interrupted)" in told
    reader.wait_for_state("robust/finish/impatient", "FINISHED", timeout_s=30)
    reader.assert_receipt_is_whole("robust/finish/impatient", points=300)


def test_two_runs_in_one_process(script: Script, reader: Readback) -> None:
    """Each has its folder, its receipt and its end; the one's finish() does not wait for the other."""
    script.start("one", "two")
    lines, _ = script.finish()
    assert [line[1:] for line in lines] == [["303", "303", "True"], ["303", "303", "True"]]
    for run_id in ("one", "two"):
        assert reader.state(f"robust/finish/{run_id}") == "FINISHED"
        reader.assert_receipt_is_whole(f"robust/finish/{run_id}", points=300)


@pytest.mark.parametrize("is_root", [False, True], ids=["folder", "root"])
def test_a_folder_that_was_removed(script: Script, reader: Readback, *, is_root: bool) -> None:
    """A run whose folder, or root, was removed while it trained trains to its end, which is told and bounded."""
    run_id = f"removed{is_root:d}"
    script.start(run_id)
    wait_until(lambda: points(reader, run_id) == 200, 20, "the first rows")
    shutil.rmtree(script.root if is_root else next(script.root.glob("run-*")))
    # The agent looks for the process twice a second: it lives, whatever became of its lock.
    looked_s = time.monotonic() + 2
    wait_until(lambda: time.monotonic() > looked_s, 10, "some looks of the agent")
    assert reader.state(f"robust/finish/{run_id}") == "RUNNING"
    _, told = script.finish()
    assert "was removed: what the server has not got by now is lost" in told
    reader.wait_for_state(f"robust/finish/{run_id}", "FINISHED", timeout_s=20)
    reader.assert_receipt_is_whole(f"robust/finish/{run_id}", points=300)
