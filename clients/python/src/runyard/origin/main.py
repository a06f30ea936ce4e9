"""Gathers what takes longer than init() may: writes files of the run and, last and by rename, origin.json.

```
 run folder/
   origin.new/requirements.txt …   while they are written
   files/requirements.txt          moved there whole; a file that the script put there itself stays
   files/diff.patch
   files/source/train.py
   origin.json                     last: {"version": 1, "facts": {…}, "files": ["requirements.txt", …]}
```
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

from runyard.origin.git import Repository
from runyard.origin.gpus import gpu_facts
from runyard.origin.requirements import requirement_lines
from runyard.settings import launcher_environment

ALL_TIMEOUT_S = 180
"""After so long this process is ended by the system, whatever it hangs in."""
NICENESS = 10
SOURCE_BYTES_MAX = 10 << 20
"""Largest script or notebook that is kept."""
REQUIREMENTS, DIFF = "requirements.txt", "diff.patch"


@dataclasses.dataclass(frozen=True)
class Wish:
    """What to gather, and for which run."""

    folder: Path
    """The run's folder."""
    directory: Path
    """The working directory of the training process."""
    source: Path | None = None
    is_git: bool = False
    diff_bytes_max: int = 0
    is_requirements: bool = False
    is_gpus: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the process; returns its exit code."""
    if hasattr(signal, "alarm"):
        signal.alarm(ALL_TIMEOUT_S)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    parser = argparse.ArgumentParser(prog="python -m runyard.origin", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--git", dest="is_git", action="store_true")
    parser.add_argument("--diff-bytes-max", type=int, default=0)
    parser.add_argument("--requirements", dest="is_requirements", action="store_true")
    parser.add_argument("--gpus", dest="is_gpus", action="store_true")
    wish = Wish(**vars(parser.parse_args(argv)))
    try:
        gather(wish, launcher_environment())
    except OSError as error:  # the run's folder is gone, or its disk is full
        print(f"runyard.origin: {error}", file=sys.stderr)  # noqa: T201 (the run's log)
        return 1
    return 0


def gather(wish: Wish, environ: Mapping[str, str]) -> None:
    """Writes the files and origin.json; raises OSError if the run's folder cannot be written."""
    files = _Files(wish.folder)
    facts: dict[str, Any] = {}
    parts: list[tuple[str, bool, Callable[[], dict[str, Any]]]] = [
        ("source", wish.source is not None, lambda: _source(wish, files)),
        ("git", wish.is_git, lambda: _git(wish, files, environ)),
        ("requirements", wish.is_requirements, lambda: _requirements(files)),
        ("gpu", wish.is_gpus, lambda: gpu_facts(wish.folder, environ)),
    ]
    for name, is_wanted, find in parts:
        if is_wanted:
            found = _guarded(find)
            if found:
                facts[name] = found
    files.close()
    made = wish.folder / "origin.json.new"
    content = {"version": 1, "facts": facts, "files": files.names}
    made.write_text(json.dumps(content), encoding="utf-8")
    made.replace(wish.folder / "origin.json")


def _guarded(find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what was found; a part that fails says so and keeps no other from being told."""
    try:
        return find()
    except Exception as error:
        traceback.print_exc()
        return {"problem": f"{type(error).__name__}: {error}"[:1000]}


class _Files:
    """The run's files that are made here."""

    def __init__(self, folder: Path) -> None:
        self.names: list[str] = []
        self._target = folder / "files"
        self._workshop = folder / "origin.new"
        self._workshop.mkdir(exist_ok=True)

    def add(self, name: str, content: bytes) -> dict[str, Any]:
        """Makes a file whole or not at all, and returns the facts of it; one that the script has put there stays."""
        target = self._target / name
        if target.exists():
            return {"problem": f"the script has a file {name} of its own"}
        made = self._workshop / target.name
        made.write_bytes(content)
        target.parent.mkdir(exist_ok=True)
        made.replace(target)
        self.names.append(name)
        return {"file": name, "size_bytes": len(content)}

    def close(self) -> None:
        shutil.rmtree(self._workshop, ignore_errors=True)


def _git(wish: Wish, files: _Files, environ: Mapping[str, str]) -> dict[str, Any]:
    repository = Repository(wish.directory, environ)
    facts = repository.facts(own_root=wish.folder.parent.resolve())
    if not facts.get("is_dirty") or not facts.get("commit") or not wish.diff_bytes_max:
        return facts
    answer = repository.diff(wish.diff_bytes_max)
    if answer.is_cut:
        diff: dict[str, Any] = {
            "problem": f"larger than {wish.diff_bytes_max} bytes, so it is not kept"
        }
    elif answer.problem:
        diff = {"problem": answer.problem}
    else:
        diff = files.add(DIFF, answer.output) if answer.output else {}
    return {**facts, **({"diff": diff} if diff else {})}


def _requirements(files: _Files) -> dict[str, Any]:
    lines = requirement_lines(metadata.distributions())
    content = "".join(f"{line}\n" for line in lines).encode()
    return {**files.add(REQUIREMENTS, content), "count": len(lines)}


def _source(wish: Wish, files: _Files) -> dict[str, Any]:
    assert wish.source is not None
    try:
        size_bytes = wish.source.stat().st_size
        if size_bytes > SOURCE_BYTES_MAX:
            return {
                "problem": f"{wish.source} has {size_bytes} bytes, at most {SOURCE_BYTES_MAX} are kept"
            }
        return files.add(f"source/{wish.source.name}", wish.source.read_bytes())
    except OSError as error:
        return {"problem": f"{wish.source} cannot be read: {error.strerror}"}
