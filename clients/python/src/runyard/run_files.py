"""Which files `run.save()` means, and what they are called in the run."""

from __future__ import annotations

import glob
import itertools
import os
import unicodedata
from collections.abc import Collection
from pathlib import Path

from runyard.errors import InvalidArgument

POLICIES = ("live", "end", "now")
FILE_NAME_BYTES_MAX = 1024
FILE_COUNT_MAX = 10_000
"""Files of the run's own folder that are taken up at its end."""


def check_policy(policy: str) -> str:
    """Returns the policy; raises InvalidArgument if it is none."""
    if policy not in POLICIES:
        raise InvalidArgument(
            f"save(): policy {policy!r} is not one of {', '.join(POLICIES)}", reason="FIELD_INVALID"
        )
    return policy


def files_to_save(pattern: str, base_path: str | None) -> list[tuple[Path, str]]:
    """Returns (absolute path, name in the run) of each file that the path or glob names, by name.

    Names are relative to `base_path`; without one, to the working directory, or for an absolute path to the folder
    of its last part. A folder stands for all files beneath it. Raises InvalidArgument for a name that cannot be.
    """
    if base_path is None:
        base = Path(pattern).parent if Path(pattern).is_absolute() else Path.cwd()
    else:
        base = Path(base_path)
    while glob.has_magic(str(base)):
        base = base.parent
    base = base.absolute()
    full_pattern = pattern if Path(pattern).is_absolute() else str(Path.cwd() / pattern)
    found: dict[str, Path] = {}
    for match in sorted(glob.glob(full_pattern, recursive=True)):  # noqa: PTH207 (a pattern may be absolute)
        path = Path(match)
        paths = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in paths:
            found[_name_in_run(file, base)] = Path(os.path.normpath(file))
    return [(path, name) for name, path in sorted(found.items())]


def new_files(folder: Path, known: Collection[Path]) -> list[tuple[Path, str]]:
    """Returns (path, name in the run) of the files in the run's own folder that are not known yet, by name."""
    found = itertools.islice((p for p in folder.rglob("*") if p.is_file()), FILE_COUNT_MAX)
    return [(path, _name_in_run(path, folder)) for path in sorted(found) if path not in known]


def _name_in_run(path: Path, base: Path) -> str:
    relative = os.path.relpath(path, base).replace(os.sep, "/")
    name = unicodedata.normalize("NFC", relative)
    if name.startswith("../") or name == "..":
        raise InvalidArgument(
            f"save(): {path} lies outside of {base}; give base_path= a folder above it",
            reason="FIELD_INVALID",
        )
    size_bytes = len(name.encode("utf-8", "surrogateescape"))
    if size_bytes > FILE_NAME_BYTES_MAX:
        raise InvalidArgument(
            f"save(): the name {name[:80]!r}… has {size_bytes} bytes, at most {FILE_NAME_BYTES_MAX} are allowed",
            reason="FIELD_INVALID",
        )
    return name
