"""Starts a runyard on this machine, trains the example against it, prints its links, and serves until Ctrl-C.

What `make run` calls. The server's log goes to DATA_DIR/server.log; its last lines are shown if it fails.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
EXAMPLE = CHECKOUT / "examples/digits.py"
START_TIMEOUT_S = 120.0
EXAMPLE_STOP_TIMEOUT_S = 30.0
SERVER_STOP_TIMEOUT_S = 60.0
PROGRESS_INTERVAL_S = 2.0
LOG_LINES_SHOWN = 25


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--http", default="127.0.0.1:8080", metavar="HOST:PORT")
    parser.add_argument("--grpc", default="127.0.0.1:8081", metavar="HOST:PORT")
    parser.add_argument("--data-dir", default=".runyard", type=Path, metavar="DIR")
    return asyncio.run(Demo(parser.parse_args()).run())


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server answers, as its ready line says."""

    http: str
    grpc: str


class ServerFailed(Exception):
    """The server ended, or did not become ready; the message says which."""


class Demo:
    """One server process, one training process, and the order in which they come and go."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.data_dir: Path = arguments.data_dir.resolve()
        self.log_path = self.data_dir / "server.log"
        self.log_bytes_before = 0
        self.stop_wanted = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop_wanted.set)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        server = await self.start_server()
        try:
            addresses = await self.wait_until_ready(server)
            if addresses is None:
                return 0
            say(f"ready: {link(addresses)} (gRPC on {addresses.grpc})")
            example_code = await self.train(server, addresses)
            if not self.stop_wanted.is_set():
                say(f"the run and its project: {link(addresses)}")
                say("serving until Ctrl-C")
                await self.first_of(asyncio.ensure_future(server.wait()))
            if server.returncode is not None:
                raise ServerFailed(f"the server ended with code {server.returncode}")
            return 1 if example_code else 0
        except ServerFailed as error:
            self.show_failure(str(error))
            return 1
        finally:
            await stop(server, signal.SIGTERM, SERVER_STOP_TIMEOUT_S, name="the server")

    async def start_server(self) -> asyncio.subprocess.Process:
        program = Path(sys.executable).parent / "runyard-server"
        say(f"starting the server: data in {self.data_dir}, log in {self.log_path}")
        with self.log_path.open("ab") as log:
            self.log_bytes_before = log.tell()
            return await asyncio.create_subprocess_exec(
                program,
                "--target=all",
                f"--data-dir={self.data_dir}",
                f"--http={self.arguments.http}",
                f"--grpc={self.arguments.grpc}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for us; we tell the children in order.
                start_new_session=True,
            )

    async def wait_until_ready(self, server: asyncio.subprocess.Process) -> Addresses | None:
        """Returns where the server answers; None if the user wants to stop before that."""
        began = time.monotonic()
        line = asyncio.ensure_future(read_ready_line(server))
        while not line.done():
            if await self.first_of(line, timeout_s=PROGRESS_INTERVAL_S):
                line.cancel()
                return None
            waited_s = time.monotonic() - began
            if waited_s > START_TIMEOUT_S:
                raise ServerFailed(f"the server was not ready after {START_TIMEOUT_S:.0f} s")
            if not line.done():
                say(f"still starting ({waited_s:.0f} s) ...")
        addresses = line.result()
        if addresses is None:
            raise ServerFailed(f"the server ended with code {await server.wait()}")
        return addresses

    async def train(self, server: asyncio.subprocess.Process, addresses: Addresses) -> int:
        """Returns the exit code of the example; 0 if the user stopped it."""
        say(f"training: {EXAMPLE.relative_to(CHECKOUT)}; watch it arrive at {link(addresses)}")
        example = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLE),
            stdin=asyncio.subprocess.DEVNULL,
            env={
                **os.environ,
                "RUNYARD_BASE_URL": f"http://{addresses.http}",
                "RUNYARD_DIR": str(self.data_dir / "journals"),
            },
            start_new_session=True,
        )
        try:
            ends = [asyncio.ensure_future(process.wait()) for process in (example, server)]
            if await self.first_of(*ends):
                return 0
            if server.returncode is not None:
                raise ServerFailed(f"the server ended with code {server.returncode}")
            code = await example.wait()
            if code:
                say(f"the example failed with code {code}; the server goes on")
            return code
        finally:
            await stop(example, signal.SIGINT, EXAMPLE_STOP_TIMEOUT_S, name="the training run")

    async def first_of(self, *tasks: asyncio.Future[Any], timeout_s: float | None = None) -> bool:
        """Waits for the first of these, a stop, or the time; returns whether a stop is wanted."""
        stop_task = asyncio.ensure_future(self.stop_wanted.wait())
        await asyncio.wait(
            [stop_task, *tasks], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        stop_task.cancel()
        return self.stop_wanted.is_set()

    def show_failure(self, message: str) -> None:
        say(f"error: {message}; the last lines of {self.log_path}:")
        log = self.log_path.read_bytes()[self.log_bytes_before :].decode(errors="replace")
        for line in log.splitlines()[-LOG_LINES_SHOWN:]:
            print(f"  {line}", file=sys.stderr)


async def read_ready_line(server: asyncio.subprocess.Process) -> Addresses | None:
    """Returns what the line `ready http=HOST:PORT grpc=HOST:PORT` says; None if the output ends without it."""
    assert server.stdout is not None
    while line := (await server.stdout.readline()).decode(errors="replace"):
        word, *pairs = line.split()
        if word == "ready":
            fields = dict(pair.split("=", 1) for pair in pairs)
            return Addresses(http=fields["http"], grpc=fields["grpc"])
    return None


async def stop(
    process: asyncio.subprocess.Process, number: signal.Signals, timeout_s: float, *, name: str
) -> None:
    """Asks the process to end and waits; kills it if it takes longer."""
    if process.returncode is not None:
        return
    say(f"stopping {name} ...")
    try:
        process.send_signal(number)
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        say(f"{name} did not stop within {timeout_s:.0f} s: killing it")
        process.kill()
        await process.wait()
    except ProcessLookupError:
        await process.wait()


def link(addresses: Addresses) -> str:
    return f"http://{addresses.http}/"


def say(message: str) -> None:
    print(f"make run: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
