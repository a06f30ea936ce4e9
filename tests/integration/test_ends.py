"""How a run ends, by how its process does: each way with a real process, against a server of real processes."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from tests.integration.readback import Readback, readback, wait_until
from tests.integration.yard import Yard

pytestmark = [
    pytest.mark.parametrize("yard", ["all"], indirect=True),
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfds"),
]
TOLD_WITHIN_S = 2.0
"""How long after the death of its process a run's end is known."""
HEAD = """
import atexit, ctypes, os, signal, sys, threading, time
import runyard
run = runyard.init(entity="nico", project="ends")
run.log({"loss": 0.5})
"""
# In small pieces: a signal in the very moment in which Python begins to wait does not wake it.
WAIT = "print('up', flush=True)\nfor _ in range(1200): time.sleep(0.05)\n"


@dataclass(frozen=True)
class Case:
    """One way to end: what the script does, or which signal it gets, and what must come of it."""

    body: str
    state: str
    cause: str
    exit_code: int | None
    evidence: str = ""
    signal: int = 0
    head: str = HEAD


def dies_of(number: int, state: str, cause: str, evidence: str) -> Case:
    """Returns the case of a signal from outside."""
    return Case(WAIT, state, cause, 128 + number, evidence, signal=number)


CASES = {
    "the end of the script": Case("", "FINISHED", "PROCESS_EXITED", 0),
    "finish": Case("run.finish()", "FINISHED", "FINISH_CALLED", 0),
    "finish, then a crash": Case("run.finish()\nos._exit(9)", "FINISHED", "FINISH_CALLED", 0),
    "sys.exit()": Case("sys.exit()", "FINISHED", "PROCESS_EXITED", 0),
    "sys.exit(3)": Case("sys.exit(3)", "FAILED", "PROCESS_EXITED", 3),
    "SystemExit(3)": Case("raise SystemExit(3)", "FAILED", "PROCESS_EXITED", 3, "code 3"),
    "exception": Case(
        "raise ValueError('too hot')", "FAILED", "UNHANDLED_EXCEPTION", 1, "ValueError: too hot"
    ),
    "exception in with": Case(
        "with run:\n  raise ValueError('too hot')", "FAILED", "UNHANDLED_EXCEPTION", 1, "too hot"
    ),
    "os._exit(0)": Case("os._exit(0)", "FINISHED", "PROCESS_EXITED", 0, "exited with code 0"),
    "os._exit(3)": Case("os._exit(3)", "FAILED", "PROCESS_EXITED", 3, "exited with code 3"),
    "exit handler leaves": Case(
        "", "FAILED", "PROCESS_EXITED", 7, "it had told of code 0",
        head="import atexit, os\natexit.register(lambda: os._exit(7))\n" + HEAD,
    ),
    "sys.exit(3), caught": Case(
        "try:\n  sys.exit(3)\nexcept SystemExit:\n  run.log({'loss': 0.1})", "FINISHED", "PROCESS_EXITED", 0,
        "it had told of code 3",
    ),
    "exit handler crashes after a code": Case(
        "sys.exit(3)", "CRASHED", "PROCESS_VANISHED", 139, "SIGSEGV",
        head="import atexit, ctypes\natexit.register(lambda: ctypes.string_at(0))\n" + HEAD,
    ),
    "exit handler crashes": Case(
        "", "CRASHED", "PROCESS_VANISHED", 139, "SIGSEGV",
        head="import atexit, ctypes\natexit.register(lambda: ctypes.string_at(0))\n" + HEAD,
    ),
    "segfault": Case("ctypes.string_at(0)", "CRASHED", "PROCESS_VANISHED", 139, "SIGSEGV"),
    "abort": Case("os.abort()", "CRASHED", "PROCESS_VANISHED", 134, "SIGABRT"),
    "SIGINT": dies_of(signal.SIGINT, "KILLED", "SIGNAL", "SIGINT"),
    "SIGTERM": dies_of(signal.SIGTERM, "KILLED", "SIGNAL", "SIGTERM"),
    "SIGHUP": dies_of(signal.SIGHUP, "KILLED", "SIGNAL", "SIGHUP"),
    "SIGKILL": dies_of(signal.SIGKILL, "CRASHED", "PROCESS_VANISHED", "SIGKILL"),
    "SIGQUIT": dies_of(signal.SIGQUIT, "CRASHED", "PROCESS_VANISHED", "SIGQUIT"),
    "mark_preempting, SIGTERM": Case(
        "run.mark_preempting('spot')\n" + WAIT, "PREEMPTED", "PREEMPTED", 143, "spot",
        signal=signal.SIGTERM,
    ),
    "mark_preempting, SIGKILL": Case(
        "run.mark_preempting()\ntime.sleep(1)\n" + WAIT, "PREEMPTED", "PREEMPTED", 137, "SIGKILL",
        signal=signal.SIGKILL,
    ),
    "mark_preempting, the end": Case("run.mark_preempting()", "FINISHED", "PROCESS_EXITED", 0),
    "forked child ends": Case(
        "child = os.fork()\nif not child:\n  sys.exit(4)\nos.waitpid(child, 0)\nrun.log({'loss': 0.4})",
        "FINISHED", "PROCESS_EXITED", 0,
    ),
    "forked child is killed": Case(
        "child = os.fork()\nif not child:\n  os.kill(os.getpid(), 9)\nos.waitpid(child, 0)\nrun.log({'loss': 0.4})",
        "FINISHED", "PROCESS_EXITED", 0,
    ),
    "forked child lives on": Case(
        "if not os.fork():\n  time.sleep(20)\n  os._exit(0)\nos._exit(5)", "FAILED", "PROCESS_EXITED", 5,
    ),
    "pool of forked workers": Case(
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(3) as pool:\n"
        "  pool.map(abs, range(99))\nrun.log({'loss': 0.3})\nsys.exit(6)",
        "FAILED", "PROCESS_EXITED", 6,
    ),
    "spawned child fails": Case(
        "  child = multiprocessing.get_context('spawn').Process(target=os._exit, args=(8,))\n"
        "  child.start()\n  child.join()\n  assert child.exitcode == 8\n  run.log({'loss': 0.3})",
        "FINISHED", "PROCESS_EXITED", 0,
        head="import multiprocessing, os, runyard\nif __name__ == '__main__':\n"
        "  run = runyard.init(entity='nico', project='ends')\n",
    ),
    "spawned child imports init()": Case(
        "def work():\n  os._exit(8)\nif __name__ == '__main__':\n"
        "  child = multiprocessing.get_context('spawn').Process(target=work)\n"
        "  child.start()\n  child.join()\n  assert child.exitcode == 8\n  run.log({'loss': 0.3})",
        "FINISHED", "PROCESS_EXITED", 0, head="import multiprocessing\n" + HEAD,
    ),
    "subprocess fails": Case(
        "import subprocess\nsubprocess.run([sys.executable, '-c', 'raise SystemExit(9)'])\nrun.log({'loss': 0.3})",
        "FINISHED", "PROCESS_EXITED", 0,
    ),
    "thread fails": Case(
        "thread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()",
        "FINISHED", "PROCESS_EXITED", 0,
    ),
}  # fmt: skip


class Training:
    """A training process and what the server says of its run."""

    def __init__(
        self,
        yard: Yard,
        folder: Path,
        script: str,
        run_id: str,
        *,
        wrap: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self.path = f"nico/ends/{run_id}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.py").write_text(script)
        self.process = subprocess.Popen(
            [*wrap, sys.executable, "train.py"],
            env=yard.environment(folder / "runyard", RUNYARD_RUN_ID=run_id, **environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def wait_for(self, line_wanted: str) -> None:
        """Returns when the script printed the line; runs have names such as "upbeat-otter-1", which are none."""
        assert self.process.stdout is not None
        while line_wanted not in self.output.splitlines():
            line = self.process.stdout.readline()
            assert line, f"the script ended before it said {line_wanted!r}:\n{self.output}"
            self.output += line

    def wait_for_end(self, timeout_s: float = 60) -> float:
        """Returns when the process has ended, and the time."""
        try:
            output, _ = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
            raise AssertionError(f"the script did not end:\n{self.output}{output}") from None
        self.output += output
        return time.monotonic()

    def close(self) -> None:
        """Ends the process whatever it does."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def training(yard: Yard, folder: Path, script: str, run_id: str, **more: Any) -> Iterator[Training]:
    """Starts a script."""
    one = Training(yard, folder, script, run_id, **more)
    try:
        yield one
    finally:
        one.close()


def last_transition(reader: Readback, path: str) -> pb.RunTransition:
    """Returns the run's latest change of state."""
    request = pb.ListRunTransitionsRequest(run_path=path, page_size=1000)
    return list(reader.metadata.ListRunTransitions(request, timeout=20).transitions)[-1]


def await_end(
    reader: Readback, path: str, state: str, cause: str, within_s: float
) -> pb.RunTransition:
    """Returns the transition to the state for the cause, which must come within the time."""
    wanted = (
        pb.RunState.Value(f"RUN_STATE_{state}"),
        pb.TransitionCause.Value(f"TRANSITION_CAUSE_{cause}"),
    )

    def is_there() -> bool:
        last = last_transition(reader, path)
        return (last.to, last.cause) == wanted

    try:
        wait_until(is_there, within_s, f"{state} by {cause}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it is\n{last_transition(reader, path)}") from None
    return last_transition(reader, path)


@pytest.mark.parametrize("name", CASES)
def test_the_end_is_told_as_it_was(yard: Yard, name: str, tmp_path: Path) -> None:
    """State, cause, exit code and evidence say how the process really ended, within 2 s of its death."""
    case = CASES[name]
    run_id = "".join(c if c.isalnum() else "-" for c in name)
    with (
        training(yard, tmp_path, case.head + case.body, run_id) as one,
        readback(yard.grpc) as reader,
    ):
        if case.signal:
            one.wait_for("up")
            one.process.send_signal(case.signal)
        died_s = one.wait_for_end() if "lives on" not in name else wait_for_death(one)
        left_s = max(0.5, died_s + TOLD_WITHIN_S - time.monotonic())
        end = await_end(reader, one.path, case.state, case.cause, left_s)
        assert case.evidence in end.evidence
        run = reader.run(one.path)
        assert (run.exit_code, run.attempt_count, run.writer_count) == (case.exit_code, 1, 1)


MEMORY_BYTES = 96 << 20
OUT_OF_MEMORY = """
with open(os.environ["GROUP"] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
time.sleep(1.5)
run.log({"loss": 0.4})
held = bytearray(400 << 20)
"""


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A memory group that takes little more than Python, where this machine lets root make one."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    groups = {controllers: group for _, controllers, group in (x.split(":", 2) for x in lines)}
    if "memory" in groups:
        path, limit = Path("/sys/fs/cgroup/memory" + groups["memory"]), "memory.limit_in_bytes"
    else:
        path, limit = Path("/sys/fs/cgroup" + groups.get("", "")), "memory.max"
    path /= f"runyard-test-{os.getpid()}"
    try:
        path.mkdir()
        (path / limit).write_text(str(MEMORY_BYTES))
    except OSError as error:
        pytest.skip(f"no memory group can be made here: {error}")
    try:
        yield path
    finally:
        wait_until(lambda: not (path / "cgroup.procs").read_text(), 10, "the group to be empty")
        path.rmdir()


def test_a_process_that_memory_pressure_kills(
    yard: Yard, small_group: Path, tmp_path: Path
) -> None:
    """The run has crashed because memory ran out, and the evidence is the kernel's count."""
    with (
        training(yard, tmp_path, HEAD + OUT_OF_MEMORY, "oom", GROUP=str(small_group)) as one,
        readback(yard.grpc) as reader,
    ):
        left_s = one.wait_for_end() + TOLD_WITHIN_S - time.monotonic()
        end = await_end(reader, one.path, "CRASHED", "OUT_OF_MEMORY", left_s)
        assert "oom_kill rose from 0 to 1" in end.evidence and small_group.name in end.evidence
        assert reader.run(one.path).exit_code == 137


def test_ctrl_c_twice(yard: Yard, tmp_path: Path) -> None:
    """The second Ctrl-C, while the end waits for a server that does not answer, ends the wait and not the truth."""
    own = Yard(tmp_path / "yard")
    with own, readback(own.grpc) as reader, training(own, tmp_path, HEAD + WAIT, "twice") as one:
        one.wait_for("up")
        wait_until(lambda: reader.state(one.path) == "RUNNING", 20, "the run")
        own.kill()
        one.process.send_signal(signal.SIGINT)
        one.wait_for("KeyboardInterrupt")
        (folder,) = (tmp_path / "runyard").glob("run-*")
        wait_until(lambda: not is_locked(folder), 10, "FINISH")
        one.process.send_signal(signal.SIGINT)
        one.wait_for_end(15)
        assert "interrupted" in one.output
        own.start()
        await_end(reader, one.path, "KILLED", "SIGNAL", 30)
        assert reader.run(one.path).exit_code == 130


def test_a_closed_terminal(yard: Yard, tmp_path: Path) -> None:
    """Closing the terminal of a foreground job kills it with SIGHUP, and the run says so."""
    (tmp_path / "train.py").write_text(HEAD + WAIT)
    environment = yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID="hangup")
    child, terminal = pty.fork()
    if not child:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "train.py"], environment)
    shown = b""
    while b"\nup\r" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGHUP
    with readback(yard.grpc) as reader:
        end = await_end(reader, "nico/ends/hangup", "KILLED", "SIGNAL", TOLD_WITHIN_S)
        assert "SIGHUP" in end.evidence


def first_child(pid: int) -> int:
    """Returns the pid of the process's child."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: bool(children.read_text().split()), 10, f"a child of {pid}")
    return int(children.read_text().split()[0])


def test_the_first_process_of_a_container(yard: Yard, tmp_path: Path) -> None:
    """SIGTERM ends it, though the kernel keeps the signal from it; the end is told before all in the container dies."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("no pid namespace can be made here")
    with (
        training(
            yard, tmp_path, HEAD + "assert os.getpid() == 1\n" + WAIT, "first", wrap=unshare
        ) as one,
        readback(yard.grpc) as reader,
    ):
        one.wait_for("up")
        os.kill(first_child(one.process.pid), signal.SIGTERM)
        one.wait_for_end(10)
        await_end(reader, one.path, "KILLED", "SIGNAL", 0.5)
        assert reader.run(one.path).exit_code == 143


def test_a_batch_system_ends_all_processes_of_a_job(yard: Yard, tmp_path: Path) -> None:
    """SIGCONT and SIGTERM to script and agent alike: the agent tells of the preemption before it goes."""
    with (
        training(yard, tmp_path, HEAD + WAIT, "slurm", SLURM_JOB_ID="412") as one,
        readback(yard.grpc) as reader,
    ):
        one.wait_for("up")
        agent = int((tmp_path / "runyard/agent.lock").read_text())
        for pid in (agent, one.process.pid):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        one.wait_for_end(10)
        end = await_end(reader, one.path, "PREEMPTED", "PREEMPTED", TOLD_WITHIN_S)
        assert "job 412 of Slurm" in end.evidence
        wait_until(lambda: not Path(f"/proc/{agent}").exists(), 10, "the agent to go")


def test_a_parent_that_does_not_wait(yard: Yard, tmp_path: Path) -> None:
    """A launcher that leaves its dead workers as zombies hides nothing: the end is known all the same."""
    with training(yard, tmp_path, HEAD + WAIT, "zombie") as one, readback(yard.grpc) as reader:
        one.wait_for("up")
        one.process.send_signal(signal.SIGSEGV)
        end = await_end(reader, one.path, "CRASHED", "PROCESS_VANISHED", TOLD_WITHIN_S)
        assert "SIGSEGV" in end.evidence and reader.run(one.path).exit_code == 139
        state = Path(f"/proc/{one.process.pid}/stat").read_text().split()[2]
        assert state == "Z"


def is_locked(folder: Path) -> bool:
    """Returns whether the process holds its run open."""
    with (folder / "writer.lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def wait_for_death(one: Training) -> float:
    """Returns when the process has ended, though a child of it holds its output open."""
    one.process.wait(30)
    return time.monotonic()


TELLING = """
run.alert("Loss rises", "to 3", level="WARN", wait_duration=30)
run.mark_preempting("spot")
def load():
    raise KeyError("weights")
try:
    load()
except KeyError as error:
    raise RuntimeError("no model") from error
"""


def test_what_a_run_tells_of_itself_is_shown(yard: Yard, tmp_path: Path) -> None:
    """Alerts and notices are events of the run; its exception is kept with causes and traceback."""
    with training(yard, tmp_path, HEAD + TELLING, "telling") as one, readback(yard.grpc) as reader:
        one.wait_for_end()
        await_end(reader, one.path, "FAILED", "UNHANDLED_EXCEPTION", TOLD_WITHIN_S)
        run = reader.run(one.path)
        request = pb.ListRunEventsRequest(run_path=one.path, page_size=1000)
        events = reader.metadata.ListRunEvents(request, timeout=20).events
    assert (run.exception.type, run.exception.message) == ("RuntimeError", "no model")
    assert run.exception.writer_label == "main"
    trace = run.exception.traceback
    assert "in load" in trace and "direct cause" in trace and trace.endswith("no model\n")
    assert run.preemption_notice == "mark_preempting(): spot"
    (alert,) = [event for event in events if event.kind == pb.RUN_EVENT_KIND_ALERT]
    assert (alert.title, alert.evidence, alert.level) == ("Loss rises", "to 3", pb.ALERT_LEVEL_WARN)
    assert pb.RUN_EVENT_KIND_PREEMPTION_NOTICED in [event.kind for event in events]
