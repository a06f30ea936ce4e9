"""The agent's watch over training processes: real processes, real exit statuses, and none that is another's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from runyard import process_identity
from runyard.agent import memory_kills, process_watch
from runyard.agent.endings import correction, is_contradicted, real_ending, told_ending
from runyard.agent.memory_kills import MemoryKills
from runyard.agent.ports import Ending, ProcessEnd
from runyard.agent.process_watch import LocalProcesses, PidWatch

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="this system has no pidfds: the lock alone tells there"
)
# A grandchild of the test, as a training process is of its agent; its parent waits for it at once, late, or not at all.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
time.sleep(float(sys.argv[2]))
child.wait()
"""
CHILD = """
import ctypes, os, signal, sys
from runyard.process_identity import own_identity
with open("writer.lock", "wb") as file:
    file.write(own_identity())
print("up", flush=True)
sys.stdin.readline()
"""


class Family:
    """A process to watch, and its parent."""

    def __init__(self, folder: Path, body: str, *, wait_after_s: float = 0.0) -> None:
        self.folder = folder
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, body + CHILD, str(wait_after_s)],
            cwd=folder, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
        assert self.parent.stdout is not None
        assert self.parent.stdout.readline() == "up\n"
        self.pid = int(json.loads((folder / "writer.lock").read_bytes())["pid"])

    def close(self) -> None:
        os.killpg(self.parent.pid, signal.SIGKILL)
        self.parent.communicate()


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


def end_of(family: Family, *, by: int = 0) -> ProcessEnd:
    """Returns how the process ended: by the signal, or by itself."""

    async def main() -> ProcessEnd:
        watch = LocalProcesses().watch(str(family.folder))
        assert watch is not None
        assert await watch.wait(0.05) is None and watch.end is None
        if by:
            assert watch.send_signal(by)
        start_s = time.monotonic()
        end = await watch.wait(20)
        assert end is not None and watch.end == end
        assert not watch.send_signal(signal.SIGTERM)
        if by:
            assert time.monotonic() - start_s < 1.5
        watch.close()
        return end

    try:
        result: ProcessEnd = run(main())
        return result
    finally:
        family.close()


@pytest.mark.parametrize("wait_after_s", [0.0, 30.0])
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_signal_is_named_at_once(tmp_path: Path, by: int, wait_after_s: float) -> None:
    """Whether the parent has waited for the process or leaves it a zombie, its signal is known within moments."""
    end = end_of(Family(tmp_path, "", wait_after_s=wait_after_s), by=by)
    assert (end.exit_code, end.signal, end.is_out_of_memory) == (None, by, False)
    assert signal.Signals(by).name in end.evidence


@pytest.mark.parametrize("code", [0, 3, 255])
def test_an_exit_code_is_read(tmp_path: Path, code: int) -> None:
    """os._exit() tells nobody but the system."""
    body = f"import os, signal; signal.signal(signal.SIGUSR1, lambda *_: os._exit({code}))"
    end = end_of(Family(tmp_path, body), by=signal.SIGUSR1)
    assert (end.exit_code, end.signal) == (code, None)


def test_the_kernel_tells_of_a_process_that_was_waited_for(tmp_path: Path) -> None:
    """The status comes from the pidfd where the kernel offers it: nobody but the parent can wait for the process."""
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release < (6, 15):
        pytest.skip(f"Linux {os.uname().release} does not tell the status of a pidfd; 6.15 does")
    process = subprocess.Popen([sys.executable, "-c", "import os; os._exit(77)"])
    number = os.pidfd_open(process.pid)
    try:
        assert process.wait(20) == 77
        assert process_watch.exit_status(number) == 77 << 8
    finally:
        os.close(number)


@pytest.mark.parametrize("wait_after_s", [0.0, 30.0])
def test_an_older_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_after_s: float
) -> None:
    """Without the kernel's word a zombie still shows its status; of a process that was waited for only the death is known."""
    monkeypatch.setattr(process_watch, "_GET_INFO", process_watch._GET_INFO + 1)
    monkeypatch.setattr(process_watch, "STATUS_WAIT_S", 0.2)
    end = end_of(Family(tmp_path, "", wait_after_s=wait_after_s), by=signal.SIGSEGV)
    assert end.exit_code is None
    if wait_after_s:
        assert end.signal == signal.SIGSEGV
    else:  # its parent may have been slower
        assert end.signal in (None, signal.SIGSEGV)
        assert end.signal or end.evidence.endswith("is gone")


def test_the_lock_of_another_process_is_not_watched(tmp_path: Path) -> None:
    """No watch for a pid that is somebody else's by now, of another boot or namespace, gone, or not told of."""
    own = json.loads(process_identity.own_identity())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(20)
    identities: list[Any] = [
        {**own, "start_ticks": own["start_ticks"] - 1},
        {**own, "boot_id": "another"},
        {**own, "pid_namespace": "pid:[1]"},
        {**own, "pid": gone.pid},
        {"pid": own["pid"]},
        [],
    ]

    async def main() -> list[PidWatch | None]:
        watches = []
        for identity in identities:
            (tmp_path / "writer.lock").write_text(json.dumps(identity))
            watches.append(LocalProcesses().watch(str(tmp_path)))
        (tmp_path / "writer.lock").write_bytes(b"")
        watches.append(LocalProcesses().watch(str(tmp_path)))
        (tmp_path / "writer.lock").write_bytes(process_identity.own_identity())
        own_watch = LocalProcesses().watch(str(tmp_path))
        assert own_watch is not None, "this very process can be watched"
        own_watch.close()
        return watches

    assert run(main()) == [None] * 7


def test_kills_for_want_of_memory_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a rise since the last looks counts, and the narrowest counter is named."""
    events, machine = tmp_path / "memory.events", tmp_path / "vmstat"
    monkeypatch.setattr(memory_kills, "SHARED_S", -1.0)
    monkeypatch.setattr(memory_kills, "_counter_paths", lambda pid: [str(events), str(machine)])

    def write(path: Path, count: int) -> None:
        path.write_text(f"low 0\nhigh 0\nmax 9\noom 3\noom_kill {count}\noom_group_kill 0\n")

    write(events, 2)
    write(machine, 5)
    kills = MemoryKills(1)
    assert kills.evidence() == ""
    write(machine, 6)
    assert kills.evidence() == f"oom_kill rose from 5 to 6 in {machine}"
    write(events, 3)
    kills.look()  # the process takes a while to die
    assert kills.evidence() == f"oom_kill rose from 2 to 3 in {events}"
    for _ in range(memory_kills.LOOK_COUNT):
        kills.look()
    assert kills.evidence() == ""


def test_the_counters_of_a_process_are_those_of_its_groups() -> None:
    """The process's own group comes before the machine, in the files of this system's cgroups."""
    paths = memory_kills._counter_paths(os.getpid())
    assert paths[-1] == "/proc/vmstat"
    assert all(path.startswith("/sys/fs/cgroup") for path in paths[:-1])
    assert memory_kills._count("/proc/vmstat") is not None
    assert memory_kills._counter_paths(2**22 + 1) == ["/proc/vmstat"]


def ended(code: int | None = None, number: int | None = None, *, oom: bool = False) -> ProcessEnd:
    return ProcessEnd(code, number, oom, "process 7 …", 5)


@pytest.mark.parametrize(
    ("end", "stop", "notice", "cause", "code"),
    [
        (ended(0), "", "", "PROCESS_EXITED", 0),
        (ended(3), "", "n", "PROCESS_EXITED", 3),
        (ended(), "", "", "PROCESS_VANISHED", None),
        (ended(number=2), "", "", "SIGNAL", 130),
        (ended(number=15), "", "", "SIGNAL", 143),
        (ended(number=1), "", "", "SIGNAL", 129),
        (ended(number=9), "", "", "PROCESS_VANISHED", 137),
        (ended(number=11), "s", "n", "PROCESS_VANISHED", 139),
        (ended(number=9, oom=True), "s", "n", "OUT_OF_MEMORY", 137),
        (ended(number=15), "", "n", "PREEMPTED", 143),
        (ended(number=9), "", "n", "PREEMPTED", 137),
        (ended(), "", "n", "PREEMPTED", None),
        (ended(number=9), "s", "n", "USER_REQUEST", 137),
        (ended(number=15), "s", "", "USER_REQUEST", 143),
        (ended(0), "s", "", "USER_REQUEST", 0),
    ],
)
def test_what_the_system_says_decides_the_cause(
    end: ProcessEnd, stop: str, notice: str, cause: str, code: int | None
) -> None:
    """The table of ends: exit code, signal, memory, a stop, an announced preemption."""
    ending = real_ending(end, last_sequence=4, stop_evidence=stop, preemption_notice=notice)
    assert (ending.cause, ending.exit_code, ending.last_sequence, ending.time_unix_ns) == (
        cause, code, 4, 5,
    )  # fmt: skip
    assert not ending.is_correction


@pytest.mark.parametrize(
    ("end", "is_other"),
    [
        (ended(number=15), False),
        (ended(number=9), False),
        (ended(number=9, oom=True), True),
        (ended(number=11), True),
        (ended(3), True),
    ],
)
def test_a_kernel_that_was_shut_down_may_be_killed(end: ProcessEnd, is_other: bool) -> None:
    """Who shuts a kernel down kills it after some seconds; a crash of it is one all the same."""
    fields = {"exit_code": 0, "cause": "PROCESS_EXITED", "is_of_kernel": True}
    told = told_ending(json.dumps(fields).encode(), last_sequence=9, time_unix_ns=1)
    assert is_contradicted(told, end) == is_other


@pytest.mark.parametrize(
    "cause", ["FINISH_CALLED", "UNHANDLED_EXCEPTION", "SIGNAL", "USER_REQUEST"]
)
def test_only_the_implicit_end_is_corrected(cause: str) -> None:
    """What a process says of finish(), an exception or a signal stands; what its exit says gives way to the system."""
    payload = json.dumps({"exit_code": 0, "cause": cause}).encode()
    told = told_ending(payload, last_sequence=9, time_unix_ns=1)
    assert not is_contradicted(told, ended(number=11))
    implicit = Ending("PROCESS_EXITED", 0, "", 1, 9)
    assert not is_contradicted(implicit, ended(0))
    assert not is_contradicted(implicit, ended())
    assert is_contradicted(implicit, ended(3)) and is_contradicted(implicit, ended(number=11))
    real = correction(implicit, ended(number=11))
    assert (real.cause, real.exit_code, real.last_sequence) == ("PROCESS_VANISHED", 139, 9)
    assert real.is_correction and "it had told of code 0" in real.evidence
