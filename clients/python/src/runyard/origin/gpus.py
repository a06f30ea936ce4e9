"""The GPUs of this machine, as nvidia-smi lists them; {} where there is none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyard.origin.programs import ask

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 1 << 20
GPU_COUNT_MAX = 64
_QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")


def gpu_facts(folder: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Returns `count`, `names` and `memory_bytes` of the GPUs (of each, in one order), and the versions of driver and CUDA."""
    program = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if program is None:
        return {}
    listed = _ask(program, *_QUERY, folder=folder, environ=environ)
    if not listed:
        return {}
    rows = [[part.strip() for part in line.split(",")] for line in listed.splitlines()]
    rows = [row for row in rows if len(row) == 3][:GPU_COUNT_MAX]
    if not rows:
        return {}
    facts: dict[str, Any] = {
        "count": len(rows),
        "names": [name for name, _, _ in rows],
        "memory_bytes": [_mebibytes(memory) for _, memory, _ in rows],
        "driver_version": rows[0][2],
    }
    # The query has no field for it; the head of the table does.
    table = _ask(program, folder=folder, environ=environ)
    cuda = re.search(r"CUDA Version:\s*([0-9.]+)", table)
    if cuda is not None:
        facts["cuda_version"] = cuda[1]
    return facts


def _ask(program: str, *arguments: str, folder: Path, environ: Mapping[str, str]) -> str:
    answer = ask(
        [program, *arguments],
        folder=folder,
        environ=environ,
        timeout_s=TIMEOUT_S,
        bytes_max=ANSWER_BYTES_MAX,
    )
    return "" if answer.problem else answer.text


def _mebibytes(text: str) -> int:
    return int(text) << 20 if text.isdigit() else 0
