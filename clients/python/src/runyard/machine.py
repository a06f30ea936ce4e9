"""The machine under the training process: processor, memory, disk; and what wraps it: container, pod, Slurm job.

Reads a few small files of /proc and the environment, and starts no program: init() waits for it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

READ_BYTES_MAX = 64 << 10
"""Of each file; /proc/cpuinfo of a large machine has megabytes, and the kernel makes them as they are read."""
_CGROUP_ID = re.compile(r"[0-9a-f]{64}(?=$|\.scope|/)", re.MULTILINE)
_MOUNT_ID = re.compile(r"containers/([0-9a-f]{64})/")
_NAMESPACE_FILE = "var/run/secrets/kubernetes.io/serviceaccount/namespace"
_IMAGE_VARIABLES = ("CONTAINER_IMAGE", "DOCKER_IMAGE", "SLURM_CONTAINER_IMAGE")
_SLURM_VARIABLES = {
    "job_id": "SLURM_JOB_ID",
    "job_name": "SLURM_JOB_NAME",
    "partition": "SLURM_JOB_PARTITION",
    "node_count": "SLURM_JOB_NUM_NODES",
    "node_list": "SLURM_JOB_NODELIST",
    "array_job_id": "SLURM_ARRAY_JOB_ID",
    "array_task_id": "SLURM_ARRAY_TASK_ID",
}


def describe_machine(
    folder: str, environ: Mapping[str, str], root: Path = Path("/")
) -> dict[str, Any]:
    """Returns the facts `machine`, `container`, `kubernetes` and `slurm`; what is not so is left out.

    The disk is that of the folder; the system's files are looked for beneath `root`.
    """
    facts = {
        "machine": _hardware(folder, root),
        "container": container_facts(environ, root),
        "kubernetes": kubernetes_facts(environ, root),
        "slurm": slurm_facts(environ),
    }
    return {name: values for name, values in facts.items() if values}


def _hardware(folder: str, root: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "cpu_model": _after(_read(root / "proc/cpuinfo"), "model name"),
        "architecture": platform.machine(),
        "cpu_total": os.cpu_count() or 0,
        "memory_bytes": _kilobytes(_after(_read(root / "proc/meminfo"), "MemTotal")),
    }
    try:
        usage = shutil.disk_usage(folder or ".")
        facts.update(disk_bytes=usage.total, disk_free_bytes=usage.free)
    except OSError:
        pass  # the folder is gone
    return {name: value for name, value in facts.items() if value}


def container_facts(environ: Mapping[str, str], root: Path = Path("/")) -> dict[str, str]:
    """Returns `runtime`, `id` and `image` of the container that this process is in; {} outside of one."""
    podman = _read(root / "run/.containerenv")
    image = next((environ[name] for name in _IMAGE_VARIABLES if environ.get(name)), "")
    apptainer = environ.get("APPTAINER_CONTAINER") or environ.get("SINGULARITY_CONTAINER") or ""
    if apptainer:
        runtime = "apptainer"
    elif (root / "run/.containerenv").exists():
        runtime = "podman"
    elif (root / ".dockerenv").exists():
        runtime = "docker"
    else:
        runtime = environ.get("container", "")
    identity = _container_id(root)
    if not (runtime or identity):
        return {}
    facts = {
        "runtime": runtime,
        "id": identity or _quoted(podman, "id"),
        "image": image or apptainer or _quoted(podman, "image"),
    }
    return {name: value for name, value in facts.items() if value}


def kubernetes_facts(environ: Mapping[str, str], root: Path = Path("/")) -> dict[str, str]:
    """Returns `pod`, `namespace` and `node`, as far as the pod is told; {} outside of one."""
    if not environ.get("KUBERNETES_SERVICE_HOST"):
        return {}
    facts = {
        "pod": environ.get("POD_NAME") or environ.get("HOSTNAME") or "",
        "namespace": environ.get("POD_NAMESPACE") or _read(root / _NAMESPACE_FILE).strip(),
        "node": environ.get("NODE_NAME") or "",
    }
    return {name: value for name, value in facts.items() if value}


def slurm_facts(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns what Slurm says of the job; {} outside of one."""
    if not environ.get("SLURM_JOB_ID"):
        return {}
    found = {name: environ.get(variable, "") for name, variable in _SLURM_VARIABLES.items()}
    return {name: value for name, value in found.items() if value}


def _container_id(root: Path) -> str:
    """Returns the id from the cgroup's path, or from where the container's own /etc/hostname is mounted from.

    Only mounts on such files count: on the machine itself every container's folders are mounted too.
    """
    found = _CGROUP_ID.findall(_read(root / "proc/self/cgroup"))
    if found:
        return str(found[-1])
    for line in _read(root / "proc/self/mountinfo").splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and fields[4] in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
            mounted = _MOUNT_ID.search(fields[3])
            if mounted is not None:
                return mounted[1]
    return ""


def _after(text: str, name: str) -> str:
    """Returns what stands behind the name and its colon, on the first such line."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _kilobytes(text: str) -> int:
    number = text.split(" ")[0]
    return int(number) * 1024 if number.isdigit() else 0


def _quoted(text: str, name: str) -> str:
    """Returns the value of a line NAME="VALUE"."""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == name:
            return value.strip().strip('"')
    return ""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(READ_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
