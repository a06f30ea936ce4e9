"""The sampler of a training process: real families of processes, and made-up ones for exact figures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.agent.system.sampler import ProcessSampler, SystemSampler
from runyard.process_identity import start_ticks_of
from tests.unit.sdk.made_up_machine import MadeUpMachine

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")

# A parent with a child. Each line it reads is an order to the child; it answers when that is done.
PARENT = """
import os, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-uc", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
print(child.stdout.readline().strip(), flush=True)
for order in sys.stdin:
    child.stdin.write(order)
    child.stdin.flush()
    if order == "end\\n":
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        print("ended", flush=True)
    else:
        print(child.stdout.readline().strip(), flush=True)
"""
CHILD = """
import os, sys, threading, time
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(os.getpid())
for order in sys.stdin:
    if order == "end\\n":
        os._exit(0)
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    print("burnt")
"""


class Family:
    """A parent and its child, both real."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-uc", PARENT, CHILD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.pid = self.parent.pid
        self.child_pid = int(self._answer())

    def order(self, text: str) -> str:
        assert self.parent.stdin is not None
        self.parent.stdin.write(f"{text}\n")
        self.parent.stdin.flush()
        return self._answer()

    def close(self) -> None:
        try:
            os.killpg(self.parent.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # the test ended it
        self.parent.communicate()

    def _answer(self) -> str:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline().strip()


@pytest.fixture
def family() -> Iterator[Family]:
    family = Family()
    yield family
    family.close()


@pytest.fixture
def machine(tmp_path: Path) -> MadeUpMachine:
    return MadeUpMachine(tmp_path)


def test_a_tree_is_its_process_and_descendants(family: Family) -> None:
    """Count, threads, memory and CPU are those of parent and child together."""
    system, process = SystemSampler(()), ProcessSampler(family.pid)
    first = process.sample(system.sample())
    assert process.pids == {family.pid, family.child_pid}
    assert first["system/proc.count"] == 2
    assert first["system/proc.cpu.threads"] == 3
    assert first["system/proc.memory.rssMB"] > 8
    assert 0 < first["system/proc.memory.percent"] < 100
    assert "system/proc.cpu" not in first
    assert family.order("burn") == "burnt"
    second = process.sample(system.sample())
    assert second["system/proc.cpu"] > 1


def test_a_zombie_is_no_process_but_its_time_counts(family: Family) -> None:
    """A child that ended and was not waited for is left out of the count; its CPU time is not lost."""
    system, process = SystemSampler(()), ProcessSampler(family.pid)
    process.sample(system.sample())
    assert family.order("burn") == "burnt" and family.order("end") == "ended"
    metrics = process.sample(system.sample())
    assert metrics["system/proc.count"] == metrics["system/proc.cpu.threads"] == 1
    assert metrics["system/proc.cpu"] > 1


def test_a_process_that_ends_between_samples_is_absent(family: Family) -> None:
    """Once the process is gone there is nothing to record, be it a zombie or waited for."""
    system, process = SystemSampler(()), ProcessSampler(family.pid)
    assert process.sample(system.sample())
    node = system.sample()
    family.parent.kill()
    os.waitid(os.P_PID, family.pid, os.WEXITED | os.WNOWAIT)
    late = process.sample(node)
    assert "system/proc.memory.rssMB" in late, "as it was when the node was sampled"
    assert process.sample(system.sample()) == {} and not process.pids
    family.parent.wait()
    assert process.sample(system.sample()) == {}
    assert (system.failure_count, process.failure_count) == (0, 0)


def test_the_start_says_who_is_meant(family: Family) -> None:
    """A process of the same number that started at another time is not sampled, from the first sample on."""
    system, start = SystemSampler(()), start_ticks_of(family.pid)
    assert start is not None
    assert ProcessSampler(family.pid, start_ticks=start).sample(system.sample())
    assert ProcessSampler(family.pid, start_ticks=start + 1).sample(system.sample()) == {}


def test_a_pid_that_is_used_again_is_absent(machine: MadeUpMachine) -> None:
    """Whoever gets the number of a training process that ended is not taken for it, nor are its children."""
    system, process = machine.sampler(), ProcessSampler(7)
    machine.write_process(7, start=500)
    assert process.sample(system.sample())["system/proc.count"] == 1
    machine.write_process(7, start=600)
    machine.write_process(8, parent=7, start=601)
    assert process.sample(system.sample()) == {} and process.pids == frozenset()


def test_an_older_process_is_no_child(machine: MadeUpMachine) -> None:
    """A child that started before its parent is somebody else's: the parent's number was used again. A ring has an end."""
    machine.write_process(7, start=500)
    machine.write_process(8, parent=7, start=499)
    machine.write_process(9, parent=7, start=500)
    machine.write_process(7, parent=9, start=500)
    process = ProcessSampler(7)
    assert process.sample(machine.sampler().sample())["system/proc.count"] == 2
    assert process.pids == {7, 9}


def test_figures_of_a_tree(machine: MadeUpMachine) -> None:
    """100 % are one core; memory is of the machine's; bytes are since the processes began."""
    system, process = machine.sampler(), ProcessSampler(7)
    machine.write_process(7, cpu=100, io=(1000, 0))
    machine.write_process(8, parent=7, cpu=50, io=(500, 10))
    first = process.sample(system.sample())
    assert first["system/proc.memory.percent"] == 200 * os.sysconf("SC_PAGE_SIZE") * 100 / (1 << 30)
    assert first["system/proc.disk.readBytes"] == 1500
    machine.now_s += 10
    machine.write_process(7, cpu=400, io=(2000, 0))
    machine.write_process(8, parent=7, cpu=750, io=(500, 10_010))
    machine.write_process(9, parent=8, cpu=500, io=(0, 10_000))
    second = process.sample(system.sample())
    assert second["system/proc.cpu"] == pytest.approx(150.0)
    assert second["system/proc.disk.readRate"] == 100.0
    assert second["system/proc.disk.writeRate"] == 2000.0
    assert second["system/proc.disk.writeBytes"] == 20_010


@pytest.mark.parametrize(("reaped", "percent"), [(350, 40.0), (0, 10.0)])
def test_who_ended_between_samples(machine: MadeUpMachine, reaped: int, percent: float) -> None:
    """The time of a child that ended counts once its parent waited for it; nobody's end makes a rate negative."""
    system, process = machine.sampler(), ProcessSampler(7)
    machine.write_process(7, cpu=100, io=(1000, 0))
    machine.write_process(8, parent=7, cpu=50, io=(400, 0))
    process.sample(system.sample())
    machine.now_s += 10
    machine.end_process(8)
    machine.write_process(7, cpu=200, reaped=reaped, io=(1700, 0) if reaped else (1000, 0))
    metrics = process.sample(system.sample())
    assert metrics["system/proc.cpu"] == pytest.approx(percent)
    assert metrics["system/proc.disk.readBytes"] == (1700 if reaped else 1400)
    assert metrics["system/proc.disk.readRate"] == (30.0 if reaped else 0.0)


def test_bytes_of_a_zombie_count_once(machine: MadeUpMachine) -> None:
    """A zombie's counters may not be read; they are kept until its parent has them, and not counted again then."""
    system, process = machine.sampler(), ProcessSampler(7)
    machine.write_process(7, io=(0, 0))
    machine.write_process(8, parent=7, io=(400, 0))
    totals = [process.sample(system.sample())["system/proc.disk.readBytes"]]
    (machine.proc / "8" / "io").unlink()
    machine.write_process(8, parent=7, state="Z")
    totals.append(process.sample(system.sample())["system/proc.disk.readBytes"])
    machine.end_process(8)
    machine.write_process(7, io=(450, 0))
    totals.append(process.sample(system.sample())["system/proc.disk.readBytes"])
    assert totals == [400, 400, 450]


def test_bytes_that_may_not_be_read_are_absent(machine: MadeUpMachine) -> None:
    """Of a process of another user all is told but the bytes of disks."""
    machine.write_process(7)
    metrics = ProcessSampler(7).sample(machine.sampler().sample())
    assert metrics["system/proc.count"] == 1
    assert not [name for name in metrics if name.startswith("system/proc.disk")]


def test_a_sample_that_is_used_twice_has_no_rates(machine: MadeUpMachine) -> None:
    """No time went by between a sample and itself."""
    machine.write_process(7, cpu=100, io=(1, 1))
    process, node = ProcessSampler(7), machine.sampler().sample()
    assert process.sample(node) == process.sample(node)
