"""Regenerates the committed Python stubs from the .proto files with a deliberately old protoc.

Stubs of an old protoc load on every protobuf runtime since (4.25 to today's); stubs of a new one load on the newest
only, and training machines hold old ones. Run by `make protos` inside .venv-protos, where that protoc lives.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
PACKAGE = "runyard_protos"
GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
# Stubs import by file path; only the root package is renamed, descriptors still say `runyard.<noun>.v1`.
IMPORT_ROOT = re.compile(r"^(from|import) runyard\.", re.MULTILINE)
MODULE_REFERENCE = re.compile(r"(?<![\w./\"])runyard\.(\w+)\.v1\.(\w+_pb2)")


def main() -> int:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "python"
    package = out / PACKAGE
    for noun in package.glob("*/v1"):
        shutil.rmtree(noun.parent)
    staging = out / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    protos = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "runyard").rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT}",
            f"-I{well_known}",
            f"--python_out={staging}",
            f"--grpc_python_out={staging}",
            f"--mypy_out={staging}",
            f"--mypy_grpc_out={staging}",
            *protos,
        ]
    )
    if status != 0:
        return int(status)
    for source in sorted((staging / "runyard").rglob("*")):
        if source.is_file() and source.name.endswith(GENERATED_SUFFIXES):
            target = package / source.relative_to(staging / "runyard")
            target.parent.mkdir(parents=True, exist_ok=True)
            text = IMPORT_ROOT.sub(rf"\1 {PACKAGE}.", source.read_text())
            text = MODULE_REFERENCE.sub(rf"{PACKAGE}.\1.v1.\2", text)
            target.write_text(text)
    for folder in {p.parent for p in package.rglob("*_pb2.py")}:
        for level in (folder, folder.parent):
            (level / "__init__.py").write_text("")
    shutil.rmtree(staging)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
