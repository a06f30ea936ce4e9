"""Which files under a folder are a run's source code, for `run.log_code()`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from runyard.errors import InvalidArgument
from runyard.given import local_path, shown

Choose = Callable[..., bool]
"""Takes a path, or a path and the folder that is searched; returns whether the file is meant."""

_NOT_OURS = frozenset({".git", ".hg", ".svn", "__pycache__", "node_modules", "site-packages"})
_ENVIRONMENT_MARK = "pyvenv.cfg"


def is_source(path: str) -> bool:
    """Returns whether the file is Python source, or says what it needs: requirements.txt, a Dockerfile."""
    name = Path(path).name
    return name.endswith(".py") or name == "requirements.txt" or name.startswith("Dockerfile")


def code_files(
    root: str | os.PathLike[str], include: Choose, exclude: Choose | None, run_root: Path | None
) -> Iterator[tuple[str, str]]:
    """Yields (absolute path, path below root with /) of each chosen file, by name.

    Run folders, virtual environments, installed packages and the folders of version control are never searched, links
    to folders neither. Raises InvalidArgument if `root` is no folder.
    """
    top = os.path.abspath(local_path(root, "log_code(): root"))  # noqa: PTH100 (links stay)
    if not os.path.isdir(top):  # noqa: PTH112 (of what can be no path, too)
        raise InvalidArgument(
            f"log_code(): {shown(str(root))} is no folder; root is the folder that holds the source code"
        )
    wanted, unwanted = _of_two(include), _of_two(exclude) if exclude is not None else None
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(
            name for name in folders if not _is_passed_over(Path(folder, name), run_root)
        )
        for name in sorted(names):
            path = os.path.join(folder, name)  # noqa: PTH118 (as the caller's functions expect it)
            if not Path(path).is_file() or not wanted(path, top):
                continue
            if unwanted is None or not unwanted(path, top):
                yield path, Path(path).relative_to(top).as_posix()


def _is_passed_over(folder: Path, run_root: Path | None) -> bool:
    if folder.name in _NOT_OURS or folder == run_root:
        return True
    return (folder / _ENVIRONMENT_MARK).is_file()


def _of_two(choose: Choose) -> Callable[[str, str], bool]:
    """Returns the function as one of path and root; many are written for the path alone."""
    try:
        inspect.signature(choose).bind("", "")
    except TypeError:
        return lambda path, root: bool(choose(path))
    return lambda path, root: bool(choose(path, root))
