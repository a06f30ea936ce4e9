"""Times the monitor: heartbeats through the real gRPC handler and through the table alone, memory, and the CPU of 100,000 live runs.

Usage: python bench/bench_monitor.py [--out FILE] [--runs N] [--seconds N]

The measured process is the monitor: its service with all background work behind a real listener. A second process plays the
agents and metadata over real gRPC, so that its work is not counted. The baseline of the handler is the table alone.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
from figure import Result

from runyard_protos.metadata.v1 import metadata_pb2, metadata_pb2_grpc
from runyard_protos.monitor.v1 import monitor_pb2 as pb
from runyard_protos.monitor.v1 import monitor_pb2_grpc as pb_grpc
from runyard_server.domain.addresses import Address
from runyard_server.domain.beats import Beat
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.run import LiveRun, RunKey, RunState
from runyard_server.monitor.config import MonitorConfig
from runyard_server.monitor.liveness import LivenessTable
from runyard_server.monitor.service import MonitorService, build
from runyard_server.monitor.watched import LivenessRules
from runyard_server.rpc.interceptors import EdgeConfig
from runyard_server.rpc.listener import Listener, ListenerConfig
from runyard_server.rpc.monitor_peers import MonitorPeers
from runyard_server.rpc.siblings import Siblings, SiblingsConfig

FIRST_KEY = 7_507_804_160_000_000_000
BATCHES = (10_000, 1_000, 100, 1)
BEAT_INTERVAL_S = 10.0
AGENTS = 100
MESSAGE_BYTES_MAX = 64 * 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--fleet", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fleet:
        asyncio.run(play_fleet(options.runs))
        return
    results = [time_table(options.runs)]
    results += asyncio.run(measure(options.runs, options.seconds, results[0].value))
    for result in results:
        print(f"{result.name:70} {result.value:14,.2f} {result.unit}")
    if options.out:
        options.out.write_text(json.dumps([r.as_json() for r in results], indent=2) + "\n")


# ---- the measured process ---------------------------------------------------------------------------------------------


def time_table(run_count: int) -> Result:
    """Times the table alone: beats that are in memory already, in the order of agents."""
    table = LivenessTable(LivenessRules(crash_timeout_s=60.0))
    for key in run_keys(run_count):
        run = LiveRun(RunKey(key), f"bench/p/{key}", RunState.RUNNING, 1)
        table.learn(run, now_s=0.0, now_unix_ns=0)
    rounds = 10
    spent_s = 0.0
    for number in range(rounds):
        beats = [
            Beat(RunKey(key), 1, True, number, number * 10, number * 10)
            for key in run_keys(run_count)
        ]
        began_s = time.process_time()
        for first in range(0, run_count, 10_000):
            table.note_beats(
                beats[first : first + 10_000], agent_id="a", now_s=float(number), now_unix_ns=number
            )
        spent_s += time.process_time() - began_s
    return Result("heartbeats per core and second, table alone", rounds * run_count / spent_s, "/s")


async def measure(run_count: int, seconds: float, table_rate: float) -> list[Result]:
    """Measures the service in this process while the fleet beats from another."""
    fleet = Fleet(run_count)
    try:
        address = await fleet.start()
        before_bytes = resident_bytes()
        async with serve(address) as (service, own_address):
            await until(lambda: len(service.table) == run_count)
            await fleet.ask("flood", own_address, batch=10_000, seconds=1.0, each_once=True)
            gc.collect()
            per_run_bytes = (resident_bytes() - before_bytes) / run_count
            results = [
                Result("memory per live run, one writer each", per_run_bytes, "bytes"),
            ]
            for batch in BATCHES:
                began_s = time.process_time()
                sent = await fleet.ask("flood", own_address, batch=batch, seconds=5.0)
                rate = sent / (time.process_time() - began_s)
                name = f"heartbeats per core and second through gRPC, {batch:,} a message"
                results.append(Result(name, rate, "/s", "table alone", table_rate))
            began_s, began_wall_s = time.process_time(), time.monotonic()
            await fleet.ask("pace", own_address, seconds=seconds)
            share = (time.process_time() - began_s) / (time.monotonic() - began_wall_s)
            name = f"CPU of {run_count:,} live runs, a beat each {BEAT_INTERVAL_S:g} s"
            results.append(Result(name, share, "cores", target=0.5, is_met=share < 0.5))
            lost = service.roster.heard_until_s(time.monotonic()) < time.monotonic() - 1.0
            assert len(service.table) == run_count and not lost, "a run was lost under load"
        return results
    finally:
        await fleet.stop()


@asynccontextmanager
async def serve(metadata_address: str) -> AsyncIterator[tuple[MonitorService, str]]:
    """Runs the service behind a listener until the block ends."""
    clock = SystemClock()
    siblings = Siblings(SiblingsConfig(), clock=clock)
    siblings.connect({"metadata": metadata_address})
    listener = Listener(ListenerConfig(), EdgeConfig(), clock=clock)
    address = str(listener.bind(Address("127.0.0.1", 0), is_explicit=True))
    service = build(
        MonitorConfig(),
        siblings=siblings,
        peers=MonitorPeers(siblings),
        clock=clock,
        address=address,
    )
    listener.register([service])
    await listener.start()
    running = asyncio.create_task(service.run())
    try:
        yield service, address
    finally:
        running.cancel()
        await asyncio.wait([running])
        await listener.stop(1.0)
        await siblings.close()


async def until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  # what is waited for is the service's own memory
            await asyncio.sleep(0.05)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run_keys(count: int) -> range:
    return range(FIRST_KEY, FIRST_KEY + count * 977, 977)


class Fleet:
    """The other process, as this one speaks to it: a line of JSON for each order, and for its answer."""

    def __init__(self, run_count: int) -> None:
        self._run_count = run_count
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Starts it and returns where its metadata answers."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--fleet", f"--runs={self._run_count}",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        return str(await self._answer())

    async def ask(self, order: str, address: str, **arguments: object) -> int:
        """Has it beat, and returns how many beats were answered."""
        assert self._process is not None and self._process.stdin is not None
        line = json.dumps({"order": order, "address": address, **arguments}) + "\n"
        self._process.stdin.write(line.encode())
        await self._process.stdin.drain()
        return int(await self._answer())

    async def stop(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    async def _answer(self) -> Any:
        assert self._process is not None and self._process.stdout is not None
        return json.loads(await self._process.stdout.readline())


# ---- the other process: agents and metadata ---------------------------------------------------------------------------


class Metadata(metadata_pb2_grpc.MetadataServiceServicer):
    """As much of metadata as the monitor asks for while all is well; every run lives."""

    def __init__(self, run_count: int) -> None:
        runs = [
            metadata_pb2.LiveRun(
                run_key=key,
                path=f"bench/p/{key}",
                state=metadata_pb2.RUN_STATE_RUNNING,
                attempt_count=1,
            )
            for key in run_keys(run_count)
        ]
        self._pages = [
            metadata_pb2.ListLiveRunsResponse(runs=runs[first : first + 10_000])
            for first in range(0, run_count, 10_000)
        ]
        for number, page in enumerate(self._pages[:-1], 1):
            page.next_page_token = str(number)

    async def ListLiveRuns(self, request: Any, context: Any) -> Any:
        return self._pages[int(request.page_token or 0)]

    async def ListStopRequests(self, request: Any, context: Any) -> Any:
        return metadata_pb2.ListStopRequestsResponse()

    async def RecordHeartbeats(self, request: Any, context: Any) -> Any:
        return metadata_pb2.RecordHeartbeatsResponse()

    async def RenewMonitorReplica(self, request: Any, context: Any) -> Any:
        replica = metadata_pb2.MonitorReplica(
            replica_id=request.replica_id, address=request.address
        )
        return metadata_pb2.RenewMonitorReplicaResponse(replicas=[replica])


async def play_fleet(run_count: int) -> None:
    """Does what the lines of standard input order."""
    server = grpc.aio.server()
    metadata_pb2_grpc.add_MetadataServiceServicer_to_server(Metadata(run_count), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps(f"127.0.0.1:{port}"), flush=True)
    orders: dict[str, Callable[..., Awaitable[int]]] = {"flood": flood, "pace": pace}
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        async with grpc.aio.insecure_channel(order.pop("address")) as channel:
            stub = pb_grpc.MonitorServiceStub(channel)
            print(await orders[order.pop("order")](stub, run_count, **order), flush=True)


async def flood(
    stub: Any, run_count: int, *, batch: int, seconds: float, each_once: bool = False
) -> int:
    """Beats as fast as it is answered; messages are made before."""
    keys = list(run_keys(run_count))
    messages = [
        request(keys[first : first + batch], step=1)
        for first in range(0, min(run_count, batch * 200), batch)
    ]
    until_s = time.monotonic() + seconds
    sent = 0
    waiting = 4 if batch >= 1000 else 32

    async def beat(number: int) -> None:
        nonlocal sent
        while time.monotonic() < until_s:
            for message in messages[number::waiting]:
                await stub.Heartbeat(message, timeout=30)
                sent += len(message.beats)
                if time.monotonic() >= until_s and not each_once:
                    return
            if each_once:
                return

    await asyncio.gather(*(beat(number) for number in range(waiting)))
    return sent


async def pace(stub: Any, run_count: int, *, seconds: float) -> int:
    """Beats for every run each ten seconds, as a hundred agents would, their beats spread over the time."""
    keys = list(run_keys(run_count))
    share = -(-run_count // AGENTS)
    sent = 0

    async def agent(number: int) -> None:
        nonlocal sent
        own = keys[number * share : (number + 1) * share]
        await asyncio.sleep(BEAT_INTERVAL_S * number / AGENTS)
        for step in range(2, 2 + round(seconds / BEAT_INTERVAL_S)):
            began_s = time.monotonic()
            await stub.Heartbeat(request(own, step=step), timeout=30)
            sent += len(own)
            await asyncio.sleep(max(0.0, BEAT_INTERVAL_S - (time.monotonic() - began_s)))

    await asyncio.gather(*(agent(number) for number in range(AGENTS)))
    return sent


def request(keys: list[int], *, step: int) -> pb.HeartbeatRequest:
    beats = [
        pb.Beat(
            run_key=key,
            writer=1,
            is_process_alive=True,
            last_step=step,
            records_written=step * 10,
            records_durable=step * 10,
        )
        for key in keys
    ]
    return pb.HeartbeatRequest(agent_id=f"agent-{keys[0]}", beats=beats)


if __name__ == "__main__":
    main()
