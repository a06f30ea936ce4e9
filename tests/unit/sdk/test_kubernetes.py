"""What the agent learns from Kubernetes of its own pod, over TLS, and what it makes of a cluster that tells nothing."""

from __future__ import annotations

import asyncio
import http.server
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard.agent.kubernetes import Pod, disruption_of

TAKEN = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for a better one"}  # fmt: skip


class Cluster:
    """An API server of one pod."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer: tuple[int, Any] = (200, {"status": {"conditions": []}})
        self.asked: list[tuple[str, str]] = []
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cluster.asked.append((self.path, str(self.headers["authorization"])))
                status, content = cluster.answer
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "ca.crt", folder / "key.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def disruption(self, **environment: str) -> str:
        """Asks as the agent does."""
        own = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.server.server_address[1]),
        }
        pod = Pod({**own, **environment}, "train-0", str(self.folder))
        return asyncio.run(pod.disruption())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1 "
        "-keyout key.pem -out ca.crt"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "namespace").write_text("team/a\n")
    (tmp_path / "token").write_text("secret\n")
    one = Cluster(tmp_path)
    yield one
    one.server.shutdown()
    one.server.server_close()


def test_a_pod_that_is_preempted(cluster: Cluster) -> None:
    """The condition's reason and message come back, asked of the own pod with the account's token."""
    cluster.answer = (
        200,
        {"status": {"conditions": [{"type": "Ready", "status": "False"}, TAKEN]}},
    )
    assert cluster.disruption() == "Kubernetes: PreemptionByScheduler (for a better one)"
    assert cluster.asked == [("/api/v1/namespaces/team%2Fa/pods/train-0", "Bearer secret")]
    assert cluster.disruption(RUNYARD_PREEMPTION="off") == ""
    assert cluster.disruption(KUBERNETES_SERVICE_HOST="") == ""


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, {"status": {"conditions": [{**TAKEN, "status": "False"}]}}),
        (200, {"status": {}}),
        (200, {}),
        (200, ["odd"]),
        (200, {"status": {"conditions": ["odd"]}}),
        (403, {"message": "pods is forbidden"}),
        (500, {}),
    ],
)
def test_a_pod_that_is_not_or_that_nobody_may_ask_about(
    cluster: Cluster, status: int, content: Any
) -> None:
    """A deletion by a person, no right to ask, a broken answer: no preemption, and no error."""
    cluster.answer = (status, content)
    assert cluster.disruption() == ""
    assert len(cluster.asked) == 1


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    """Without an account, or without a server, nobody is asked."""
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    assert asyncio.run(Pod(environment, "train-0", str(tmp_path)).disruption()) == ""


def test_another_cluster_is_not_trusted(cluster: Cluster, tmp_path: Path) -> None:
    """The server must show a certificate of the cluster's own authority."""
    cluster.answer = (200, {"status": {"conditions": [TAKEN]}})
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout k.pem -out ca.crt"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    assert cluster.disruption() == "" and not cluster.asked


def test_odd_pods() -> None:
    """Whatever an API server answers, it is read without an error."""
    assert disruption_of(None) == ""
    assert disruption_of({"status": None}) == ""
    assert disruption_of({"status": {"conditions": [{**TAKEN, "message": None}]}}) == (
        "Kubernetes: PreemptionByScheduler"
    )
