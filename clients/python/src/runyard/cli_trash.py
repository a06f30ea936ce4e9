"""The commands `runyard runs delete`, `runyard runs restore` and `runyard trash`."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard.errors import UsageError
from runyard.paths import run_path
from runyard.text_format import bytes_text

if TYPE_CHECKING:
    from runyard.rpc_trash import DeletedRun, Refusal

LISTED_MAX = 20
"""Runs that are named before the question."""
PATTERN_LENGTH_MAX = 1000


def add_commands(commands: Any, runs: Any, reading: argparse.ArgumentParser) -> None:
    """Adds `runs delete` and `runs restore` to `runs`, and `trash` to the commands."""
    delete = runs.add_parser(
        "delete",
        parents=[reading],
        help="delete runs",
        description="Moves runs to the trash, from which `runyard runs restore` takes them back until they are purged.",
    )
    delete.add_argument(
        "path", nargs="+", metavar="PATH", help="entity/project/run_id; with --match entity/project"
    )
    delete.add_argument(
        "--match", metavar="REGEX", help="of these projects, the runs whose name or id it finds"
    )
    delete.add_argument("--now", action="store_true", help="purge at once: nothing can be restored")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    delete.set_defaults(call=_delete)
    restore = runs.add_parser("restore", parents=[reading], help="take runs out of the trash")
    restore.add_argument("path", nargs="+", metavar="PATH", help="entity/project/run_id")
    restore.set_defaults(call=_restore)
    trash = commands.add_parser(
        "trash", parents=[reading], help="list deleted runs, and what their purge has freed"
    )
    trash.add_argument("project", nargs="?", default="", help="entity/project, or entity")
    trash.add_argument("--purged", action="store_true", help="purged ones too, with their receipts")
    trash.set_defaults(call=_trash)


def _delete(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        paths = _wanted(api, options)
        if not paths:
            print(json.dumps({"deleted": [], "refused": []}) if options.json else "no runs match")
            return 0
        if not options.yes and not _is_confirmed(paths, options):
            print("nothing was deleted", file=sys.stderr)
            return 1
        deleted, refusals = api.delete_runs(paths, now=options.now)
        root = Path(api.settings.dir).expanduser()
    journal_count = _remove_remains(root, [run.path for run in deleted])
    if options.json:
        fields = {
            "deleted": [run.fields() for run in deleted],
            "refused": [vars(one) for one in refusals],
            "journals_removed": journal_count,
        }
        print(json.dumps(fields, ensure_ascii=False))
        return 1 if refusals else 0
    for run in deleted:
        print(f"{run.path}: {_fate(run)}")
    if journal_count:
        print(f"removed {journal_count} complete local run folders of them")
    _print_refusals(refusals)
    return 1 if refusals else 0


def _restore(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        paths = [run_path(path, api.settings) for path in options.path]
        restored, refusals = api.restore_runs(paths)
    if options.json:
        fields = {"restored": restored, "refused": [vars(one) for one in refusals]}
        print(json.dumps(fields, ensure_ascii=False))
        return 1 if refusals else 0
    for path in restored:
        print(f"{path}: restored")
    _print_refusals(refusals)
    return 1 if refusals else 0


def _trash(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        runs = list(api.deleted_runs(options.project, with_purged=options.purged))
    if options.json:
        print(json.dumps([run.fields() for run in runs], ensure_ascii=False))
        return 0
    if not runs:
        print("no deleted runs" if options.purged else "the trash is empty")
    for run in runs:
        print(f"{run.path}: deleted {_moment(run.delete_time_s)} by {run.deleted_by}, {_fate(run)}")
        for one in run.stores:
            print(
                f"  {one.store}: {one.rows:,} rows, {one.objects:,} objects, {bytes_text(one.bytes)} freed"
            )
        if run.trouble:
            print(f"  the purge waits: {run.trouble}")
    return 0


def _wanted(api: Any, options: argparse.Namespace) -> list[str]:
    """Returns the paths of the runs to delete, each once."""
    if options.match is None:
        return list(dict.fromkeys(run_path(path, api.settings) for path in options.path))
    pattern = checked_pattern(options.match)
    found: dict[str, None] = {}
    for project in options.path:
        for run in api.runs(project, per_page=1000):
            if pattern.search(run.name) or pattern.search(run.id):
                found[run.path] = None
    return list(found)


def checked_pattern(text: str) -> re.Pattern[str]:
    """Returns the regular expression; raises UsageError if it is none, is empty, or is very long."""
    if not 0 < len(text) <= PATTERN_LENGTH_MAX:
        raise UsageError(
            f"--match has {len(text)} characters; give 1 to {PATTERN_LENGTH_MAX} ('.' finds all runs)"
        )
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"--match {text!r} is no regular expression: {error}") from None


def _is_confirmed(paths: Sequence[str], options: argparse.Namespace) -> bool:
    if options.json or not sys.stdin.isatty():
        raise UsageError(f"{len(paths)} runs would be deleted, and nobody can be asked: give --yes")
    for path in paths[:LISTED_MAX]:
        print(path)
    if len(paths) > LISTED_MAX:
        print(f"… and {len(paths) - LISTED_MAX} more")
    what = "delete and purge at once, for ever" if options.now else "move to the trash"
    try:
        answer = input(f"{what}: {len(paths)} run{'' if len(paths) == 1 else 's'}? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _remove_remains(root: Path, paths: Sequence[str]) -> int:
    """Removes the folders that complete runs among the paths have left under the root; returns how many."""
    from runyard import journal_clean

    wanted = set(paths)
    count = 0
    with contextlib.suppress(OSError):
        for run in journal_clean.complete_runs(sorted(root.glob("run-*"))):
            if run.path in wanted:
                count += journal_clean.remove(run)
    return count


def _fate(run: DeletedRun) -> str:
    if run.purge_time_s is not None:
        return f"purged {_moment(run.purge_time_s)}, {bytes_text(run.bytes_freed)} freed"
    if run.purge_due_time_s <= time.time():
        return "being purged"
    return f"in the trash until {_moment(run.purge_due_time_s)}"


def _moment(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s))


def _print_refusals(refusals: Sequence[Refusal]) -> None:
    for one in refusals:
        print(f"runyard: {one.path}: {one.message}", file=sys.stderr)
