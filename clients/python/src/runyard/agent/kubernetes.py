"""Asks Kubernetes why a pod is being ended: the only evidence that a SIGTERM in it is a preemption."""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH123

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping
from typing import Any

ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 4 << 20
CONDITION = "DisruptionTarget"
"""The condition of a pod that the cluster takes away: preempted, evicted, its node drained or going. Not of one that somebody deletes."""

_log = logging.getLogger("runyard.agent")


class Pod:
    """The pod that this process is in; `environment` and `folder` are what Kubernetes gives every container."""

    def __init__(
        self, environment: Mapping[str, str], hostname: str, folder: str = ACCOUNT_FOLDER
    ) -> None:
        self._host = environment.get("KUBERNETES_SERVICE_HOST", "")
        self._port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        self._is_asked = environment.get("RUNYARD_PREEMPTION", "auto") != "off"
        self._hostname = hostname
        self._folder = folder

    async def disruption(self) -> str:
        """Returns why the cluster takes the pod away; "" if it does not, this is no pod, or nobody may know.

        Needs a service account that may get its own pod. Returns within a few seconds and never raises.
        """
        if not self._host or not self._is_asked:
            return ""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(None, self._ask)
        except (
            Exception
        ) as error:  # no account, no right, no answer, an odd one: the end is told all the same
            _log.warning("pod_not_asked %s: %s", self._hostname, error)
            return ""

    def _ask(self) -> str:
        import urllib.parse
        import urllib.request

        namespace, token = self._read("namespace"), self._read("token")
        host = f"[{self._host}]" if ":" in self._host else self._host
        names = (urllib.parse.quote(name, safe="") for name in (namespace, self._hostname))
        url = "https://{}:{}/api/v1/namespaces/{}/pods/{}".format(host, self._port, *names)
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
        context = ssl.create_default_context(cafile=f"{self._folder}/ca.crt")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
            pod = json.loads(answer.read(ANSWER_BYTES_MAX))
        return disruption_of(pod)

    def _read(self, name: str) -> str:
        with open(f"{self._folder}/{name}", encoding="utf-8") as file:
            return file.read().strip()


def disruption_of(pod: Any) -> str:
    """Returns reason and message of the pod's disruption; "" if it has none."""
    status = pod.get("status") if isinstance(pod, dict) else None
    for condition in (status or {}).get("conditions") or ():
        if condition.get("type") == CONDITION and condition.get("status") == "True":
            reason = str(condition.get("reason") or CONDITION)
            message = str(condition.get("message") or "")
            return f"Kubernetes: {reason}" + (f" ({message})" if message else "")
    return ""
