"""A training machine of its own (a network namespace) whose link goes down, and whose way back vanishes without a word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.readback import readback
from tests.robustness import faults, traffic
from tests.robustness.far import FarYard, far_yard
from tests.robustness.faults import Proxy
from tests.robustness.traffic import Trainer, kill_agent
from tests.robustness.validate import check_run

ROWS, PAUSE_S = 500, 0.004
FAULT_S = 2.0
DEADLINE_S = 180.0
NUMBER = os.getpid() % 250
SPACE, HERE, THERE = f"ry{os.getpid()}", f"rya{os.getpid()}"[:15], f"ryb{os.getpid()}"[:15]
HERE_ADDRESS, THERE_ADDRESS = f"10.77.{NUMBER}.1", f"10.77.{NUMBER}.2"
FAULTS = {
    "link down": (
        f"ip -n {SPACE} link set {THERE} down",
        f"ip -n {SPACE} link set {THERE} up",
    ),
    "way back gone": (
        f"ip route add blackhole {THERE_ADDRESS}/32",
        f"ip route del blackhole {THERE_ADDRESS}/32",
    ),
}


WORDS = ("ip", "netns", "exec", SPACE)


@dataclass
class Apart:
    """A yard on this machine, and where its HTTP is reached on the other: servers answer to names of loopback only."""

    far: FarYard
    http: str


@contextmanager
def door(target: Proxy) -> Iterator[str]:
    """Gives an address of the other machine's loopback that leads to the proxy on this one."""
    process = subprocess.Popen(
        [*WORDS, sys.executable, faults.__file__, target.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate(timeout=10)


def ip(command: str) -> subprocess.CompletedProcess[str]:
    """Runs one command of iproute2."""
    return subprocess.run(command.split(), capture_output=True, text=True, timeout=20)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """Another machine, joined by a cable."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    made = ip(f"ip netns add {SPACE}")
    if made.returncode != 0:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    try:
        for command in (
            f"ip link add {HERE} type veth peer name {THERE}",
            f"ip link set {THERE} netns {SPACE}",
            f"ip addr add {HERE_ADDRESS}/24 dev {HERE}",
            f"ip link set {HERE} up",
            f"ip -n {SPACE} addr add {THERE_ADDRESS}/24 dev {THERE}",
            f"ip -n {SPACE} link set {THERE} up",
            f"ip -n {SPACE} link set lo up",
        ):
            done = ip(command)
            if done.returncode != 0:
                pytest.skip(f"no cable between namespaces here: {command}: {done.stderr.strip()}")
        with ExitStack() as doors:
            folder = tmp_path_factory.mktemp("namespaces")
            with far_yard(
                folder, host=HERE_ADDRESS, tell=lambda grpc: doors.enter_context(door(grpc))
            ) as far:
                yield Apart(far, doors.enter_context(door(far.http)))
    finally:
        ip(f"ip link del {HERE}")
        ip(f"ip netns del {SPACE}")


@pytest.mark.parametrize("name", FAULTS)
def test_a_machine_without_network_loses_nothing(name: str, machine: Apart, tmp_path: Path) -> None:
    """Training goes on without the network; when it is back, the run finishes, and all is readable, once."""
    breaks, heals = FAULTS[name]
    root = tmp_path / "runyard"
    environment = machine.far.yard.environment(root, RUNYARD_BASE_URL=f"http://{machine.http}")
    trainer = Trainer.start(
        "space-" + name.replace(" ", "-"), tmp_path, environment,
        rows=ROWS, pause_s=PAUSE_S, command=[*WORDS, sys.executable, traffic.__file__],
    )  # fmt: skip
    try:
        trainer.wait_for_rows(ROWS // 4, timeout_s=DEADLINE_S)
        done = ip(breaks)
        assert done.returncode == 0, done.stderr
        try:
            logged = trainer.rows_logged()
            time.sleep(FAULT_S)
            assert trainer.rows_logged() > logged
        finally:
            healed = ip(heals)
        assert healed.returncode == 0, healed.stderr
        assert trainer.process.wait(DEADLINE_S) == 0, trainer.log()
        with readback(machine.far.yard.grpc) as reader:
            reader.wait_for_state(trainer.path, "FINISHED", timeout_s=DEADLINE_S)
            assert check_run(reader, trainer) == ROWS
    finally:
        trainer.stop()
        kill_agent(root)
