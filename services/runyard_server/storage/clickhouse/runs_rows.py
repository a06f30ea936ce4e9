"""Turns run documents into rows of the table `runs` and back; pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from runyard_server.domain.run import Host, MetricDefinition, RunDocument, RunKey, RunState
from runyard_server.storage.life_json import life_to_json, with_life

CONFIG_PATHS_MAX: Final = 10_000
"""Paths of one config that filters can see; further ones are in config_json only."""
CONFIG_PATH_LENGTH_MAX: Final = 1_024
CONFIG_TEXT_LENGTH_MAX: Final = 65_536

_TYPES: Final = {
    "entity": pa.string(),
    "project": pa.string(),
    "run": pa.uint64(),
    "run_id": pa.string(),
    "display_name": pa.string(),
    "state": pa.string(),
    "is_deleted": pa.uint8(),
    "run_group": pa.string(),
    "job_type": pa.string(),
    "tags": pa.list_(pa.string()),
    "notes": pa.string(),
    "create_time": pa.int64(),
    "start_time": pa.int64(),
    "end_time": pa.int64(),
    "heartbeat_time": pa.int64(),
    "update_time": pa.int64(),
    "exit_code": pa.int32(),
    "attempt_count": pa.uint32(),
    "writer_count": pa.uint32(),
    "hostname": pa.string(),
    "username": pa.string(),
    "host_json": pa.string(),
    "metric_definitions_json": pa.string(),
    "config": pa.string(),
    "config_json": pa.string(),
    "life_json": pa.string(),
    "version": pa.uint64(),
}
COLUMNS: Final = tuple(name for name in _TYPES if name != "config")
"""What a document is read back from."""


def documents_to_table(documents: Sequence[RunDocument]) -> pa.Table:
    """Returns one row per document, ordered by the table's key."""
    ordered = sorted(documents, key=lambda d: (d.entity, d.project, d.run_key, d.version))
    rows = [_row(document) for document in ordered]
    return pa.table(
        {name: pa.array([row[name] for row in rows], kind) for name, kind in _TYPES.items()}
    )


def read_documents(table: pa.Table) -> Iterator[RunDocument]:
    """Returns the documents of a query for COLUMNS."""
    columns = {name: [_text(v) for v in table.column(name).to_pylist()] for name in COLUMNS}
    for index in range(table.num_rows):
        yield _document({name: values[index] for name, values in columns.items()})


def flatten_config(config_json: str) -> dict[str, Any]:
    """Returns the scalars of a config by dotted path, each path once, as ClickHouse takes them for its JSON type.

    Floats that JSON cannot say, and members beyond the limits, are left out: they are in the config's text.
    """
    flat: dict[str, Any] = {}
    pending: list[tuple[str, Any]] = [("", json.loads(config_json or "{}"))]
    while pending and len(flat) < CONFIG_PATHS_MAX:
        path, value = pending.pop()
        if isinstance(value, dict):
            if "$float" in value:
                continue
            members = [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
            pending.extend(reversed(members))
        elif isinstance(value, list):
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            _put(flat, path, text)
        elif value is not None:
            _put(flat, path, value)
    return _without_clashes(flat)


def _put(flat: dict[str, Any], path: str, value: Any) -> None:
    is_long = isinstance(value, str) and len(value) > CONFIG_TEXT_LENGTH_MAX
    if path and len(path) <= CONFIG_PATH_LENGTH_MAX and not is_long:
        flat.setdefault(path, value)


def _without_clashes(flat: dict[str, Any]) -> dict[str, Any]:
    """Returns the members whose path no other one runs through: `a` and `a.b` cannot both be written flat."""
    inner = {path[:i] for path in flat for i, c in enumerate(path) if c == "."}
    return {path: value for path, value in flat.items() if path not in inner}


def _row(document: RunDocument) -> dict[str, Any]:
    definitions = [dataclasses.asdict(d) for d in document.metric_definitions]
    return {
        "entity": document.entity,
        "project": document.project,
        "run": document.run_key,
        "run_id": document.run_id,
        "display_name": document.display_name,
        "state": document.state.value,
        "is_deleted": int(document.is_deleted),
        "run_group": document.group,
        "job_type": document.job_type,
        "tags": list(document.tags),
        "notes": document.notes,
        "create_time": document.create_time_unix_ns,
        "start_time": document.start_time_unix_ns or 0,
        "end_time": document.end_time_unix_ns or 0,
        "heartbeat_time": document.heartbeat_time_unix_ns or 0,
        "update_time": document.update_time_unix_ns,
        "exit_code": document.exit_code,
        "attempt_count": document.attempt_count,
        "writer_count": document.writer_count,
        "hostname": document.host.hostname,
        "username": document.host.username,
        "host_json": _dump(dataclasses.asdict(document.host)),
        "metric_definitions_json": _dump(definitions),
        "config": _dump(flatten_config(document.config_json)),
        "config_json": document.config_json,
        "life_json": life_to_json(document),
        "version": document.version,
    }


def _document(row: dict[str, Any]) -> RunDocument:
    definitions = json.loads(row["metric_definitions_json"] or "[]")
    document = RunDocument(
        run_key=RunKey(row["run"]),
        entity=row["entity"],
        project=row["project"],
        run_id=row["run_id"],
        display_name=row["display_name"],
        state=RunState(row["state"]),
        config_json=row["config_json"],
        notes=row["notes"],
        tags=tuple(_text(tag) for tag in row["tags"]),
        group=row["run_group"],
        job_type=row["job_type"],
        create_time_unix_ns=row["create_time"],
        start_time_unix_ns=row["start_time"] or None,
        end_time_unix_ns=row["end_time"] or None,
        heartbeat_time_unix_ns=row["heartbeat_time"] or None,
        update_time_unix_ns=row["update_time"],
        exit_code=row["exit_code"],
        host=Host(**json.loads(row["host_json"])),
        metric_definitions=tuple(
            MetricDefinition(**{**d, "summaries": tuple(d["summaries"])}) for d in definitions
        ),
        attempt_count=row["attempt_count"],
        writer_count=row["writer_count"],
        is_deleted=bool(row["is_deleted"]),
        version=row["version"],
    )
    return with_life(document, row["life_json"])


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
