"""`runyard system`: shows and follows what a run's machines did."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from runyard.errors import InvalidArgument
from runyard.paths import run_path
from runyard.settings import Settings, is_terminal_plain, resolve
from runyard.text_format import age_text, bytes_text, iso_time, table_lines

FOLLOW_INTERVAL_S = 5.0
COLUMNS = ("METRIC", "LATEST", "MEAN", "MIN", "MAX")
_BYTES = {"bytes": 1, "MB": 1 << 20, "GB": 1 << 30, "bytes/s": 1}

_EPILOG = """\
Values are of all samples so far; of a run on several nodes, of all its nodes and processes together (--writer: of one).

exit codes: 0 shown; 1 no such run or writer, the server does not answer; 2 wrong usage
"""


def add_commands(commands: Any, reading: argparse.ArgumentParser) -> None:
    """Adds the command to those of `runyard`."""
    system = commands.add_parser(
        "system",
        parents=[reading],
        help="show what a run's machines did: CPU, memory, GPUs, disks, network",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    system.add_argument("path", help="entity/project/run_id")
    system.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="show it anew as samples come, until the run ends",
    )
    system.add_argument(
        "-g", "--grep", default="", metavar="TEXT", help="only metrics whose names contain this"
    )
    system.add_argument(
        "-w",
        "--writer",
        action="append",
        default=[],
        help="only what this writer's agent sampled: label or number; repeatable",
    )
    system.set_defaults(call=_system)


def _system(options: argparse.Namespace) -> int:
    from runyard import rpc, rpc_lives, rpc_stops

    settings = resolve({"base_url": options.base_url}, Settings())
    path = run_path(options.path, settings)
    connection = rpc.Connection(settings.base_url, settings.api_key, timeout_s=60.0)
    try:
        writers = _writers(options.writer, rpc_lives.list_writers(connection, path))
        shower = _Shower(options)
        while True:
            # Asked for first: what was sampled until the end is shown then.
            is_live = options.follow and rpc_stops.stop_state(connection, path).is_live
            metrics = _read(connection, path, options.grep, writers)
            if not options.follow and not metrics:
                if options.json:
                    print("[]")
                else:
                    print(_nothing(options))
                return 0
            shower.show(metrics)
            if not is_live:
                return 0
            time.sleep(FOLLOW_INTERVAL_S)
    finally:
        connection.close()


def _read(connection: Any, path: str, text: str, writers: Sequence[int]) -> list[Any]:
    from runyard import rpc_system

    metrics = rpc_system.list_system_metrics(connection, path, is_brief=bool(writers))
    metrics = [one for one in metrics if text.lower() in one.name.lower()]
    return rpc_system.of_writers(connection, path, metrics, writers) if writers else metrics


def _nothing(options: argparse.Namespace) -> str:
    if options.grep or options.writer:
        return "no system metric fits"
    return (
        "no system metrics: none was sampled yet, system_interval_s was 0, an offline run's were not sent yet "
        "(runyard sync), or they are older than the server keeps them"
    )


class _Shower:
    """Prints tables; on a terminal that is followed, each in place of the last."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._is_json = options.json
        self._is_follow = options.follow
        self._is_in_place = options.follow and sys.stdout.isatty() and not is_terminal_plain()
        self._line_count = 0
        self._last_time_s = -math.inf

    def show(self, metrics: Sequence[Any]) -> None:
        """Prints them, if there is a sample that was not shown yet."""
        last_time_s = max((one.last_time_s for one in metrics), default=-math.inf)
        if last_time_s <= self._last_time_s:
            return
        if self._is_json:
            fields = [_fields(one) for one in metrics]
            shown = (
                {"time": iso_time(last_time_s), "metrics": fields} if self._is_follow else fields
            )
            print(json.dumps(shown, ensure_ascii=False), flush=True)
        else:
            self._print(list(_lines(metrics, last_time_s)))
        self._last_time_s = last_time_s

    def _print(self, lines: Sequence[str]) -> None:
        if self._is_in_place and self._line_count:
            print(f"\x1b[{self._line_count}A\x1b[J", end="")
        elif self._line_count:
            print()
        print("\n".join(lines), flush=True)
        self._line_count = len(lines)


def _lines(metrics: Sequence[Any], last_time_s: float) -> Iterator[str]:
    rows = [
        (
            one.name,
            *(value_text(value, one.unit) for value in (one.last, one.mean, one.low, one.high)),
        )
        for one in metrics
    ]
    yield from table_lines([COLUMNS, *rows], right=(1, 2, 3, 4))
    age_s = time.time() - last_time_s
    yield f"last sample {iso_time(last_time_s)}" + (
        f", {age_text(age_s)} ago" if age_s >= 0 else ""
    )


def value_text(value: float, unit: str) -> str:
    """Returns the value with its unit, as people read it: "1.5 GiB", "61 °C", "93.2 %"."""
    if not math.isfinite(value):
        return str(value)
    if unit in _BYTES:
        return bytes_text(value * _BYTES[unit]) + ("/s" if unit.endswith("/s") else "")
    digits = 0 if value == int(value) or abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()


def _fields(one: Any) -> dict[str, Any]:
    return {
        "name": one.name,
        "section": one.section,
        "unit": one.unit,
        "last": _finite(one.last),
        "mean": _finite(one.mean),
        "min": _finite(one.low),
        "max": _finite(one.high),
        "first_time": iso_time(one.first_time_s),
        "last_time": iso_time(one.last_time_s),
        "writers": list(one.writers),
        "description": one.description,
    }


def _finite(value: float) -> float | None:
    """Returns the value; None for what JSON does not have."""
    return value if math.isfinite(value) else None


def _writers(names: Sequence[str], known: Iterator[Any]) -> list[int]:
    """Returns the numbers of the writers that are named; of a label that several attempts used, all of them."""
    if not names:
        return []
    labels: dict[str, list[int]] = {}
    for one in known:
        labels.setdefault(one.label, []).append(one.writer)
    found: list[int] = []
    for name in names:
        if name in labels:
            found += labels[name]
        elif name.isdecimal():
            found.append(int(name))
        else:
            there = ", ".join(list(labels)[:10]) or "none"
            raise InvalidArgument(
                f"--writer {name!r}: the run has no writer of that label; there is: {there}",
                reason="WRITER_NOT_FOUND",
            )
    return found
