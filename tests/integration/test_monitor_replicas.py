"""Three monitors that share the runs, as real processes: one is killed, one frozen; nobody who beats is called crashed."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from runyard_protos.monitor.v1 import monitor_pb2
from runyard_protos.monitor.v1.monitor_pb2_grpc import MonitorServiceStub
from tests.integration.yard import Yard

MONITORS = ("monitor", "monitor2", "monitor3")
TIMEOUT_S = 6.0
LEASE_S = 3.0
SETTINGS = (
    f"monitor.crash_timeout={TIMEOUT_S:g}s", f"monitor.lease={LEASE_S:g}s", "monitor.renew_interval=500ms",
    "monitor.stall_limit=2s", "monitor.sweep_interval=200ms", "monitor.refresh_interval=1s",
    "monitor.beat_interval_min=500ms", "monitor.beat_interval_max=1s", "monitor.lookup_timeout=500ms",
)  # fmt: skip
FOUND_LIMIT_S = TIMEOUT_S + 10.0
AFTER_DEATH_LIMIT_S = 2 * LEASE_S + FOUND_LIMIT_S


class Agents:
    """Beats for the living runs, each time at another monitor, as behind a proxy; repeats at the next one if one fails."""

    def __init__(self, addresses: list[str]) -> None:
        self._channels = [grpc.insecure_channel(address) for address in addresses]
        self._stubs = [MonitorServiceStub(channel) for channel in self._channels]
        self._turns = itertools.cycle(range(len(addresses)))
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._living: set[int] = set()
        self.unheard_beats = 0
        self._thread = threading.Thread(target=self._beat)

    @contextmanager
    def beating(self, run_keys: set[int]) -> Iterator[None]:
        """Beats for the runs until the block ends."""
        self._living = set(run_keys)
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(30)
            for channel in self._channels:
                channel.close()

    def forget(self, run_keys: set[int]) -> None:
        """Falls silent about the runs."""
        with self._lock:
            self._living -= run_keys

    def _beat(self) -> None:
        while not self._stop.wait(0.3):
            with self._lock:
                beats = [
                    monitor_pb2.Beat(run_key=key, writer=1, is_process_alive=True)
                    for key in sorted(self._living)
                ]
            request = monitor_pb2.HeartbeatRequest(agent_id="agent", beats=beats)
            if not any(self._is_taken(request) for _ in self._stubs):
                self.unheard_beats += 1

    def _is_taken(self, request: monitor_pb2.HeartbeatRequest) -> bool:
        try:
            answer = self._stubs[next(self._turns)].Heartbeat(request, timeout=1.5)
        except grpc.RpcError:
            return False
        assert not answer.unknown_run_keys
        return True


class Records:
    """What metadata says of the runs."""

    def __init__(self, address: str) -> None:
        self._stub = MetadataServiceStub(grpc.insecure_channel(address))

    def start_run(self, number: int) -> int:
        ask = metadata_pb2.StartRunRequest(
            request_id=f"{number:032x}", project="p", run_id=f"r{number}"
        )
        return int(self._stub.StartRun(ask, timeout=10).run.run_key)

    def states(self, run_keys: set[int]) -> set[str]:
        asks = [metadata_pb2.GetRunRequest(run_key=key) for key in sorted(run_keys)]
        found = [self._stub.GetRun(ask, timeout=10).run.state for ask in asks]
        return {metadata_pb2.RunState.Name(state).removeprefix("RUN_STATE_") for state in found}

    def wait_for(self, run_keys: set[int], states: set[str], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while (found := self.states(run_keys)) != states:
            assert time.monotonic() < deadline, f"after {limit_s} s the states are {found}"
            time.sleep(0.2)

    def stay(self, run_keys: set[int], state: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.states(run_keys) == {state}
            time.sleep(0.5)

    def crash_counts(self, count: int) -> list[int]:
        counts = []
        for number in range(count):
            ask = metadata_pb2.ListRunTransitionsRequest(run_path=f"local/p/r{number}")
            causes = [t.cause for t in self._stub.ListRunTransitions(ask, timeout=10).transitions]
            counts.append(causes.count(metadata_pb2.TRANSITION_CAUSE_HEARTBEAT_LOST))
        return counts


def live_count(address: str, count: int) -> int:
    """Returns how many of the runs a monitor says are live, its own and others'."""
    # Not the connection that the agents share, which waits ever longer between its tries while a monitor is away.
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        paths = [f"local/p/r{number}" for number in range(count)]
        ask = monitor_pb2.GetLivenessRequest(run_paths=paths)
        return len(MonitorServiceStub(channel).GetLiveness(ask, timeout=10).liveness)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path / "yard", "apart", settings=SETTINGS)
    for name in MONITORS[1:]:
        made.add_replica(name, "monitor")
    for name in set(made.parts) - {"clickhouse", "metadata", *MONITORS}:
        del made.parts[name]
    with made:
        yield made


def test_one_of_three_monitors_is_killed_and_one_frozen(yard: Yard) -> None:
    """I6 while a monitor is killed with -9 and comes back, and another is frozen for longer than its lease and thawed: the
    living stay running, each dead run is found, once.
    """
    records = Records(yard.addresses["metadata"])
    runs = [records.start_run(number) for number in range(36)]
    living, early, late = set(runs[:20]), set(runs[20:28]), set(runs[28:])
    addresses = [yard.addresses[name] for name in MONITORS]
    agents = Agents(addresses)
    with agents.beating(living | early | late):
        wait_until(lambda: all(live_count(at, len(runs)) == len(runs) for at in addresses))
        agents.forget(early)
        records.wait_for(early, {"CRASHED"}, FOUND_LIMIT_S)
        assert records.states(living | late) == {"RUNNING"}
        yard.parts["monitor2"].kill()
        agents.forget(late)
        records.wait_for(late, {"CRASHED"}, AFTER_DEATH_LIMIT_S)
        yard.start()
        records.stay(living, "RUNNING", TIMEOUT_S + 2 * LEASE_S)
        assert live_count(yard.addresses["monitor2"], len(runs)) == len(living)
        frozen = yard.parts["monitor3"].process
        assert frozen is not None
        frozen.send_signal(signal.SIGSTOP)
        try:
            records.stay(living, "RUNNING", TIMEOUT_S + 2 * LEASE_S)
        finally:
            frozen.send_signal(signal.SIGCONT)
        records.stay(living, "RUNNING", TIMEOUT_S)
    assert agents.unheard_beats == 0
    assert records.crash_counts(len(runs)) == [0] * 20 + [1] * 16


def wait_until(condition: Any, limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {limit_s} s"
        time.sleep(0.2)
