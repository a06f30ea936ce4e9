"""The sampler of the machine: a made-up one for figures, and this one for what systems really say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runyard.agent.system.elsewhere import PsutilMachine
from runyard.agent.system.sampler import ProcessSampler, SystemSampler, mount_of
from runyard_server.domain.system_metrics import SystemSection, labels_of
from tests.unit.sdk.made_up_machine import MadeUpMachine

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path) -> MadeUpMachine:
    return MadeUpMachine(tmp_path)


def test_the_first_sample_has_no_rates(machine: MadeUpMachine) -> None:
    """What is a difference of two looks is left out of the first; what was counted since it began is 0."""
    machine.write_network({"eth0": (1000, 2000)})
    machine.write_disks({"sda": (10, 20)})
    assert machine.sampler().sample().metrics == {
        "system/load.1m": 0.5,
        "system/load.5m": 1.25,
        "system/memory_percent": 75.0,
        "system/memory.usedBytes": 0.75 * GIB,
        "system/proc.memory.availableMB": 256.0,
        "system/disk.sda.in": 0.0,
        "system/disk.sda.out": 0.0,
        "system/network.sent": 0.0,
        "system/network.recv": 0.0,
    }


def test_rates_are_differences(machine: MadeUpMachine) -> None:
    """CPU, disks and network are told by what changed since the last sample, divided by the time between."""
    machine.write_network({"eth0": (1000, 2000)})
    machine.write_disks({"sda": (10, 20)})
    sampler = machine.sampler()
    sampler.sample()
    machine.now_s += 10
    machine.write_cpu(busy=1500, idle=4500)
    machine.write_network({"eth0": (6000, 2000), "eth1": (7, 7)})
    machine.write_disks({"sda": (10 + 4096, 20)})
    metrics = sampler.sample().metrics
    assert metrics["system/cpu"] == 25.0
    assert metrics["system/network.sent"] == 5000
    assert metrics["system/network.sentRate"] == 500.0
    assert metrics["system/network.recvRate"] == 0.0
    assert metrics["system/disk.sda.in"] == 2.0
    assert metrics["system/disk.sda.inRate"] == 4096 * 512 / 10
    assert metrics["system/disk.sda.out"] == metrics["system/disk.sda.outRate"] == 0.0


def test_a_counter_that_began_anew_adds_nothing(machine: MadeUpMachine) -> None:
    """A total never falls and never jumps, though an interface or disk was taken away and came back."""
    sampler = machine.sampler()
    totals = []
    for sent in (1000, 1500, None, 90, 100):
        machine.write_network({} if sent is None else {"eth0": (sent, 0)})
        totals.append(sampler.sample().metrics.get("system/network.sent"))
        machine.now_s += 1
    assert totals == [0, 500, None, 500, 510]


def test_whole_disks_only(machine: MadeUpMachine) -> None:
    """Neither partitions nor devices above other devices are told, and at most 16."""
    names = ["loop0", "ram0", "sda", "sda1", "nvme0n1", "nvme0n1p2", "dm-0", "md0", "vdb", "mmcblk0p1"]  # fmt: skip
    machine.write_disks(dict.fromkeys(names, (1, 1)))
    told = {name for name in machine.sampler().sample().metrics if name.endswith(".in")}
    assert told == {f"system/disk.{name}.in" for name in ("sda", "nvme0n1", "vdb")}
    machine.write_disks({f"nvme{number}n1": (1, 1) for number in range(40)})
    assert len([name for name in machine.sampler().sample().metrics if ".in" in name]) == 16


def test_traffic_inside_the_machine_is_none(machine: MadeUpMachine) -> None:
    """Loopback and the interfaces of the machine's own containers do not count."""
    sampler = machine.sampler()
    machine.write_network({"lo": (0, 0), "veth1": (0, 0), "docker0": (0, 0), "ib0": (0, 0)})
    sampler.sample()
    machine.write_network({"lo": (9, 9), "veth1": (9, 9), "docker0": (9, 9), "ib0": (4, 5)})
    metrics = sampler.sample().metrics
    assert (metrics["system/network.sent"], metrics["system/network.recv"]) == (4, 5)


@pytest.mark.parametrize(
    "text", ["", "\n\n", "cpu ", "cpu x y z w\n", "a:b:c\n\0\n", "MemTotal: x kB"]
)
def test_what_cannot_be_read_is_absent(machine: MadeUpMachine, text: str) -> None:
    """Files of another shape, or none, leave their metrics out; nothing is raised, and nothing had to be caught."""
    sampler = machine.sampler()
    for name in (
        "stat",
        "meminfo",
        "loadavg",
        "diskstats",
        "net/dev",
        "7/stat",
        "7/io",
        "7/cgroup",
    ):
        machine.write(f"proc/{name}", text)
    for _ in range(2):
        node = sampler.sample()
        assert (node.metrics, dict(node.processes)) == ({}, {})
        assert ProcessSampler(7).sample(node) == {}
        machine.now_s += 1
    assert sampler.failure_count == 0


def test_no_machine_at_all(tmp_path: Path) -> None:
    """Without /proc there are no metrics but those of disks."""
    sampler = SystemSampler(("/",), proc_root=str(tmp_path / "none"), cgroup_root=str(tmp_path))
    assert set(sampler.sample().metrics) == {"system/disk./.usagePercent", "system/disk./.usageGB"}


def test_each_disk_is_told_once(tmp_path: Path) -> None:
    """Folders stand for the root of their mount; two on one disk are one, and a folder that is missing stands for the nearest."""
    mount = mount_of(str(tmp_path))
    paths = (str(tmp_path), str(tmp_path / "no" / "such"), mount)
    names = [name for name in SystemSampler(paths).sample().metrics if name.endswith("usageGB")]
    assert names == [f"system/disk.{mount}.usageGB"]


def test_every_metric_of_this_machine_has_a_row() -> None:
    """The server's table knows whatever this very machine tells, and the usual is told."""
    system, process = SystemSampler(("/",)), ProcessSampler(os.getpid())
    process.sample(system.sample())
    metrics = process.sample(system.sample())
    assert (system.failure_count, process.failure_count) == (0, 0)
    assert [name for name in metrics if labels_of(name).section == SystemSection.OTHER] == []
    usual = {"memory_percent", "load.1m", "proc.cpu", "proc.memory.rssMB", "disk./.usageGB"}
    assert {f"system/{name}" for name in usual} <= set(metrics)
    assert 0 <= metrics["system/memory_percent"] <= 100


def test_a_system_without_proc() -> None:
    """Through psutil the machine, this process and its start are told as well."""
    machine = PsutilMachine()
    reading = machine.read_node()
    assert reading.memory_total_bytes and reading.memory_available_bytes
    assert reading.cpu_total_s and reading.cpu_busy_s is not None and reading.cpu_count
    own = machine.read_processes()[os.getpid()]
    assert (own.pid, own.parent_pid, own.is_zombie) == (os.getpid(), os.getppid(), False)
    assert own.rss_bytes > 0 and own.thread_count > 0 and own.start_ticks > 0
    assert machine.disk_bytes_of(2**22 + 1) is None
