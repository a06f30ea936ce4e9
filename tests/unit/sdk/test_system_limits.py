"""Limits of control groups: CPU and memory are told of what the process may use, not of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard.agent.system.sampler import ProcessSampler
from tests.unit.sdk.made_up_machine import MadeUpMachine

MIB = 1 << 20


@pytest.fixture
def machine(tmp_path: Path) -> MadeUpMachine:
    machine = MadeUpMachine(tmp_path)
    machine.write_process(7)
    return machine


def join(machine: MadeUpMachine, line: str) -> None:
    machine.write("proc/7/cgroup", line + "\n")


def limit_memory(
    machine: MadeUpMachine, group: str, limit: str, *, used: int = 0, inactive: int = 0
) -> None:
    machine.write(f"cgroup{group}/memory.max", f"{limit}\n")
    machine.write(f"cgroup{group}/memory.current", f"{used}\n")
    machine.write(f"cgroup{group}/memory.stat", f"anon 5\ninactive_file {inactive}\nfile 9\n")


def limit_cpu(machine: MadeUpMachine, group: str, limit: str, *, used_s: float = 0) -> None:
    machine.write(f"cgroup{group}/cpu.max", f"{limit}\n")
    machine.write(f"cgroup{group}/cpu.stat", f"usage_usec {round(used_s * 1e6)}\nuser_usec 1\n")


def memory_of(machine: MadeUpMachine) -> tuple[float, float, float]:
    metrics = ProcessSampler(7).sample(machine.sampler().sample())
    names = ("memory_percent", "memory.usedBytes", "proc.memory.availableMB")
    percent, used, available = (metrics[f"system/{name}"] for name in names)
    return percent, used / MIB, available


def test_memory_is_of_the_limit(machine: MadeUpMachine) -> None:
    """Memory is told of the group's limit, without pages of files that nobody used lately."""
    join(machine, "0::/job")
    limit_memory(machine, "/job", str(200 * MIB), used=120 * MIB, inactive=20 * MIB)
    assert memory_of(machine) == (50.0, 100.0, 100.0)
    metrics = ProcessSampler(7).sample(machine.sampler().sample())
    pages_bytes = metrics["system/proc.memory.rssMB"] * MIB
    assert metrics["system/proc.memory.percent"] == pytest.approx(100 * pages_bytes / (200 * MIB))


def test_the_tightest_limit_above_counts(machine: MadeUpMachine) -> None:
    """A group without a limit of its own is held by those above it, the tightest of them."""
    join(machine, "0::/a/b/c")
    limit_memory(machine, "/a/b/c", "max", used=1 * MIB)
    limit_memory(machine, "/a/b", str(400 * MIB), used=100 * MIB)
    limit_memory(machine, "/a", str(200 * MIB), used=150 * MIB)
    assert memory_of(machine) == (75.0, 150.0, 50.0)


def test_a_limit_above_the_machine_is_none(machine: MadeUpMachine) -> None:
    """Where the group may have more than there is, the machine is told."""
    join(machine, "0::/job")
    limit_memory(machine, "/job", str(4096 * MIB), used=120 * MIB)
    limit_cpu(machine, "/job", "400000 100000")
    assert memory_of(machine) == (75.0, 768.0, 256.0)


def test_what_is_left_is_never_more_than_the_machine_has(machine: MadeUpMachine) -> None:
    """A limit with much room does not promise what the machine has not got."""
    join(machine, "0::/job")
    limit_memory(machine, "/job", str(800 * MIB), used=80 * MIB)
    assert memory_of(machine) == (10.0, 80.0, 256.0)


@pytest.mark.parametrize("group", ["/", "/kubepods/pod1", "/../other"])
def test_inside_a_container_its_group_is_the_root(machine: MadeUpMachine, group: str) -> None:
    """Only the container's own group is mounted there, whatever path the kernel tells."""
    join(machine, f"0::{group}")
    limit_memory(machine, "", str(200 * MIB), used=100 * MIB)
    assert memory_of(machine) == (50.0, 100.0, 100.0)


def test_an_older_hierarchy(machine: MadeUpMachine) -> None:
    """In cgroup v1 the limits lie beside the controllers, and none is a huge number or -1."""
    join(machine, "9:name=systemd:/x\n4:memory:/job\n2:cpu,cpuacct:/job\n0::/")
    for group, limit in (("", 2**63 - 4096), ("/job", 200 * MIB)):
        machine.write(f"cgroup/memory{group}/memory.limit_in_bytes", f"{limit}\n")
        machine.write(f"cgroup/memory{group}/memory.usage_in_bytes", f"{120 * MIB}\n")
    machine.write(
        "cgroup/memory/job/memory.stat", f"inactive_file 1\ntotal_inactive_file {20 * MIB}\n"
    )
    machine.write("cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    machine.write("cgroup/cpu/job/cpu.cfs_quota_us", "50000\n")
    machine.write("cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    machine.write("cgroup/cpuacct/job/cpuacct.usage", "1000000000\n")
    system, process = machine.sampler(), ProcessSampler(7)
    process.sample(system.sample())
    machine.now_s += 10
    machine.write("cgroup/cpuacct/job/cpuacct.usage", "3000000000\n")
    assert process.sample(system.sample())["system/cpu"] == pytest.approx(40.0)
    assert memory_of(machine) == (50.0, 100.0, 100.0)


def test_cpu_is_of_the_limit(machine: MadeUpMachine) -> None:
    """CPU is what the group with the tightest limit used of it; the first sample has none, not the machine's instead."""
    join(machine, "0::/job/step")
    limit_cpu(machine, "/job", "150000 100000", used_s=100)
    limit_cpu(machine, "/job/step", "max 100000", used_s=7)
    system = machine.sampler()
    system.sample()
    process = ProcessSampler(7)
    machine.write_cpu(busy=1500, idle=4500)
    node = system.sample()
    assert node.metrics["system/cpu"] == 25.0
    assert "system/cpu" not in process.sample(node)
    machine.now_s += 10
    limit_cpu(machine, "/job", "150000 100000", used_s=112)
    assert process.sample(system.sample())["system/cpu"] == pytest.approx(80.0)


def test_a_process_that_moved_to_another_group(machine: MadeUpMachine) -> None:
    """The counters of two groups are not compared."""
    for group, used_s in (("/one", 1), ("/two", 500)):
        limit_cpu(machine, group, "100000 100000", used_s=used_s)
    system, process = machine.sampler(), ProcessSampler(7)
    told = []
    for group in ("/one", "/two", "/two"):
        join(machine, f"0::{group}")
        told.append(process.sample(system.sample()).get("system/cpu"))
        machine.now_s += 10
    assert told == [None, None, 0.0]


@pytest.mark.parametrize("text", ["", "x", "0::", "0", ":::::", "0::/" + "a/" * 500])
def test_groups_of_another_shape_limit_nothing(machine: MadeUpMachine, text: str) -> None:
    """What the kernel would not write is read as no limit."""
    join(machine, text)
    process = ProcessSampler(7)
    assert process.sample(machine.sampler().sample())["system/memory_percent"] == 75.0
    assert process.failure_count == 0
