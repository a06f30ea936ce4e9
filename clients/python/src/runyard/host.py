"""Where and how the training process runs: what the run's overview shows of it."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from runyard import extended_json
from runyard.version import VERSION

COMMAND_LENGTH_MAX = 16_000


def describe_host() -> dict[str, Any]:
    """Returns the fields of metadata.v1.Host; what cannot be known is left out."""
    folder, git = _whereabouts()
    extra = {"git": git} if git else {}
    fields: dict[str, Any] = {
        "hostname": socket.gethostname(),
        "username": _username(),
        "os": platform.platform(),
        "python_version": platform.python_version(),
        "python_executable": sys.executable or "",
        "command": _command(),
        "working_directory": folder,
        "pid": os.getpid(),
        "client_version": f"runyard-python/{VERSION}",
        "cpu_count": _cpu_count(),
        "extra_json": extended_json.dumps(extra) if extra else "",
    }
    return {key: value for key, value in fields.items() if value}


def _whereabouts() -> tuple[str, dict[str, str]]:
    """Returns the working folder and the state of its repository; as much as there is and may be read."""
    folder = ""
    try:
        folder = str(Path.cwd())
        return folder, git_state(Path(folder))
    except OSError:  # the folder was removed, or one above it may not be searched
        return folder, {}


def git_state(folder: Path) -> dict[str, str]:
    """Returns commit, branch and remote of the repository around the folder, read from its files; {} outside of one."""
    for parent in (folder, *folder.parents):
        git = parent / ".git"
        if git.is_dir():
            return _read_git(git)
        if git.is_file():  # a worktree or submodule
            pointer = _read(git).partition("gitdir:")[2].strip()
            return _read_git((parent / pointer).resolve()) if pointer else {}
    return {}


def _read_git(git: Path) -> dict[str, str]:
    head = _read(git / "HEAD").strip()
    common = git / (_read(git / "commondir").strip() or ".")
    state: dict[str, str] = {}
    if head.startswith("ref:"):
        ref = head[4:].strip()
        state["branch"] = ref.removeprefix("refs/heads/")
        commit = _read(git / ref).strip() or _read(common / ref).strip() or _packed(common, ref)
    else:
        commit = head
    if commit:
        state["commit"] = commit
    remote = _remote(common)
    if remote:
        state["remote"] = remote
    return state if commit else {}


def _packed(git: Path, ref: str) -> str:
    for line in _read(git / "packed-refs").splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return ""


def _remote(git: Path) -> str:
    """Returns the address of "origin" without the credentials it may hold."""
    is_origin = False
    for line in _read(git / "config").splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            is_origin = stripped == '[remote "origin"]'
        elif is_origin and stripped.partition("=")[0].strip() == "url":
            url = stripped.partition("=")[2].strip()
            scheme, separator, rest = url.partition("://")
            return f"{scheme}://{rest.rpartition('@')[2]}" if separator else url
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _username() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError, OSError):
        return ""


def _command() -> str:
    arguments = getattr(sys, "orig_argv", None) or [sys.executable or "python", *sys.argv]
    return shlex.join(arguments)[:COMMAND_LENGTH_MAX]


def _cpu_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0
