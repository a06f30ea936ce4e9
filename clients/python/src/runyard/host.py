"""Where and how the training process runs, as far as it can be told at once; see runyard.origin for what takes longer."""

from __future__ import annotations

import fnmatch
import os
import platform
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runyard import extended_json, machine
from runyard.console.redaction import is_secret_name, redact_addresses, redact_arguments
from runyard.settings import ResolvedSettings
from runyard.version import VERSION

COMMAND_LENGTH_MAX = 16_000
"""Characters of the command line, and of the arguments together."""
VARIABLE_LENGTH_MAX = 4_096
VARIABLE_COUNT_MAX = 256


def describe_host(settings: ResolvedSettings, environ: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields of metadata.v1.Host that the settings do not switch off; what cannot be known is left out."""
    folder = working_folder()
    fields: dict[str, Any] = {
        "hostname": socket.gethostname(),
        "username": _username(),
        "os": platform.platform(),
        "python_version": platform.python_version(),
        "python_executable": sys.executable or "",
        "command": _command() if settings.save_command else "",
        "working_directory": folder,
        "pid": os.getpid(),
        "client_version": f"runyard-python/{VERSION}",
        "cpu_count": _cpu_count() if settings.save_machine else 0,
    }
    extra = _extra(folder, settings, environ)
    if extra:
        fields["extra_json"] = extended_json.dumps(extended_json.plain(extra))
    return {key: value for key, value in fields.items() if value}


def _extra(folder: str, settings: ResolvedSettings, environ: Mapping[str, str]) -> dict[str, Any]:
    """Returns the facts that Host.extra_json holds from the start."""
    extra: dict[str, Any] = {}
    if settings.save_command:
        extra["program"] = program()
        extra["arguments"] = _cut(redact_arguments(sys.argv[1:]))
    if settings.save_git:
        extra["git"] = git_state(Path(folder)) if folder else {}
    if settings.save_machine:
        extra.update(machine.describe_machine(folder, environ))
    if settings.save_environment:
        extra["environment"] = environment_facts(environ, settings.environment_names)
    extra["sampling"] = _sampling(settings)
    return {key: value for key, value in extra.items() if value}


def _sampling(settings: ResolvedSettings) -> dict[str, Any]:
    """Returns how the machine is sampled, where that is not as usual: who finds no system metrics wants to know why."""
    facts: dict[str, Any] = {}
    if settings.system_interval_s != ResolvedSettings.system_interval_s:
        facts["interval_s"] = settings.system_interval_s
    if settings.mode == "offline":
        facts["is_offline"] = True
    return facts


def working_folder() -> str:
    """Returns the working directory; "" where it was removed, or one above it may not be searched."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def program() -> str:
    """Returns the script's absolute path, "-m MODULE" for a module, "" where there is neither (a prompt, a notebook)."""
    main = sys.modules.get("__main__")
    module = str(getattr(getattr(main, "__spec__", None), "name", None) or "")
    if module:
        return f"-m {module.removesuffix('.__main__')}"
    file = getattr(main, "__file__", None)
    return os.path.abspath(file) if isinstance(file, str) else ""  # noqa: PTH100 (links stay)


def environment_facts(environ: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Returns the variables that the names and globs allow, by name, but for those that look like credentials."""
    allowed = sorted(
        name
        for name in environ
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in names) and not is_secret_name(name)
    )
    return {
        name: redact_addresses(environ[name])[:VARIABLE_LENGTH_MAX]
        for name in allowed[:VARIABLE_COUNT_MAX]
    }


def git_state(folder: Path) -> dict[str, str]:
    """Returns commit, branch and remote of the repository around the folder, read from its files; {} outside of one."""
    try:
        for parent in (folder, *folder.parents):
            git = parent / ".git"
            if git.is_dir():
                return _read_git(git)
            if git.is_file():  # a worktree or submodule
                pointer = _read(git).partition("gitdir:")[2].strip()
                return _read_git((parent / pointer).resolve()) if pointer else {}
    except OSError:  # one of the folders may not be searched
        pass
    return {}


def without_credentials(address: str) -> str:
    """Returns the address of a repository without the user and password that it may hold."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


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
            return without_credentials(stripped.partition("=")[2].strip())
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
    return shlex.join(redact_arguments(arguments))[:COMMAND_LENGTH_MAX]


def _cut(arguments: Sequence[str]) -> list[str]:
    """Returns the first arguments, as many as have room; the last one says what is left out."""
    kept: list[str] = []
    length = 0
    for index, argument in enumerate(arguments):
        length += len(argument)
        if length > COMMAND_LENGTH_MAX:
            return [*kept, f"… {len(arguments) - index} more"]
        kept.append(argument)
    return kept


def _cpu_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0
