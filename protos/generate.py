"""Makes the committed stubs from the .proto files, or checks that they are what the .proto files say.

`generate.py` writes the Python stubs (with a deliberately old protoc, kept in .venv-protos) and, where the web
application's packages are installed, the TypeScript ones. `generate.py --check` regenerates into a temporary folder,
compares, and asks buf for lint, format and breaking changes. Run by `make protos` and `make protos-check`.

Stubs of an old protoc load on every protobuf runtime since (4.25 to today's); stubs of a new one load on the newest
only, and training machines hold old ones. See docs/adr/0004-stubs-of-an-old-protoc.md.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
CHECKOUT = ROOT.parent
PYTHON_OUT = ROOT / "python"
PACKAGE = "runyard_protos"
OLD_PROTOC = CHECKOUT / ".venv-protos/bin/python"
BUF = CHECKOUT / ".venv/bin/buf"
WEB = CHECKOUT / "clients/web"
TYPESCRIPT_OUT = WEB / "src/gen"
TYPESCRIPT_PLUGIN = WEB / "node_modules/.bin/protoc-gen-es"
GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
# Stubs import by file path; only the root package is renamed, descriptors still say `runyard.<noun>.v1`.
IMPORT_ROOT = re.compile(r"^(from|import) runyard\.", re.MULTILINE)
MODULE_REFERENCE = re.compile(r"(?<![\w./\"])runyard\.(\w+)\.v1\.(\w+_pb2)")
CALL_TIMEOUT_S = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; fail on a difference")
    arguments = parser.parse_args()
    if not arguments.check:
        generate_python(PYTHON_OUT)
        generate_typescript(TYPESCRIPT_OUT)
        return 0
    problems = stale_stubs() + buf_problems()
    for problem in problems:
        print(f"protos-check: {problem}")
    print(f"protos-check: {'failed' if problems else 'stubs match the protos; buf is content'}")
    return 1 if problems else 0


def generate_python(out: Path) -> None:
    """Writes the package runyard_protos under `out`, whatever else is in it stays."""
    package = out / PACKAGE
    for noun in package.glob("*/v1"):
        shutil.rmtree(noun.parent)
    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder)
        run_old_protoc(staging)
        for source in sorted((staging / "runyard").rglob("*")):
            if source.is_file() and source.name.endswith(GENERATED_SUFFIXES):
                target = package / source.relative_to(staging / "runyard")
                target.parent.mkdir(parents=True, exist_ok=True)
                text = IMPORT_ROOT.sub(rf"\1 {PACKAGE}.", source.read_text())
                target.write_text(MODULE_REFERENCE.sub(rf"{PACKAGE}.\1.v1.\2", text))
    for folder_ in {path.parent for path in package.rglob("*_pb2.py")}:
        for level in (folder_, folder_.parent):
            (level / "__init__.py").write_text("")


def run_old_protoc(staging: Path) -> None:
    outputs = [f"--{kind}_out={staging}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    protos = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "runyard").rglob("*.proto"))
    # Its plugins lie beside it and are found by PATH.
    path = f"{OLD_PROTOC.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [OLD_PROTOC, "-W", "ignore", "-m", "grpc_tools.protoc", f"-I{ROOT}", *outputs, *protos],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise SystemExit(f"protos: protoc failed\n{done.stdout}{done.stderr}")


def generate_typescript(out: Path) -> bool:
    """Writes the TypeScript stubs to `out`; False, with a word, if the web application's packages are not installed."""
    if not TYPESCRIPT_PLUGIN.exists():
        print("protos: TypeScript stubs left out: clients/web has no node_modules (make setup)")
        return False
    plugin = (
        f'{{"version": "v2", "clean": true, "plugins": [{{"local": "{TYPESCRIPT_PLUGIN}", "out": "{out}", '
        '"opt": ["target=ts", "import_extension=none"]}]}'
    )
    subprocess.run(
        [BUF, "generate", "--template", plugin], cwd=ROOT, check=True, timeout=CALL_TIMEOUT_S
    )
    return True


def stale_stubs() -> list[str]:
    """Returns one line per committed stub that is not what the protos give."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate_python(fresh / "python")
        problems = differences(PYTHON_OUT / PACKAGE, fresh / "python" / PACKAGE, pattern="*_pb2*")
        if generate_typescript(fresh / "typescript"):
            problems += differences(TYPESCRIPT_OUT, fresh / "typescript", pattern="*_pb.*")
    return problems


def differences(committed: Path, fresh: Path, *, pattern: str) -> list[str]:
    """Returns one line per file that only one of the folders has, or that differs."""
    ours = {
        path.relative_to(committed) for path in committed.rglob(pattern) if path.suffix != ".pyc"
    }
    theirs = {path.relative_to(fresh) for path in fresh.rglob(pattern)}
    shown = committed.relative_to(CHECKOUT)
    return (
        [f"{shown / path} is missing: run `make protos`" for path in sorted(theirs - ours)]
        + [f"{shown / path} has no proto: run `make protos`" for path in sorted(ours - theirs)]
        + [
            f"{shown / path} is stale: run `make protos`"
            for path in sorted(ours & theirs)
            if not filecmp.cmp(committed / path, fresh / path, shallow=False)
        ]
    )


def buf_problems() -> list[str]:
    """Returns what buf says against the protos: lint, format, and what breaks the last release."""
    steps = [("lint",), ("format", "--exit-code", "--diff")]
    release = last_release()
    if release:
        steps.append(("breaking", "--against", f"{CHECKOUT / '.git'}#tag={release},subdir=protos"))
    else:
        print("protos-check: no release tag v* yet: there is nothing that a change could break")
    problems = []
    for step in steps:
        done = subprocess.run(
            [BUF, *step], cwd=ROOT, capture_output=True, text=True, timeout=CALL_TIMEOUT_S
        )
        if done.returncode != 0:
            problems.append(f"buf {step[0]}:\n{done.stdout}{done.stderr}")
    return problems


def last_release() -> str:
    """Returns the newest tag v* that HEAD descends from, or empty text."""
    done = subprocess.run(
        ["git", "describe", "--tags", "--match", "v*", "--abbrev=0"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_S,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
