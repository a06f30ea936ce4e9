"""Starts a runyard of real processes for a test: all in one, or each service in its own over one ClickHouse front.

A yard keeps its ports and its folder over kills and restarts, so that clients find it again. Everything it starts is
bounded: a start that takes too long fails with the logs, and `stop` kills what does not end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.ports import free_ports

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 40.0
CALL_TIMEOUT_S = 30.0
SERVICES = ("metadata", "ingest", "query", "monitor", "files")
SHAPES = ("all", "apart")


class YardError(Exception):
    """A process of the yard did not do as it should; the message holds the end of its log."""


class CallError(Exception):
    """A call over HTTP was refused; `status` is the HTTP status, `body` the Connect error."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.body = body


@dataclass
class Part:
    """One process of a yard, which can be killed and started again."""

    name: str
    command: Sequence[str | Path]
    log_path: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    ready_line: str = ""
    _log: IO[str] | None = None

    def launch(self) -> None:
        """Starts the process; `wait_ready` waits for it."""
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        self._log = self.log_path.open("a")
        self.process = subprocess.Popen(
            [str(word) for word in self.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=self.log_path.parent,
            env=clean_environment(self.environment),
        )

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when the process printed its ready line; raises YardError with its log if it does not."""
        assert self.process is not None and self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        deadline = time.monotonic() + timeout_s
        output = b""
        while time.monotonic() < deadline:
            output += self.process.stdout.read() or b""
            for line in output.splitlines(keepends=True):
                if line.startswith(b"ready ") and line.endswith(b"\n"):
                    self.ready_line = line.decode().strip()
                    return
            if self.process.poll() is not None:
                code = self._reap(0)
                raise YardError(f"{self.name} ended with {code}\n{self.log_tail()}")
            time.sleep(0.02)
        raise YardError(f"{self.name} was not ready after {timeout_s} s\n{self.log_tail()}")

    def kill(self) -> None:
        """Kills the process as the kernel would, without a word."""
        assert self.process is not None
        self.process.kill()
        self._reap(10)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Asks the process to end and returns its exit code; kills it and raises if it does not end."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self._reap(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise YardError(
                f"{self.name} did not end within {timeout_s} s of SIGTERM\n{self.log_tail()}"
            ) from None

    def _reap(self, timeout_s: float) -> int:
        assert self.process is not None
        code = self.process.wait(timeout_s)
        if self.process.stdout:
            self.process.stdout.close()
        if self._log:
            self._log.close()
        return code

    @property
    def is_running(self) -> bool:
        """True while the process lives."""
        return self.process is not None and self.process.poll() is None

    def log_tail(self, lines: int = 40) -> str:
        """Returns the last lines of what the process logged."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class Yard:
    """A runyard on this machine; see the module."""

    def __init__(self, folder: Path, shape: str = "all", *, settings: Sequence[str] = ()) -> None:
        assert shape in SHAPES
        self.folder = folder
        self.shape = shape
        self.settings = tuple(settings)
        folder.mkdir(parents=True, exist_ok=True)
        ports = free_ports(16)
        self.http = f"127.0.0.1:{ports.pop()}"
        self.grpc = f"127.0.0.1:{ports.pop()}"
        self.addresses: dict[str, str] = {}
        """Where each part that runs apart answers gRPC."""
        self.parts = self._one_process() if shape == "all" else self._apart(ports)

    @property
    def base_url(self) -> str:
        """What RUNYARD_BASE_URL is for this yard."""
        return f"http://{self.http}"

    def start(self) -> Yard:
        """Starts every part that does not run, and returns when all answer."""
        stopped = [part for part in self.parts.values() if not part.is_running]
        # The store's front is there before those that migrate it; the rest start at once.
        for group in ([p for p in stopped if p.name == "clickhouse"], stopped):
            started = [part for part in group if not part.is_running]
            for part in started:
                part.launch()
            try:
                for part in started:
                    part.wait_ready()
            except BaseException:
                self.kill()
                raise
        return self

    def stop(self) -> dict[str, int]:
        """Ends every part in order, edge first, and returns the exit codes."""
        running = [part for part in self.parts.values() if part.is_running]
        return {part.name: part.stop() for part in reversed(running)}

    def kill(self, *names: str) -> None:
        """Kills the named parts, or all, without a word."""
        for name, part in self.parts.items():
            if part.is_running and (not names or name in names):
                part.kill()

    def __enter__(self) -> Yard:
        return self.start()

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self.kill()

    def environment(self, journals: Path, **more: str) -> dict[str, str]:
        """Returns the environment of a script that logs into this yard, its journals beneath the folder."""
        own = {"RUNYARD_BASE_URL": self.base_url, "RUNYARD_DIR": str(journals)}
        return clean_environment({**own, **more})

    def call(self, method: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the reply of `query.v1.QueryService/QueryRuns` and the like, over HTTP in JSON."""
        body = json.dumps(request or {}).encode()
        http_request = urllib.request.Request(
            f"{self.base_url}/runyard.{method}",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(http_request, timeout=CALL_TIMEOUT_S) as reply:
                return dict(json.load(reply))
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            try:
                raise CallError(error.code, json.loads(text)) from None
            except json.JSONDecodeError:
                raise CallError(error.code, {"message": text}) from None

    def get(self, path: str) -> tuple[int, bytes]:
        """Returns status and body of a GET."""
        try:
            with urllib.request.urlopen(self.base_url + path, timeout=CALL_TIMEOUT_S) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def _one_process(self) -> dict[str, Part]:
        return {
            "server": self._server("server", "all", http=self.http, grpc=self.grpc, settings=())
        }

    def _apart(self, ports: list[int]) -> dict[str, Part]:
        store_port = ports.pop()
        addresses = {service: f"127.0.0.1:{ports.pop()}" for service in SERVICES}
        self.addresses = dict(addresses)
        routes = [f"{service}={address}" for service, address in addresses.items()]
        shared = [f"clickhouse.url=http://127.0.0.1:{store_port}"]
        parts = {
            "clickhouse": self._tool(
                "clickhouse", "clickhouse_front.py", "--path", self.folder / "clickhouse",
                "--port", str(store_port),
            )
        }  # fmt: skip
        for service in (*SERVICES, "gateway"):
            others = [f"addresses.{s}={a}" for s, a in addresses.items() if s != service]
            if service == "gateway":
                others.append(f"gateway.grpc_address={self.grpc}")
            parts[service] = self._server(
                service,
                service,
                http=self.http if service == "gateway" else f"127.0.0.1:{ports.pop()}",
                grpc=addresses.get(service) or f"127.0.0.1:{ports.pop()}",
                settings=[*shared, *others],
            )
        parts["ingress"] = self._tool("ingress", "ingress.py", "--listen", self.grpc, *routes)
        return parts

    def add_replica(self, name: str, service: str) -> None:
        """Adds a further process of a service that runs apart; `start` starts it. Nothing is routed to it."""
        http, address = (f"127.0.0.1:{port}" for port in free_ports(2))
        others = [f"addresses.{s}={self.addresses[s]}" for s in SERVICES if s != service]
        self.parts[name] = self._server(name, service, http=http, grpc=address, settings=others)
        self.addresses[name] = address

    def _server(
        self, name: str, target: str, *, http: str, grpc: str, settings: Sequence[str]
    ) -> Part:
        command: list[str | Path] = [
            BIN / "runyard-server",
            f"--target={target}",
            f"--data-dir={self.folder / name}",
            f"--http={http}",
            f"--grpc={grpc}",
            *(f"--set={setting}" for setting in (*settings, *self.settings)),
        ]
        return Part(name, command, self.folder / f"{name}.log")

    def _tool(self, name: str, script: str, *arguments: str | Path) -> Part:
        command = [sys.executable, Path(__file__).with_name(script), *arguments]
        return Part(name, command, self.folder / f"{name}.log")


ORIGIN_OFF = dict.fromkeys(
    ("RUNYARD_SAVE_CODE", "RUNYARD_SAVE_GIT", "RUNYARD_SAVE_REQUIREMENTS", "RUNYARD_SAVE_MACHINE"),
    "0",
)
"""What is found out beside the script comes some time: many tests count records and files, or processes, exactly."""


def clean_environment(more: dict[str, str]) -> dict[str, str]:
    """Returns this process's environment without anything of runyard's, with ORIGIN_OFF and then with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **ORIGIN_OFF, **more}
