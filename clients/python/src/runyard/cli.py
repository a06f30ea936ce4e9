"""The command `runyard`: sends journals, lists runs, shows journals, starts a server."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runyard import (
    cli_artifacts,
    cli_cache,
    cli_files,
    cli_journal,
    cli_lives,
    cli_logs,
    cli_projects,
    cli_stop,
    cli_sync,
    cli_system,
    cli_trash,
)
from runyard.errors import Error
from runyard.host_text import host_lines
from runyard.text_format import bytes_text, table_lines
from runyard.version import VERSION

PIPE_CLOSED_EXIT_CODE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["server"]:  # everything behind it is the server's
        return _server(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        code: int = options.call(options)
        return code
    except Error as error:
        if options.json:
            fields = {"error": type(error).__name__, "reason": error.reason, "message": str(error)}
            print(json.dumps(fields))
        else:
            print(f"runyard: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED_EXIT_CODE
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    reading = argparse.ArgumentParser(add_help=False, parents=[shared])
    reading.add_argument("--base-url", help="address of the server (default: RUNYARD_BASE_URL)")
    parser = argparse.ArgumentParser(prog="runyard", description="Records runs.")
    parser.set_defaults(json=False)
    parser.add_argument("--version", action="version", version=f"runyard {VERSION}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    cli_sync.add_commands(commands, reading)
    runs = commands.add_parser("runs", help="look at runs").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = runs.add_parser("ls", parents=[reading], help="list runs, newest first")
    listing.add_argument("project", nargs="?", help="entity/project (default: the settings')")
    listing.add_argument("--limit", type=_positive, default=50, help="most runs (default 50)")
    listing.add_argument("--name", default="", help="only names or ids that contain this")
    listing.add_argument("--state", action="append", default=[], help="only this state; repeatable")
    listing.set_defaults(call=_runs_ls)
    showing = runs.add_parser("show", parents=[reading], help="show one run")
    showing.add_argument("path", help="entity/project/run_id")
    showing.set_defaults(call=_runs_show)

    cli_lives.add_commands(runs, reading)
    cli_logs.add_commands(commands, reading)
    cli_system.add_commands(commands, reading)
    cli_artifacts.add_commands(commands, reading)
    cli_cache.add_commands(commands, shared)
    cli_files.add_commands(commands, reading)
    cli_trash.add_commands(commands, runs, reading)
    cli_stop.add_commands(commands, reading)
    cli_projects.add_commands(commands, reading)
    cli_journal.add_commands(commands, shared)
    commands.add_parser("server", help="start a server (= runyard-server)", add_help=False)
    version = commands.add_parser("version", parents=[shared], help="print the version")
    version.set_defaults(call=_version)
    return parser


def _runs_ls(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        runs = api.runs(options.project, name_contains=options.name, states=options.state)
        rows = [_run_row(run) for run in runs[: options.limit]]
        run_count = len(runs)
    if options.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    if not rows:
        print("no runs")
        return 0
    columns = ("id", "name", "state", "created_at", "path")
    cells = [columns, *([str(row[column] or "") for column in columns] for row in rows)]
    print("\n".join(table_lines(cells)))
    if run_count > len(rows):
        print(f"+{run_count - len(rows)} ...")
    return 0


def _runs_show(options: argparse.Namespace) -> int:
    from runyard import extended_json
    from runyard.api import Api

    with Api(options.base_url) as api:
        fields = _run_fields(api.run(options.path))
    if options.json:
        print(extended_json.dumps(extended_json.plain(fields)))
        return 0
    for name, value in fields.items():
        if value not in (None, "", [], {}):
            print("\n".join(_shown(name, value)))
    return 0


def _shown(name: str, value: Any) -> Sequence[str]:
    """Returns the lines that show a field to a person."""
    if name == "tags":
        return [f"tags: {', '.join(value)}"]
    if name == "transitions":
        lines = table_lines([cli_lives.transition_cells(one) for one in value])
    elif name == "host":
        lines = table_lines(host_lines(value))
    elif name == "files":
        lines = table_lines([(one["name"], bytes_text(one["size_bytes"])) for one in value])
    elif isinstance(value, dict):
        lines = [f"{key}: {item}" for key, item in value.items()]
    else:
        return [f"{name}: {value}"]
    return [f"{name}:", *(f"  {line}" for line in lines)]


def _run_fields(run: Any) -> dict[str, Any]:
    receipt = run.receipt()
    return {
        **_run_row(run),
        "exit_code": run.exit_code,
        "notes": run.notes,
        "tags": run.tags,
        "group": run.group,
        "job_type": run.job_type,
        "config": run.config,
        "summary": run.summary,
        "host": run.metadata,
        "receipt": {
            "text": str(receipt),
            "records_durable": receipt.records_durable,
            "records_missing": receipt.records_missing,
            "points_accepted": receipt.points_accepted,
            "points_rejected": receipt.points_rejected,
        },
        "transitions": run.transitions,
        "files": [{"name": file.name, "size_bytes": file.size_bytes} for file in run.files()],
    }


def _run_row(run: Any) -> dict[str, Any]:
    return {
        "path": run.path,
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "created_at": run.created_at,
        "url": run.url,
    }


def _server(arguments: Sequence[str]) -> int:
    beside = Path(sys.executable).parent / "runyard-server"
    program = str(beside) if beside.exists() else shutil.which("runyard-server")
    if program is None:
        print(
            "runyard: runyard-server is not installed here: pip install runyard-server",
            file=sys.stderr,
        )
        return 1
    os.execv(program, [program, *arguments])


def _version(options: argparse.Namespace) -> int:
    print(json.dumps({"version": VERSION}) if options.json else f"runyard {VERSION}")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
