"""`runyard runs events|writers|attempts`: what happened to a run, who wrote it, and how often it was begun."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from runyard.paths import run_path
from runyard.settings import Settings, resolve
from runyard.text_format import table_lines

EVIDENCE_LENGTH_MAX = 200


def add_commands(runs: Any, reading: argparse.ArgumentParser) -> None:
    """Adds the commands to those of `runyard runs`."""
    for name, what, call in (
        ("events", "what happened to a run, oldest first", _events),
        ("writers", "the processes that wrote a run", _writers),
        ("attempts", "how often a run was begun, and from where", _attempts),
    ):
        command = runs.add_parser(name, parents=[reading], help=what)
        command.add_argument("path", help="entity/project/run_id")
        command.set_defaults(call=call)


def _events(options: argparse.Namespace) -> int:
    from runyard import rpc_lives

    columns = ("TIME", "WHAT", "WHO", "EVIDENCE")
    return _list(options, rpc_lives.list_events, columns, _event_cells)


def _writers(options: argparse.Namespace) -> int:
    from runyard import rpc_lives

    columns = ("LABEL", "ATTEMPT", "STATE", "EXIT", "NODE", "PID", "GPUS", "START", "END")
    return _list(options, rpc_lives.list_writers, columns, _writer_cells)


def _attempts(options: argparse.Namespace) -> int:
    from runyard import rpc_lives

    columns = ("ATTEMPT", "KIND", "FROM STEP", "STATE", "HOST", "START", "END")
    return _list(options, rpc_lives.list_attempts, columns, _attempt_cells)


def _list(
    options: argparse.Namespace,
    read: Callable[[Any, str], Iterable[Any]],
    columns: Sequence[str],
    cells: Callable[[Any], Sequence[str]],
) -> int:
    """Prints what is read of the run: as a JSON list, or as a table."""
    from runyard import rpc

    settings = resolve({"base_url": options.base_url}, Settings())
    path = run_path(options.path, settings)
    connection = rpc.Connection(settings.base_url, settings.api_key)
    try:
        records = list(read(connection, path))
    finally:
        connection.close()
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in records], ensure_ascii=False))
        return 0
    print("\n".join(table_lines([columns, *map(cells, records)])))
    return 0


def _event_cells(event: Any) -> Sequence[str]:
    what = event.kind.replace("_", " ")
    if event.kind == "transition":
        what = f"{event.from_state} -> {event.to_state}" if event.from_state else event.to_state
    said = " ".join(f"{event.title}: {event.evidence}".split()) if event.title else event.evidence
    parts = (event.cause.replace("_", " "), event.level, " ".join(said.split()))
    evidence = "; ".join(part for part in parts if part)
    if len(evidence) > EVIDENCE_LENGTH_MAX:
        evidence = evidence[:EVIDENCE_LENGTH_MAX] + " … (whole with --json)"
    return _moment(event.time_s), what, event.actor, evidence


def _writer_cells(writer: Any) -> Sequence[str]:
    return (
        writer.label,
        str(writer.attempt),
        writer.state,
        "" if writer.exit_code is None else str(writer.exit_code),
        writer.node,
        str(writer.pid or ""),
        ",".join(writer.gpus),
        _moment(writer.start_time_s),
        _moment(writer.end_time_s),
    )


def _attempt_cells(attempt: Any) -> Sequence[str]:
    step = attempt.rewound_to_step
    return (
        str(attempt.attempt),
        attempt.kind,
        "" if step is None else str(step),
        attempt.state,
        attempt.hostname,
        _moment(attempt.start_time_s),
        _moment(attempt.end_time_s),
    )


def _moment(time_s: float | None) -> str:
    return "" if time_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))
