"""The program as a process: ready line, refusals at start, signals, and the child that must not outlive it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.yard import BIN, Part, clean_environment

ADDRESSES = [
    f"--set=addresses.{service}=127.0.0.1:1"
    for service in ("ingest", "query", "metadata", "monitor", "files")
]
GATEWAY = ["--target=gateway", *ADDRESSES]
WAIT_S = 20.0


def part(folder: Path, *arguments: str, name: str = "server") -> Part:
    """Returns a server over `folder`/data on free ports, not started."""
    defaults = ["--http=127.0.0.1:0", "--grpc=127.0.0.1:0"]
    command = [BIN / "runyard-server", f"--data-dir={folder / 'data'}", *defaults, *arguments]
    return Part(name, command, folder / f"{name}.log")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program to its end."""
    return subprocess.run(
        [BIN / "runyard-server", *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        cwd=folder,
        env=clean_environment({}),
        check=False,
    )


def addresses(server: Part) -> tuple[str, str]:
    """Returns the HTTP and the gRPC address of the ready line."""
    word, *pairs = server.ready_line.split()
    assert word == "ready"
    found = dict(pair.split("=", 1) for pair in pairs)
    return found["http"], found["grpc"]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Part]:
    server = part(tmp_path, *GATEWAY)
    server.launch()
    server.wait_ready()
    yield server
    if server.is_running:
        server.kill()


def test_sigterm_ends_with_zero(gateway: Part) -> None:
    """An orderly stop is quick and ends with 0; its log ends with that word."""
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 3
    assert json.loads(gateway.log_tail(1))["event"] == "process_stopped"


def test_second_server_on_the_folder_is_refused(gateway: Part, tmp_path: Path) -> None:
    """The refusal names the holder, ends with 1, and is the last log line."""
    assert gateway.process is not None
    ended = run(tmp_path, *GATEWAY, "--data-dir=data", "--http=127.0.0.1:0", "--grpc=127.0.0.1:0")
    last = json.loads(ended.stderr.splitlines()[-1])
    assert ended.returncode == 1
    assert last["event"] == "process_failed"
    assert f"in use by pid {gateway.process.pid}, started" in last["reason"]


def test_folder_is_free_after_kill(gateway: Part) -> None:
    """Kill -9 leaves nothing that keeps the next start out."""
    gateway.kill()
    gateway.launch()
    gateway.wait_ready()


@pytest.mark.parametrize("flag", ["http", "grpc"])
def test_taken_port_is_refused_with_its_holder(flag: str, tmp_path: Path) -> None:
    """A port that was asked for and is taken ends the start with the holder's pid and command."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = f"127.0.0.1:{held.getsockname()[1]}"
        other = "grpc" if flag == "http" else "http"
        ended = run(tmp_path, *GATEWAY, f"--{flag}={taken}", f"--{other}=127.0.0.1:0")
    assert ended.returncode == 1
    reason = json.loads(ended.stderr.splitlines()[-1])["reason"]
    assert f"cannot listen on {taken}: held by pid {os.getpid()}, started as" in reason


def test_other_addresses_than_loopback_are_refused(tmp_path: Path) -> None:
    """Nothing listens for the network before there are API keys; the refusal says so and ends with 2."""
    ended = run(tmp_path, "--http=0.0.0.0:8080", "--grpc=example.com:1")
    assert ended.returncode == 2
    assert "process.http: '0.0.0.0:8080' is not a loopback address" in ended.stderr
    assert "process.grpc: 'example.com:1' is not a loopback address" in ended.stderr
    assert "API keys come later" in ended.stderr


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    """A stop that waits (here a long shutdown delay) is cut short by a second signal."""
    server = part(tmp_path, *GATEWAY, "--set=lifecycle.shutdown_delay=60s")
    server.launch()
    server.wait_ready()
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    host = addresses(server)[0]
    _wait_for(lambda: _status(host, "/ready") == 503)
    time.sleep(0.5)  # Within 0.3 s it would count as the same signal come twice.
    server.process.send_signal(signal.SIGTERM)
    assert server.stop(5) == 128 + signal.SIGTERM


def test_attacks_over_a_real_socket(gateway: Part) -> None:
    """A rebound name, another origin and a cross-site image are refused on every path; this machine's curl is not."""
    host = addresses(gateway)[0]
    for path in ("/", "/ready", "/metrics", "/config", "/.well-known/runyard", "/assets/x.js"):
        assert _status(host, path, {"Host": "evil.example"}) == 403
        assert _status(host, path, {"Origin": "http://evil.example"}) == 403
        assert _status(host, path, {"Sec-Fetch-Site": "cross-site"}) == 403
    for path in ("/ready", "/metrics", "/config", "/.well-known/runyard"):
        assert _status(host, path) == 200


def test_well_known_tells_the_grpc_address(gateway: Part) -> None:
    """The agent learns everything else from the HTTP address."""
    host, grpc = addresses(gateway)
    connection = http.client.HTTPConnection(host, timeout=WAIT_S)
    connection.request("GET", "/.well-known/runyard")
    said = json.load(connection.getresponse())
    connection.close()
    assert said["grpc"] == grpc
    assert said["version"]


def test_local_s3_dies_with_its_parent(tmp_path: Path) -> None:
    """After kill -9 of the server no S3 server is left, and a restart finds its files, ports and keys again."""
    arguments = [
        "--target=files",
        "--set=addresses.metadata=127.0.0.1:1",
        "--set=addresses.ingest=127.0.0.1:1",
        "--set=addresses.query=127.0.0.1:1",
    ]
    server = part(tmp_path, *arguments)
    server.launch()
    server.wait_ready()
    assert server.process is not None
    (child,) = psutil.Process(server.process.pid).children()
    assert child.name() == "weed"
    ports = (tmp_path / "data" / "s3" / "ports.json").read_text()
    keys = tmp_path / "data" / "s3" / "s3.json"
    assert keys.stat().st_mode & 0o077 == 0
    secret = keys.read_text()
    server.kill()
    _wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    server.launch()
    server.wait_ready()
    assert (tmp_path / "data" / "s3" / "ports.json").read_text() == ports
    assert keys.read_text() == secret
    (child,) = psutil.Process(server.process.pid).children()
    assert server.stop() == 0
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_commands_that_only_tell(tmp_path: Path) -> None:
    """--list-targets, --verify-config and --print-config touch nothing on disk."""
    listed = run(tmp_path, "--list-targets")
    assert listed.stdout.split()[0] == "all"
    good = run(tmp_path, "--verify-config")
    assert (good.returncode, good.stderr) == (0, "")
    shown = json.loads(
        run(tmp_path, "--print-config", "--set=sql.url=postgresql://u:pw@h/d").stdout
    )
    assert shown["sql"]["url"] == "postgresql://u:(hidden)@h/d"
    bad = run(tmp_path, "--verify-config", "--set=ingest.nothing=1", "--set=rollup.interval=5")
    assert bad.returncode == 2
    assert "unknown key ingest.nothing" in bad.stderr and "rollup.interval is '5'" in bad.stderr
    assert list(tmp_path.iterdir()) == []


def _status(host: str, path: str, headers: dict[str, str] | None = None) -> int:
    connection = http.client.HTTPConnection(host, timeout=WAIT_S)
    try:
        connection.request("GET", path, headers={"Accept": "image/*", **(headers or {})})
        return connection.getresponse().status
    finally:
        connection.close()


def _wait_for(is_so: object) -> None:
    assert callable(is_so)
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s ({sys.platform})"
        time.sleep(0.02)
