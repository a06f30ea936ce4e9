"""`runyard sync`: sends journals, or tells what of them is unsent."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runyard import journal_status as status
from runyard.errors import UsageError
from runyard.settings import ResolvedSettings, Settings, resolve
from runyard.text_format import age_text, bytes_text, count_text, table_lines

Commands = Any
"""What argparse gives for adding commands to; it has no public name."""

_EPILOG = """\
DIR is a run folder, or a folder that holds run folders (default: RUNYARD_DIR, else ./runyard).
Safe to repeat and to interrupt: what the server has is not sent again.
--json prints a list at the end; with --watch one object a line, as each run is done.

exit codes:
  0    the server has all of it that it will ever have; --watch: of all that there was when it was ended;
       --status: always
  1    a run was refused, is damaged, is still being sent by an agent, or the server does not answer
  2    wrong usage
  130  interrupted; nothing is lost
"""


def add_commands(commands: Commands, reading: argparse.ArgumentParser) -> None:
    """Adds `sync`."""
    sync = commands.add_parser(
        "sync",
        parents=[reading],
        help="send journals, those of offline runs included; --status lists them",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sync.add_argument("paths", nargs="*", metavar="DIR", help="run folders, or folders of such")
    sync.add_argument(
        "--status", action="store_true", help="list journals and what is unsent; asks no server"
    )
    sync.add_argument(
        "--watch", action="store_true",
        help="go on with what comes, offline runs that grow included, until Ctrl-C",
    )  # fmt: skip
    sync.set_defaults(call=_sync)


def _sync(options: argparse.Namespace) -> int:
    settings = resolve({"base_url": options.base_url}, Settings())
    paths = [Path(path) for path in options.paths] or [Path(settings.dir).expanduser()]
    for path in paths:
        if not path.exists() and not options.watch:
            raise UsageError(f"there is no folder {path}")
    if options.status and options.watch:
        raise UsageError("sync --status --watch: give one of them")
    if options.status:
        return _status(paths, is_json=options.json)
    return _send(paths, settings, options)


def _send(paths: Sequence[Path], settings: ResolvedSettings, options: argparse.Namespace) -> int:
    from runyard.agent.sync import sync

    return sync(
        paths,
        base_url=settings.base_url,
        api_key=settings.api_key,
        is_json=options.json,
        is_watching=options.watch,
    )


def _status(paths: Sequence[Path], *, is_json: bool) -> int:
    found = [status.read_status(folder) for folder in status.find_run_folders(paths)]
    if is_json:
        print(json.dumps([one.fields() for one in found], ensure_ascii=False))
        return 0
    if not found:
        print("no runs found")
        return 0
    for line in _table(found):
        print(line)
    unsent = [one for one in found if one.state in (status.UNSENT, status.DAMAGED)]
    print()
    print(
        f"{count_text(len(found), 'run')} on this disk, {bytes_text(sum(one.size_bytes for one in found))}; "
        f"unsent: {count_text(len(unsent), 'run')}, "
        f"{count_text(sum(one.records_unsent for one in found), 'record')}, "
        f"{count_text(sum(one.files_unsent for one in found), 'file')}, "
        f"{count_text(sum(one.artifacts_unsent for one in found), 'artifact')}, "
        f"{count_text(sum(one.lines_written - one.lines_durable for one in found), 'line')} of the console"
    )
    if unsent:
        print(f"To send them: runyard sync {' '.join(shown(path) for path in paths)}")
    return 0


_COLUMNS = ("STATE", "MODE", "WRITTEN", "DURABLE", "UNSENT", "FILES", "ARTIFACTS", "LINES", "SIZE", "AGE", "RUN", "FOLDER")  # fmt: skip
_NUMBER_COLUMNS = range(2, 10)


def _table(found: Sequence[status.JournalStatus]) -> list[str]:
    """Returns the lines of the list; below a run that is refused or damaged, why."""
    now_ns = time.time_ns()
    rows = [_COLUMNS, *(_row(one, now_ns) for one in found)]
    lines = []
    for number, line in enumerate(table_lines(rows, right=_NUMBER_COLUMNS)):
        lines.append(line)
        one = found[number - 1] if number else None
        if one is not None and one.message:
            lines.append(f"          {one.message}")
    return lines


def _row(one: status.JournalStatus, now_ns: int) -> tuple[str, ...]:
    began_ns = one.start_unix_ns or one.change_unix_ns
    state = f"{one.state}, live" if one.is_live and one.state != status.LIVE else one.state
    return (
        state,
        one.mode or "-",
        f"{one.records_written:,}",
        f"{one.records_durable:,}",
        f"{one.records_unsent:,}",
        f"{one.files_unsent:,}",
        f"{one.artifacts_unsent:,}",
        f"{one.lines_written - one.lines_durable:,}",
        bytes_text(one.size_bytes),
        age_text((now_ns - began_ns) / 1e9) if began_ns else "?",
        one.path or "?",
        shown(Path(one.folder)),
    )


def shown(path: Path) -> str:
    """Returns a path as a person would type it here."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # no working directory, or another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative
