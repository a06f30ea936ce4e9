"""Which files `run.save()` means, and what they are called in the run."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Collection
from pathlib import Path
from typing import Callable

from runyard.errors import InvalidArgument
from runyard.file_names import name_problem, normal_name
from runyard.file_search import FILES_MAX, find, walk
from runyard.given import shown

POLICIES = ("live", "end", "now")
FILE_COUNT_MAX = 10_000
"""Files of the run's own folder that are taken up at its end."""

Warn = Callable[[str, str], None]
"""Says a warning once per key."""


def check_policy(policy: object) -> str:
    """Returns the policy; raises InvalidArgument if it is none."""
    if not isinstance(policy, str) or policy not in POLICIES:
        raise InvalidArgument(
            f"save(): policy {shown(policy)} is not one of {', '.join(POLICIES)}",
            reason="FIELD_INVALID",
        )
    return policy


def files_to_save(pattern: str, base_path: str | None, warn: Warn) -> list[tuple[Path, str]]:
    """Returns (absolute path, name in the run) of each file that the path or glob names, by name.

    Names are relative to `base_path`; without one, to the working directory, or for an absolute path to the folder
    of its last part. A folder stands for all files beneath it. What is no file, and what a glob or folder holds under a name
    that cannot be, is passed over with a warning; a path given by itself with such a name raises InvalidArgument.
    """
    if base_path is None:
        base = Path(pattern).parent if Path(pattern).is_absolute() else Path.cwd()
    else:
        base = Path(base_path)
    while glob.has_magic(str(base)):
        base = base.parent
    base = base.absolute()
    full_pattern = pattern if Path(pattern).is_absolute() else str(Path.cwd() / pattern)
    found = find(full_pattern)
    for path, why in found.passed_over:
        warn(f"save.{path}", f"save(): {shown(str(path))} is passed over: {why}")
    if found.is_cut:
        warn(
            f"save.{pattern}",
            f"save(): {pattern!r} names more than {FILES_MAX:,} files; the others are passed over",
        )
    named: dict[str, Path] = {}
    for path in found.paths:
        name = _name_in_run(path, base)
        problem = name_problem(name)
        if problem and str(path) == full_pattern:
            raise InvalidArgument(
                f"save(): the name {shown(name)} {problem}", reason="FIELD_INVALID"
            )
        if problem:
            warn(f"save.{path}", f"save(): a file is passed over: its name {shown(name)} {problem}")
        else:
            named[name] = Path(os.path.normpath(path))
    return [(path, name) for name, path in sorted(named.items())]


def new_files(folder: Path, known: Collection[Path]) -> list[tuple[Path, str]]:
    """Returns (path, name in the run) of the files in the run's own folder that are not known yet, by name."""
    found = itertools.islice((p for p in walk(folder) if p.is_file()), FILE_COUNT_MAX)
    named = [(path, _name_in_run(path, folder)) for path in sorted(found) if path not in known]
    return [(path, name) for path, name in named if not name_problem(name)]


def _name_in_run(path: Path, base: Path) -> str:
    relative = os.path.relpath(path, base)
    if os.sep != "/":
        relative = relative.replace(os.sep, "/")
    name = normal_name(relative)
    if name.startswith("../") or name == "..":
        raise InvalidArgument(
            f"save(): {path} lies outside of {shown(str(base))}; give base_path= a folder above it",
            reason="FIELD_INVALID",
        )
    return name
