"""Puts empty libraries in the place of NVIDIA's, so that the torch of the registry imports on a machine without GPUs.

Its Linux wheel is linked against about 3 GB of CUDA libraries, which CPUs have no use for; there is no other wheel. Each
library that torch's own ones need and that is not there is made with the functions that they name, of the versions that
they name; each says that there is no device, and none is ever called where there is none. Needs cc, nm and readelf.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

NVIDIA = re.compile(r"lib(cu|nv|nccl)")
NO_DEVICE = 100
"""cudaErrorNoDevice."""
UNVERSIONED_HOME = "libnccl.so"
"""The library of functions without a version."""


def main() -> None:
    spec = importlib.util.find_spec("torch")
    if sys.platform != "linux" or spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "lib"
    own = sorted(path for path in folder.glob("*.so*") if not NVIDIA.match(path.name))
    missing = missing_libraries(own, folder)
    if missing:
        print(f"setup: making {len(missing)} empty CUDA libraries for torch", file=sys.stderr)
        functions = functions_by_library(own, missing)
        for name in missing:
            make_library(folder / name, functions[name])


def missing_libraries(own: Iterable[Path], folder: Path) -> list[str]:
    """Returns the NVIDIA libraries that torch's need and that lie neither beside them nor in the packages for them."""
    needed = {
        name
        for path in own
        for name in re.findall(r"NEEDED.*\[(.*)\]", told("readelf", "-d", path))
    }
    packages = folder.parent.parent / "nvidia"
    there = {
        path.name for place in (folder, packages) if place.is_dir() for path in place.rglob("*.so*")
    }
    return sorted(name for name in needed - there if NVIDIA.match(name))


def functions_by_library(
    own: Iterable[Path], missing: list[str]
) -> dict[str, dict[str, list[str]]]:
    """Returns the names of functions for each library and version; the version is "" where there is none."""
    needed: set[str] = set()
    defined: set[str] = set()
    home_of: dict[str, str] = {}
    for path in own:
        needed |= {
            line.split()[-1]
            for line in told(
                "nm", "-D", "--undefined-only", "--with-symbol-versions", path
            ).splitlines()
        }
        defined |= {
            line.split()[-1].split("@")[0]
            for line in told("nm", "-D", "--defined-only", path).splitlines()
        }
        library = ""
        for line in told("readelf", "-V", "-W", path).splitlines():
            library = re.sub(r".*File: (\S+).*", r"\1", line) if "File: " in line else library
            version = re.search(r"Name: (\S+)\s+Flags", line)
            if version and library:
                home_of[version[1]] = library
    functions: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    unversioned = next((name for name in missing if name.startswith(UNVERSIONED_HOME)), missing[0])
    for symbol in sorted(needed):
        name, _, version = symbol.partition("@")
        home = home_of.get(version.lstrip("@"), "") if version else unversioned
        is_ours = version or re.match(r"_*(cu|nv|nccl)", name)
        if name not in defined and home in missing and is_ours:
            functions[home][version.lstrip("@")].append(name)
    return functions


def make_library(path: Path, functions: dict[str, list[str]]) -> None:
    """Compiles a library with the functions."""
    lines = [
        f'const char *{name}(void) {{ return "none"; }}' if name.endswith(("String", "Name"))
        else f"int {name}(void) {{ return {NO_DEVICE}; }}"
        for names in functions.values() for name in names
    ]  # fmt: skip
    versions = [
        f"{version} {{ global: {' '.join(f'{name};' for name in names)} }};"
        for version, names in functions.items()
        if version
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "empty.c"), Path(folder, "versions.map")
        source.write_text("\n".join(lines))
        script.write_text("\n".join(versions))
        scripted = [f"-Wl,--version-script={script}"] if versions else []
        command = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{path.name}", *scripted, "-o", path, source]  # fmt: skip
        subprocess.run(command, check=True)


def told(*command: str | Path) -> str:
    """Returns what a program prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
