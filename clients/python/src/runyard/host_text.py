"""Where a run came from, as lines for a person: the facts of Api().run(path).metadata that matter at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from runyard.text_format import bytes_text, count_text

COMMIT_LENGTH = 10
_PLAIN = ("command", "working_directory", "hostname", "username", "os")


def host_lines(host: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns (name, text) of what is known, in the order in which it is asked for."""
    lines = [(name, str(host.get(name) or "")) for name in _PLAIN]
    python = f"{host.get('python_version') or ''} {host.get('python_executable') or ''}".strip()
    lines += [("python", python), ("client", str(host.get("client_version") or ""))]
    lines.append(("git", git_text(_facts(host, "git"))))
    for name in ("source", "requirements"):
        lines.append((name, _file_text(_facts(host, name))))
    machine = _facts(host, "machine")
    lines.append(("cpu", _cpu_text(machine, host.get("cpu_count"))))
    for name in ("memory", "disk"):
        size_bytes = machine.get(f"{name}_bytes")
        lines.append((name, bytes_text(size_bytes) if isinstance(size_bytes, int) else ""))
    lines.append(("gpu", gpu_text(_facts(host, "gpu"))))
    for name in ("container", "kubernetes", "slurm"):
        facts = _facts(host, name)
        lines.append((name, ", ".join(f"{key} {value}" for key, value in facts.items())))
    environment = _facts(host, "environment")
    lines.append(("environment", " ".join(f"{key}={value}" for key, value in environment.items())))
    return [(name, text) for name, text in lines if text]


def git_text(git: Mapping[str, Any]) -> str:
    """Returns branch, commit, what is changed, and the remote."""
    commit = str(git.get("commit") or "")[:COMMIT_LENGTH]
    words = [" at ".join(filter(None, (str(git.get("branch") or ""), commit)))]
    if git.get("is_dirty"):
        diff = git.get("diff")
        diff = diff if isinstance(diff, Mapping) else {}
        told = diff.get("file") or (
            f"diff not kept: {diff['problem']}" if "problem" in diff else ""
        )
        changed = count_text(int(git.get("changed_count") or 0), "file")
        words.append(f"{changed} changed" + (f" ({told})" if told else ""))
    words += [str(git.get("remote") or ""), str(git.get("problem") or "")]
    return ", ".join(filter(None, words))


def gpu_text(gpu: Mapping[str, Any]) -> str:
    """Returns how many there are of which, and the versions."""
    names = Counter(map(str, gpu.get("names") or ()))
    words = [f"{count} × {name}" for name, count in names.items()]
    for key, word in (("cuda_version", "CUDA"), ("driver_version", "driver")):
        if gpu.get(key):
            words.append(f"{word} {gpu[key]}")
    return ", ".join(words) or str(gpu.get("problem") or "")


def _cpu_text(machine: Mapping[str, Any], count: object) -> str:
    total = machine.get("cpu_total")
    number = f"{count} of {total}" if count and total and count != total else str(count or "")
    return " × ".join(filter(None, (number, str(machine.get("cpu_model") or ""))))


def _file_text(facts: Mapping[str, Any]) -> str:
    return str(facts.get("file") or facts.get("problem") or "")


def _facts(host: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    facts = host.get(name)
    return facts if isinstance(facts, Mapping) else {}
