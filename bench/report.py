"""Runs every bench, one after the other, and prints one table: what `make bench` calls.

Each `bench_<name>.py --out FILE` writes a JSON list of measurements: {"name", "value", "unit", "baseline",
"baseline_value", "ratio", "target", "is_met"}. All of them, with the machine, end up in bench/out/report.json.

    python bench/report.py [NAME ...] [--no-run]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
OUT = BENCH / "out"
BENCH_TIMEOUT_S = 1800
COLUMNS = ("measurement", "value", "unit", "baseline", "its value", "ratio", "target", "met")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help="benches to run, without bench_ and .py; all if none"
    )
    parser.add_argument("--no-run", action="store_true", help="only print what earlier runs left")
    arguments = parser.parse_args()
    scripts = {path.stem.removeprefix("bench_"): path for path in sorted(BENCH.glob("bench_*.py"))}
    unknown = sorted(set(arguments.names) - set(scripts))
    if unknown:
        parser.error(f"no bench named {', '.join(unknown)}; there are {', '.join(scripts)}")
    wanted = arguments.names or list(scripts)
    OUT.mkdir(exist_ok=True)
    failed = [] if arguments.no_run else [name for name in wanted if not run(name, scripts[name])]
    measurements = {name: read(name) for name in wanted}
    report = {"machine": machine(), "failed": failed, "benches": measurements}
    (OUT / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print_table(measurements)
    for name in failed:
        print(f"bench {name} FAILED: see its output above")
    return 1 if failed else 0


def run(name: str, script: Path) -> bool:
    """Runs one bench with its output shown; returns whether it ended well."""
    print(f"\n=== {name} " + "=" * max(0, 90 - len(name)), flush=True)
    (OUT / f"{name}.json").unlink(missing_ok=True)
    began = time.monotonic()
    try:
        code = subprocess.run(
            [sys.executable, script, "--out", OUT / f"{name}.json"],
            stdin=subprocess.DEVNULL,
            timeout=BENCH_TIMEOUT_S,
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"bench {name} took longer than {BENCH_TIMEOUT_S} s and was stopped", flush=True)
        return False
    print(f"--- {name}: {time.monotonic() - began:.0f} s, exit code {code}", flush=True)
    return code == 0


def read(name: str) -> list[dict[str, Any]]:
    path = OUT / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def machine() -> dict[str, object]:
    """Returns what a reader needs to judge absolute figures."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [li for li in cpuinfo.read_text().splitlines() if li.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else ""
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "os": platform.platform(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def print_table(measurements: dict[str, list[dict[str, Any]]]) -> None:
    rows: list[tuple[str, ...]] = [COLUMNS]
    for name, entries in measurements.items():
        rows.extend(row(name, entry) for entry in entries)
    if len(rows) == 1:
        print("no measurements")
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    facts = machine()
    print(f"\n{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['os']}\n")
    for number, cells in enumerate(rows):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        )
        if number == 0:
            print("  ".join("-" * width for width in widths))
    missed = sum(
        1 for entries in measurements.values() for e in entries if e.get("is_met") is False
    )
    judged = sum(
        1 for entries in measurements.values() for e in entries if e.get("is_met") is not None
    )
    print(f"\n{judged - missed} of {judged} targets met; JSON in {OUT / 'report.json'}")


def row(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    met = {True: "yes", False: "NO"}.get(entry.get("is_met"), "")  # type: ignore[arg-type]  # absent is None
    return (
        f"{name}: {entry['name']}",
        number(entry.get("value")),
        str(entry.get("unit") or ""),
        str(entry.get("baseline") or ""),
        number(entry.get("baseline_value")),
        number(entry.get("ratio")),
        number(entry.get("target"))
        if not isinstance(entry.get("target"), str)
        else entry["target"],
        met,
    )


def number(value: object) -> str:
    """Returns a number with three significant digits or thousands separators; text as it is."""
    if value is None:
        return ""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
