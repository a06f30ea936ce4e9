"""`runyard logs`: shows, searches and follows what a run printed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from runyard.errors import InvalidArgument
from runyard.paths import run_path
from runyard.settings import Settings, is_terminal_plain, resolve

TAIL_FOLLOWED = 100
"""Lines that --follow shows of what was there before, unless --tail says otherwise."""
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|[@-Z\\-_])?")

_EPILOG = """\
TIME is Unix seconds, 2026-11-27T12:00, or an age: 10m, 2h, 1d.

exit codes: 0 shown; 1 no such run, a wrong expression, the server does not answer; 2 wrong usage
"""


def add_commands(commands: Any, reading: argparse.ArgumentParser) -> None:
    """Adds the command to those of `runyard`."""
    logs = commands.add_parser(
        "logs",
        parents=[reading],
        help="show, search and follow what a run printed",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    logs.add_argument("path", help="entity/project/run_id")
    logs.add_argument(
        "-f", "--follow", action="store_true", help="go on with what comes, until the run ends"
    )
    logs.add_argument("-n", "--tail", type=_count, metavar="N", help="only the last N lines")
    logs.add_argument(
        "-g", "--grep", default="", metavar="TEXT", help="only lines that contain this"
    )
    logs.add_argument(
        "-e", "--regex", default="", metavar="RE", help="only lines that match this (RE2)"
    )
    logs.add_argument(
        "--case", action="store_true", help="capital letters count in --grep and --regex"
    )
    logs.add_argument(
        "-C",
        "--context",
        type=_count,
        default=0,
        metavar="N",
        help="N lines around each found one (at most 20)",
    )
    logs.add_argument(
        "-w",
        "--writer",
        action="append",
        default=[],
        help="only this writer: label or number; repeatable",
    )
    logs.add_argument(
        "--stream",
        choices=("stdout", "stderr", "note"),
        action="append",
        default=[],
        help="only this stream; repeatable",
    )
    logs.add_argument("--since", metavar="TIME", help="only lines from then on")
    logs.add_argument("--until", metavar="TIME", help="only lines up to then")
    logs.add_argument("-t", "--time", action="store_true", help="show when each line began")
    logs.add_argument("--plain", action="store_true", help="without colours")
    logs.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the whole log into this file (with --writer, --stream, --time, --plain only)",
    )
    logs.set_defaults(call=_logs)  # fmt: skip


def _logs(options: argparse.Namespace) -> int:
    from runyard import rpc, rpc_console, rpc_stops

    settings = resolve({"base_url": options.base_url}, Settings())
    path = run_path(options.path, settings)
    connection = rpc.Connection(settings.base_url, settings.api_key, timeout_s=60.0)
    try:
        show = _Shower(options, _labels(connection, path))
        query = rpc_console.LineQuery(
            writers=tuple(_writer(name, show.labels) for name in options.writer),
            streams=tuple(options.stream),
            contains=options.grep,
            matches=options.regex,
            is_case_sensitive=options.case,
            since_s=_moment(options.since),
            until_s=_moment(options.until),
            context=options.context,
        )
        if options.output is not None:
            return _write_file(connection, path, query, options)
        if not options.follow and options.tail is None:
            show.all(rpc_console.list_lines(connection, path, query))
            return 0
        count = options.tail if options.tail is not None else TAIL_FOLLOWED
        lines, token = rpc_console.last_lines(connection, path, query, count)
        show.all(lines)
        if options.follow:
            coming = rpc_console.follow(
                connection,
                path,
                dataclasses.replace(query, context=0),
                token,
                is_live=lambda: rpc_stops.stop_state(connection, path).is_live,
                known=lines,
            )
            show.all(coming)
    finally:
        connection.close()
    return 0


def _write_file(connection: Any, path: str, query: Any, options: argparse.Namespace) -> int:
    """Writes the log into a file."""
    from runyard import rpc_console

    chosen = ("follow", "grep", "regex", "context", "since", "until", "json")
    refused = [name for name in chosen if getattr(options, name)]
    refused += [] if options.tail is None else ["tail"]
    if refused:
        raise InvalidArgument(
            f"--output writes the whole log: it does not go with --{refused[0]}; `runyard logs … > FILE` does",
            reason="FIELD_INVALID",
        )
    file = Path(options.output)
    try:
        size_bytes = rpc_console.download_log(
            connection,
            path,
            file,
            writers=query.writers,
            streams=query.streams,
            colours=not options.plain,
            times=options.time,
            labels=not options.writer and len(_labels(connection, path)) > 1,
        )
    except OSError as error:
        raise InvalidArgument(
            f"{file} cannot be written: {error.strerror or error}", reason="FILE_INVALID"
        ) from None
    print(f"{file}: {size_bytes:,} bytes")
    return 0


class _Shower:
    """Prints lines as the options say."""

    def __init__(self, options: argparse.Namespace, labels: dict[int, str]) -> None:
        self.labels = labels
        self._options = options
        self._is_plain = options.plain or is_terminal_plain() or not sys.stdout.isatty()
        self._before: Any = None

    def all(self, lines: Iterable[Any]) -> None:
        """Prints them as they come."""
        for line in lines:
            print(self._text(line), flush=self._options.follow)

    def _text(self, line: Any) -> str:
        if self._options.json:
            fields = {**dataclasses.asdict(line), "label": self.labels.get(line.writer, "")}
            return json.dumps(fields, ensure_ascii=False)
        parts = []
        before, self._before = self._before, line
        is_gap = before is not None and (before.writer, before.line + 1) != (line.writer, line.line)
        if self._options.context and is_gap:
            parts.append("--\n")
        if self._options.time:
            parts.append(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time_s)))
            parts.append(f".{int(line.time_s * 1000) % 1000:03d}  ")
        if len(self.labels) > 1:
            parts.append(f"{self.labels.get(line.writer, line.writer)}  ")
        text = _ESCAPE.sub("", line.text) if self._is_plain else line.text + _reset(line.text)
        return "".join(parts) + text


def _reset(text: str) -> str:
    return "\x1b[0m" if "\x1b[" in text else ""


def _labels(connection: Any, path: str) -> dict[int, str]:
    """Returns the labels of the writers that printed something."""
    from runyard import rpc_console, rpc_lives

    printed = {one.writer for one in rpc_console.count_lines(connection, path)}
    writers: Iterator[Any] = rpc_lives.list_writers(connection, path)
    return {one.writer: one.label for one in writers if one.writer in printed}


def _writer(name: str, labels: dict[int, str]) -> int:
    numbers = [number for number, label in labels.items() if label == name]
    if numbers:
        return numbers[-1]  # of a label that several attempts used, the current one's
    if name.isdecimal():
        return int(name)
    known = ", ".join(label for label in list(labels.values())[:10]) or "none"
    raise InvalidArgument(
        f"--writer {name!r}: no writer of that label printed anything; there is: {known}",
        reason="WRITER_NOT_FOUND",
    )


def _moment(text: str | None) -> float | None:
    """Returns the time in Unix seconds."""
    if text is None:
        return None
    age = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)", text)
    if age:
        return time.time() - float(age[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[age[2]]
    if re.fullmatch(r"\d{9,}(\.\d+)?", text):
        return float(text)
    import datetime

    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise InvalidArgument(
            f"{text!r} is no time; it looks like 2026-11-27T12:00, 1795780000 or 10m",
            reason="FIELD_INVALID",
        ) from None


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number
