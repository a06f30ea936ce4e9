"""`runyard runs events|writers|attempts`: what happened to a run, who wrote it, and how often it was begun."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from runyard.errors import Unavailable
from runyard.paths import run_path
from runyard.settings import Settings, resolve
from runyard.text_format import age_text, table_lines

EVIDENCE_LENGTH_MAX = 200
LIVENESS_TIMEOUT_S = 5.0
WRITER_COLUMNS = (
    "LABEL", "ATTEMPT", "STATE", "EXIT", "STEP", "BEHIND", "HEARTBEAT", "NODE", "PID", "GPUS", "START", "END",
)  # fmt: skip


def add_commands(runs: Any, reading: argparse.ArgumentParser) -> None:
    """Adds the commands to those of `runyard runs`."""
    for name, what, call in (
        ("events", "what happened to a run, oldest first", _events),
        ("writers", "the processes that wrote a run, and how far each is", _writers),
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
    from runyard import rpc_lives, rpc_stops

    with _opened(options) as (connection, path):
        is_live = rpc_stops.stop_state(connection, path).is_live
        writers = list(rpc_lives.list_writers(connection, path))
    liveness = _liveness(options) if is_live else None
    lives = {one.writer: one for one in liveness.writers} if liveness else {}
    if options.json:
        fields = [
            {**dataclasses.asdict(one), "liveness": _fields(lives.get(one.writer))}
            for one in writers
        ]
        print(json.dumps(fields, ensure_ascii=False))
        return 0
    rows = [_writer_cells(one, lives.get(one.writer), is_live=is_live) for one in writers]
    print("\n".join(table_lines([WRITER_COLUMNS, *rows])))
    if liveness and liveness.median_step is not None:
        margin = f"lagging from {liveness.straggler_steps} steps behind"
        print(f"median step {liveness.median_step}; {margin}")
    return 0


def _liveness(options: argparse.Namespace) -> Any:
    """Returns what the monitor knows; None, told on stderr, if it does not answer: the rest is still worth showing."""
    from runyard import rpc_lives

    try:
        with _opened(options, timeout_s=LIVENESS_TIMEOUT_S) as (connection, path):
            return rpc_lives.read_liveness(connection, path)
    except Unavailable as error:
        print(f"runyard: steps and heartbeats are not known now: {error}", file=sys.stderr)
        return None


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
    with _opened(options) as (connection, path):
        records = list(read(connection, path))
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in records], ensure_ascii=False))
        return 0
    print("\n".join(table_lines([columns, *map(cells, records)])))
    return 0


@contextlib.contextmanager
def _opened(options: argparse.Namespace, *, timeout_s: float = 60.0) -> Iterator[tuple[Any, str]]:
    """Gives a connection to the server, and the run's whole path."""
    from runyard import rpc

    settings = resolve({"base_url": options.base_url}, Settings())
    path = run_path(options.path, settings)
    connection = rpc.Connection(settings.base_url, settings.api_key, timeout_s=timeout_s)
    try:
        yield connection, path
    finally:
        connection.close()


def transition_cells(one: Mapping[str, Any]) -> Sequence[str]:
    """Returns when, what, who and why of one of `Run.transitions`."""
    what = _change("" if one["from"] == "unspecified" else one["from"], one["to"])
    cause = one["cause"].lower().replace("_", " ")
    return _moment(one["time"]), what, one["actor"], _cut((cause, one["evidence"]))


def _event_cells(event: Any) -> Sequence[str]:
    what = event.kind.replace("_", " ")
    if event.kind == "transition":
        what = _change(event.from_state, event.to_state)
    said = f"{event.title}: {event.evidence}" if event.title else event.evidence
    parts = (event.cause.replace("_", " "), event.level, said)
    return _moment(event.time_s), what, event.actor, _cut(parts)


def _change(before: str, after: str) -> str:
    return f"{before} -> {after}" if before else after


def _cut(parts: Iterable[str]) -> str:
    """Returns what is said in one line, cut where it is very long."""
    evidence = "; ".join(" ".join(part.split()) for part in parts if part)
    if len(evidence) > EVIDENCE_LENGTH_MAX:
        evidence = evidence[:EVIDENCE_LENGTH_MAX] + " … (whole with --json)"
    return evidence


def _writer_cells(writer: Any, life: Any, *, is_live: bool) -> Sequence[str]:
    # A writer that was never heard to end, of a run that has, ended with it.
    state = writer.state if is_live or writer.end_time_s is not None else "no end told"
    step = behind = beat = ""
    if life is not None:
        state += ", silent" if life.is_silent else ""
        step = "" if life.last_step is None else str(life.last_step)
        behind = "" if life.steps_behind is None else str(life.steps_behind)
        behind += ", lagging" if life.is_straggler else ""
        if life.last_beat_time_s is not None:
            beat = f"{age_text(time.time() - life.last_beat_time_s)} ago"
    return (
        writer.label,
        str(writer.attempt),
        state,
        "" if writer.exit_code is None else str(writer.exit_code),
        step,
        behind,
        beat,
        writer.node,
        str(writer.pid or ""),
        ",".join(writer.gpus),
        _moment(writer.start_time_s),
        _moment(writer.end_time_s),
    )


def _fields(record: Any) -> dict[str, Any] | None:
    return None if record is None else dataclasses.asdict(record)


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
