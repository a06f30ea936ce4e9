"""The agent's process: one for each root, in the background, until nothing is left to send."""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH100

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runyard.agent.agent import Agent
from runyard.agent.budget import Budget
from runyard.agent.disk import LocalDisk
from runyard.agent.heartbeat import Heart
from runyard.agent.kubernetes import Pod
from runyard.agent.process_setup import is_named, set_up_log, take_lock
from runyard.agent.process_watch import LocalProcesses
from runyard.agent.retry import Reach, Repeater
from runyard.agent.world import Server, World

if TYPE_CHECKING:
    from runyard.agent.system_watch import SystemWatch

IDLE_EXIT_S = 15.0
DRAIN_S = 20.0
"""After SIGTERM runs are sent on for so long: a batch system ends all processes of a job at once, the agent among them."""
IN_FLIGHT_BYTES_MAX = 16 << 20
CLEAN_INTERVAL_S = 3600.0

_log = logging.getLogger("runyard.agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the agent; 0 also if another one serves the root already."""
    options = _parser().parse_args(arguments)
    root = os.path.abspath(options.root)
    lock = take_lock(root)
    if lock is None:
        return 0
    set_up_log(f"{root}/agent.log")
    _log.info("agent_started pid %d, root %s, server %s", os.getpid(), root, options.base_url)
    try:
        asyncio.run(_serve(root, lock, options))
        _log.info("agent_ended")
        code = 0
    except Exception:
        _log.exception("agent_failed: a bug; journals stay, the next agent goes on")
        code = 1
    logging.shutdown()
    # Threads that wait for a server which does not answer would keep the process for their whole timeout.
    os._exit(code)


async def _serve(root: str, lock: int, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stopped, hurried = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (hurried if stopped.is_set() else stopped).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    system = _system_watch()
    agent = Agent(
        root,
        base_url=options.base_url,
        world=World(
            LocalDisk(),
            Budget(IN_FLIGHT_BYTES_MAX),
            time.time_ns,
            processes=LocalProcesses(),
            pod=Pod(os.environ, socket.gethostname()),
            system=system,
        ),
        make_server=lambda url: make_server(url, api_key=api_key_for(url, options.base_url)),
        idle_exit_s=options.idle_exit_s,
        is_root_ours=functools.partial(is_named, f"{root}/agent.lock", os.fstat(lock)),
    )
    held: int | None = lock
    cleaning = loop.create_task(_clean_now_and_then(root))
    try:
        while held is not None and not stopped.is_set():
            serving = loop.create_task(agent.run())
            stopping = loop.create_task(stopped.wait())
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not serving.done():
                _log.info("agent_stopped by a signal")
                await agent.drain(DRAIN_S, hurried)
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                return
            await serving
            # A run that began just now found this agent's lock taken: look again without it.
            os.close(held)
            held = take_lock(root) if agent.has_new_work() else None
    finally:
        cleaning.cancel()
        await asyncio.wait_for(agent.stop(), 5.0)
        await system.close()


def _system_watch() -> SystemWatch:
    """Returns what samples this machine; imported here, so that the first run is not kept waiting."""
    from runyard.agent.system.amd import AmdSampler
    from runyard.agent.system.nvidia import NvidiaSampler
    from runyard.agent.system_watch import SystemWatch as Watch

    return Watch(gpus=(NvidiaSampler(), AmdSampler()), time_unix_ns=time.time_ns)


async def _clean_now_and_then(root: str) -> None:
    """Removes the journals that were kept for their days."""
    from runyard.journal_clean import remove_expired

    loop = asyncio.get_running_loop()
    while True:
        count = await loop.run_in_executor(None, remove_expired, Path(root))
        if count:
            _log.info("journals_expired %d run folders were removed", count)
        await asyncio.sleep(CLEAN_INTERVAL_S)


def make_server(base_url: str, *, api_key: str) -> Server:
    """Returns the real server of an address. MUST be called on the running loop."""
    from runyard.agent.transport import ServerTransport

    loop = asyncio.get_running_loop()
    transport = ServerTransport(base_url, api_key=api_key)
    reach = Reach(loop.time)
    agent_id = f"{socket.gethostname()[:96]}:{os.getpid()}"
    return Server(
        base_url=base_url,
        transport=transport,
        reach=reach,
        repeater=Repeater(reach, draw=random.random),
        heart=Heart(transport, reach, agent_id=agent_id),
    )


def api_key_for(base_url: str, own_base_url: str) -> str:
    """Returns the key for a server; another server than ours does not get ours."""
    is_own = base_url.rstrip("/") == own_base_url.rstrip("/")
    return os.environ.get("RUNYARD_API_KEY", "") if is_own else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runyard.agent", description=__doc__)
    parser.add_argument("--root", required=True, help="folder that holds run folders")
    parser.add_argument("--base-url", required=True, help="HTTP address of the server")
    parser.add_argument(
        "--idle-exit-s",
        type=float,
        default=IDLE_EXIT_S,
        help="ends after so long with nothing to do (default %(default)s)",
    )
    return parser
