"""Finds the files that a path or glob of `run.save()` means; ends for any tree: links in a circle, pipes, devices."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

FILES_MAX = 100_000
"""Files that one call takes up."""


class Found:
    """What a search found: regular files by path, and why others are passed over."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.passed_over: list[tuple[Path, str]] = []
        self.is_cut = False

    def take(self, path: Path) -> None:
        """Adds a file, or the reason why it cannot be one."""
        if len(self.paths) >= FILES_MAX:
            self.is_cut = True
            return
        try:
            mode = path.stat().st_mode
        except OSError as error:
            self.passed_over.append((path, error.strerror or str(error)))
            return
        if stat.S_ISREG(mode):
            self.paths.append(path)
        elif not stat.S_ISDIR(mode):
            self.passed_over.append((path, f"it is {_kind(mode)}, no file"))


def find(pattern: str) -> Found:
    """Returns the files that an absolute path or glob names; a folder stands for all files beneath it."""
    found = Found()
    if not glob.has_magic(pattern):
        matches = [pattern] if os.path.lexists(pattern) else []
    elif "**" in Path(pattern).parts:
        matches = []
        for path in _matches_any_depth(pattern):
            found.take(path)
    else:
        matches = sorted(glob.glob(pattern))  # noqa: PTH207 (a pattern may be absolute)
    for match in matches:
        path = Path(match)
        for file in walk(path) if path.is_dir() else [path]:
            if found.is_cut:
                return found
            found.take(file)
    return found


def walk(folder: Path) -> Iterator[Path]:
    """Yields what is beneath a folder and is no folder, by name; follows links to folders, but none in a circle."""
    yield from _walk(folder, set())


def _walk(folder: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    above.add(identity)
    for entry in entries:
        path = Path(entry.path)
        try:
            is_folder = entry.is_dir()
        except OSError:
            is_folder = False
        if is_folder:
            yield from _walk(path, above)
        else:
            yield path
    above.discard(identity)


def _matches_any_depth(pattern: str) -> Iterator[Path]:
    """Yields the files that a glob with `**` names; glob.glob would go round in circles of links up to 40 deep."""
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    for path in walk(root):
        if _is_match(path.relative_to(root).parts, parts[fixed:]):
            yield path


def _is_match(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Returns whether the parts match the names or a folder that they lie in; `**` stands for any number of folders."""
    # reached: how many parts may have been used up by the names so far.
    reached = _with_empty_stars({0}, parts)
    for index, name in enumerate(names):
        following = set()
        for used in reached:
            if used == len(parts):
                continue
            part = parts[used]
            is_hidden = name.startswith(".") and not part.startswith(".")
            if part == "**":
                if not is_hidden:
                    following.add(used)
            elif fnmatch.fnmatchcase(name, part) and not is_hidden:
                following.add(used + 1)
        reached = _with_empty_stars(following, parts)
        if len(parts) in reached:
            is_all = index == len(names) - 1
            # A part that named a folder stands for all beneath it.
            if is_all or parts[-1] != "**":
                return True
    return len(parts) in reached


def _with_empty_stars(reached: set[int], parts: tuple[str, ...]) -> set[int]:
    grown = set(reached)
    for used in sorted(reached):
        while used < len(parts) and parts[used] == "**":
            used += 1
            grown.add(used)
    return grown


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
