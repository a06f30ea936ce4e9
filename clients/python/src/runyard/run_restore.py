"""`restore()`: brings a file of a run back to this machine."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import IO

from runyard.file_names import check_name, place_beneath


def restore(name: str, run_path: str, *, root: str | Path, replace: bool, base_url: str) -> IO[str]:
    """Returns the file, open for reading; its `name` is the path. What is there already is taken, unless `replace`.

    Raises NotFound, Unavailable, DataLoss if the content is not what was stored.
    """
    name = check_name(name, "restore()")
    target = place_beneath(root, name)
    if replace or not target.is_file():
        # What speaks with the server is loaded by name: a training process that restores nothing never has it.
        with importlib.import_module("runyard.api").Api(base_url) as api:
            api.run(run_path).file(name).download(root, replace=True)
    return target.open(encoding="utf-8", errors="surrogateescape")
