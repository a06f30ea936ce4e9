"""Reads and edits runs over HTTP: unary calls with binary protobuf bodies, as the Connect protocol writes them.

With the agent, the only part of the SDK that imports the stubs; loaded at the first use of `Api`.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf import field_mask_pb2, json_format, message, timestamp_pb2

from runyard import extended_json
from runyard.errors import Error, Unavailable, error_of
from runyard.records import (
    Columns,
    FileRecord,
    ProjectRecord,
    Receipt,
    RunRecord,
    WriterReceipt,
)
from runyard.version import VERSION
from runyard_protos.files.v1 import files_pb2
from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.query.v1 import query_pb2

TIMEOUT_S = 60.0
ERROR_BODY_BYTES_MAX = 1 << 20
METADATA = "/runyard.metadata.v1.MetadataService/"
QUERY = "/runyard.query.v1.QueryService/"
_FILES = "/runyard.files.v1.FilesService/"

_Reply = TypeVar("_Reply", bound=message.Message)


class Connection:
    """Carries unary calls to one server over a connection that is kept; safe from any thread."""

    def __init__(self, base_url: str, api_key: str = "", *, timeout_s: float = TIMEOUT_S) -> None:
        self.base_url = base_url
        self.api_key = api_key
        parts = urllib.parse.urlsplit(base_url)
        self._is_tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {
            "content-type": "application/proto",
            "connect-protocol-version": "1",
            "connect-timeout-ms": str(int(timeout_s * 1000)),
            "user-agent": f"runyard-python/{VERSION}",
        }
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._lock = threading.Lock()
        self._http: http.client.HTTPConnection | None = None

    def call(self, path: str, request: message.Message, reply_type: type[_Reply]) -> _Reply:
        """Returns the reply; raises the error class that the server's status names, Unavailable if none answers."""
        status, headers, body = self._post(self._prefix + path, request.SerializeToString())
        if status != 200:
            raise _error(status, headers, body, self.base_url)
        reply = reply_type()
        reply.ParseFromString(body)
        return reply

    def open_download(self, path: str) -> http.client.HTTPResponse:
        """Returns the answer to a GET of the path, to be read and closed; raises as `call`."""
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        own = kind(self._host, self._port, timeout=self._timeout_s)
        try:
            headers = {k: v for k, v in self._headers.items() if not k.startswith("con")}
            own.request("GET", self._prefix + path, headers={**headers, "connection": "close"})
            reply = own.getresponse()
        except (OSError, http.client.HTTPException) as error:
            own.close()
            raise self._unavailable(error) from None
        if reply.status == 200:
            return reply
        told = {k.lower(): v for k, v in reply.headers.items()}
        with reply:
            raise _error(reply.status, told, reply.read(ERROR_BODY_BYTES_MAX), self.base_url)

    def close(self) -> None:
        """Lets go of the connection; the next call makes another."""
        with self._lock:
            self._drop()

    def __del__(self) -> None:
        connection = self.__dict__.get("_http")
        if connection is not None:
            connection.close()

    def _post(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        with self._lock:
            is_kept = self._http is not None
            try:
                return self._exchange(path, body)
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if not is_kept or isinstance(error, (socket.timeout, ssl.SSLError)):
                    raise self._unavailable(error) from None
            try:  # a kept connection may have been closed by the server meanwhile; every call is safe to repeat
                return self._exchange(path, body)
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                raise self._unavailable(error) from None

    def _exchange(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        if self._http is None:
            kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
            self._http = kind(self._host, self._port, timeout=self._timeout_s)
        self._http.request("POST", path, body=body, headers=self._headers)
        reply = self._http.getresponse()
        content = reply.read()
        if reply.will_close:
            self._drop()
        return reply.status, {k.lower(): v for k, v in reply.headers.items()}, content

    def _drop(self) -> None:
        connection, self._http = self._http, None
        if connection is not None:
            connection.close()

    def _unavailable(self, error: Exception) -> Error:
        return Unavailable(
            f"the server at {self.base_url} does not answer ({error}). Is it running (`runyard server`), and is "
            f"RUNYARD_BASE_URL its address?",
            reason="SERVICE_UNAVAILABLE",
        )


class Client:
    """The calls that reading back needs, with plain values in and out."""

    def __init__(self, connection: Connection) -> None:
        self.connection = self._connection = connection

    def get_run(self, path: str) -> RunRecord:
        """Returns the run with its whole config."""
        request = metadata_pb2.GetRunRequest(path=path)
        reply = self._connection.call(METADATA + "GetRun", request, metadata_pb2.GetRunResponse)
        return _run(reply.run)

    def update_run(self, path: str, fields: Mapping[str, Any]) -> RunRecord:
        """Changes display_name, notes, tags, group, job_type or config_json; returns the run as it now is."""
        run = metadata_pb2.Run(path=path, **fields)
        mask = field_mask_pb2.FieldMask(paths=list(fields))
        request = metadata_pb2.UpdateRunRequest(run=run, update_mask=mask)
        reply = self._connection.call(
            METADATA + "UpdateRun", request, metadata_pb2.UpdateRunResponse
        )
        return _run(reply.run)

    def list_transitions(self, path: str) -> list[dict[str, Any]]:
        """Returns the run's changes of state, oldest first."""
        request = metadata_pb2.ListRunTransitionsRequest(run_path=path, page_size=1000)
        found: list[dict[str, Any]] = []
        while True:
            reply = self._connection.call(
                METADATA + "ListRunTransitions", request, metadata_pb2.ListRunTransitionsResponse
            )
            found += map(_transition, reply.transitions)
            if not reply.next_page_token:
                return found
            request.page_token = reply.next_page_token

    def list_projects(self, entity: str) -> Iterator[ProjectRecord]:
        """Yields projects, latest activity first."""
        token = ""
        while True:
            request = metadata_pb2.ListProjectsRequest(
                entity=entity, page_size=1000, page_token=token
            )
            reply = self._connection.call(
                METADATA + "ListProjects", request, metadata_pb2.ListProjectsResponse
            )
            for project in reply.projects:
                yield project_record(project)
            token = reply.next_page_token
            if not token:
                return

    def query_runs(
        self,
        project_path: str,
        *,
        page_size: int,
        page_token: str,
        name_contains: str = "",
        states: Sequence[str] = (),
    ) -> tuple[list[RunRecord], str, int]:
        """Returns a page of runs, newest first, with config and summary; the next page's token; how many match."""
        request = query_pb2.QueryRunsRequest(
            project_path=project_path,
            page_size=page_size,
            page_token=page_token,
            name_contains=name_contains,
            states=[_state_number(state) for state in states],
            config_keys=["*"],
            summary_keys=["*"],
        )
        reply = self._connection.call(QUERY + "QueryRuns", request, query_pb2.QueryRunsResponse)
        rows = [_run(row.run, row.summary_json or "{}") for row in reply.runs]
        return rows, reply.next_page_token, reply.total_count

    def metric_names(self, path: str) -> list[str]:
        """Returns the names of all metrics of the run, in byte order."""
        names: list[str] = []
        token = ""
        while True:
            request = query_pb2.ListMetricsRequest(
                run_path=path, page_size=10_000, page_token=token
            )
            reply = self._connection.call(
                QUERY + "ListMetrics", request, query_pb2.ListMetricsResponse
            )
            names.extend(metric.name for metric in reply.metrics)
            token = reply.next_page_token
            if not token:
                return names

    def summary_json(self, path: str) -> str:
        """Returns the run's summary as an extended JSON object."""
        request = query_pb2.GetSummaryRequest(run_path=path, metric_count_max=100_000)
        reply = self._connection.call(QUERY + "GetSummary", request, query_pb2.GetSummaryResponse)
        return reply.summary_json or "{}"

    def receipt(self, path: str) -> Receipt:
        """Returns what is durable of the run."""
        request = query_pb2.GetReceiptRequest(run_path=path)
        reply = self._connection.call(QUERY + "GetReceipt", request, query_pb2.GetReceiptResponse)
        last_step = reply.last_step if reply.HasField("last_step") else None
        writers = tuple(_writer_receipt(writer) for writer in reply.writers)
        return Receipt(reply.records_durable, last_step, writers)

    def query_series(
        self,
        path: str,
        metrics: Sequence[str],
        *,
        first_step: int | None,
        last_step: int | None,
        limit: int,
        writers: Sequence[int] = (),
        is_every_attempt: bool = False,
    ) -> tuple[list[Columns], int | None]:
        """Returns stored points of up to 1,000 metrics, and the step to go on from (None: that was all)."""
        request = query_pb2.QuerySeriesRequest(
            run_path=path,
            metrics=metrics,
            range=_range(first_step, last_step),
            limit=limit,
            writers=writers,
            attempts=query_pb2.ATTEMPT_SELECTION_ALL
            if is_every_attempt
            else query_pb2.ATTEMPT_SELECTION_CURRENT,
        )
        reply = self._connection.call(QUERY + "QuerySeries", request, query_pb2.QuerySeriesResponse)
        columns = [
            Columns(s.metric, list(s.steps), list(s.times_unix_ns), list(s.values), list(s.writers))
            for s in reply.series
        ]
        return columns, reply.next_step if reply.HasField("next_step") else None

    def query_buckets(
        self,
        path: str,
        metrics: Sequence[str],
        *,
        bucket_count_max: int,
        first_step: int | None = None,
        last_step: int | None = None,
    ) -> list[Columns]:
        """Returns up to 1,000 metrics, each as raw points or, if there are more, as the last points of buckets."""
        request = query_pb2.QueryBucketsRequest(
            run_paths=[path],
            metrics=metrics,
            range=_range(first_step, last_step),
            bucket_count_max=bucket_count_max,
        )
        reply = self._connection.call(
            QUERY + "QueryBuckets", request, query_pb2.QueryBucketsResponse
        )
        return [
            Columns(
                s.metric,
                list(s.last_steps),
                list(s.times_unix_ns),
                list(s.lasts),
                is_raw=s.is_raw,
            )
            for s in reply.series
        ]

    def list_files(self, path: str) -> Iterator[FileRecord]:
        """Yields the run's files by name."""
        token = ""
        while True:
            request = files_pb2.ListFilesRequest(run_path=path, page_size=1000, page_token=token)
            reply = self._connection.call(
                _FILES + "ListFiles", request, files_pb2.ListFilesResponse
            )
            for file in reply.files:
                yield _file(file)
            token = reply.next_page_token
            if not token:
                return

    def delete_files(self, path: str, names: Sequence[str]) -> tuple[int, int]:
        """Removes files of the run, at most 1,000; returns how many there were and how many bytes that freed."""
        request = files_pb2.DeleteFilesRequest(run_path=path, names=names)
        reply = self._connection.call(
            _FILES + "DeleteFiles", request, files_pb2.DeleteFilesResponse
        )
        return reply.deleted_count, reply.freed_bytes

    def file_url(self, path: str, name: str) -> tuple[FileRecord, str]:
        """Returns a file and the address of its bytes."""
        request = files_pb2.GetFileRequest(run_path=path, name=name)
        reply = self._connection.call(_FILES + "GetFile", request, files_pb2.GetFileResponse)
        return _file(reply.file), reply.download_url


def _error(status: int, headers: Mapping[str, str], body: bytes, base_url: str) -> Error:
    """Returns the error that a Connect error body, or an HTTP status without one, tells of."""
    try:
        fields = json.loads(body[:ERROR_BODY_BYTES_MAX])
        code, text = str(fields["code"]), str(fields.get("message") or "")
    except (ValueError, KeyError, TypeError):
        code = {401: "unauthenticated", 403: "permission_denied", 404: "unimplemented"}.get(
            status, "unavailable" if status >= 500 or status == 429 else "internal"
        )
        return error_of(code, f"{base_url} answered HTTP {status}; is a runyard server there?")
    reason, retry_delay_s = "", None
    metadata: dict[str, str] = {}
    for detail in fields.get("details") or ():
        debug = detail.get("debug") if isinstance(detail, dict) else None
        if not isinstance(debug, dict):
            continue
        if str(detail.get("type", "")).endswith("ErrorInfo"):
            reason, metadata = str(debug.get("reason") or ""), debug.get("metadata") or {}
        elif str(detail.get("type", "")).endswith("RetryInfo"):
            retry_delay_s = _seconds_of(debug.get("retryDelay"))
    if retry_delay_s is None:
        retry_delay_s = _seconds_of(headers.get("retry-after"))
    return error_of(code, text, reason=reason, metadata=metadata, retry_delay_s=retry_delay_s)


def _seconds_of(text: Any) -> float | None:
    try:
        return float(str(text).rstrip("s")) if text else None
    except ValueError:
        return None


def _range(first_step: int | None, last_step: int | None) -> query_pb2.StepRange | None:
    if first_step is None and last_step is None:
        return None
    return query_pb2.StepRange(first_step=first_step, last_step=last_step)


def _run(run: metadata_pb2.Run, summary_json: str = "") -> RunRecord:
    return RunRecord(
        path=run.path,
        run_key=run.run_key,
        entity=run.entity,
        project=run.project,
        run_id=run.run_id,
        display_name=run.display_name,
        state=_state_name(run.state),
        config_json=run.config_json or "{}",
        notes=run.notes,
        tags=tuple(run.tags),
        group=run.group,
        job_type=run.job_type,
        create_time_s=_time_s(run, "create_time"),
        start_time_s=_time_s(run, "start_time"),
        end_time_s=_time_s(run, "end_time"),
        heartbeat_time_s=_time_s(run, "heartbeat_time"),
        exit_code=run.exit_code if run.HasField("exit_code") else None,
        host=_host(run.host),
        attempt_count=run.attempt_count,
        writer_count=run.writer_count,
        summary_json=summary_json,
    )


def _host(message: metadata_pb2.Host) -> dict[str, object]:
    """Returns the machine and program by name, the further facts among them."""
    host: dict[str, object] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    facts = extended_json.loads(str(host.pop("extra_json", "{}")))
    return {**facts, **host}


def project_record(project: metadata_pb2.Project) -> ProjectRecord:
    """Returns the project of the message."""
    return ProjectRecord(
        path=project.path,
        entity=project.entity,
        name=project.name,
        description=project.description,
        create_time_s=_time_s(project, "create_time"),
        activity_time_s=_time_s(project, "activity_time"),
        run_count=project.run_count,
        live_run_count=project.live_run_count,
    )


def _file(file: files_pb2.File) -> FileRecord:
    update_time_s = _time_s(file, "update_time")
    return FileRecord(
        file.name, file.size_bytes, file.sha256.hex(), file.content_type, update_time_s
    )


def _writer_receipt(writer: query_pb2.WriterReceipt) -> WriterReceipt:
    return WriterReceipt(
        writer=writer.writer,
        records_durable=writer.records_durable,
        contiguous_sequence=writer.contiguous_sequence,
        last_sequence=writer.last_sequence,
        gaps=tuple((gap.first, gap.last) for gap in writer.gaps),
        points_rejected=writer.points_rejected,
        points_accepted=writer.points_accepted,
        label=writer.label,
        records_written=writer.records_written if writer.HasField("records_written") else None,
        records_refused=writer.records_refused,
    )


def _transition(transition: metadata_pb2.RunTransition) -> dict[str, Any]:
    cause = metadata_pb2.TransitionCause.Name(transition.cause)
    return {
        "from": _state_name(getattr(transition, "from")),
        "to": _state_name(transition.to),
        "cause": cause.removeprefix("TRANSITION_CAUSE_"),
        "evidence": transition.evidence,
        "actor": transition.actor,
        "time": _time_s(transition, "record_time"),
        "attempt": transition.attempt,
    }


def _state_name(number: int) -> str:
    """Returns the state as users see it: "running"; a state newer than this SDK as "state 12"."""
    try:
        name = metadata_pb2.RunState.Name(number)  # type: ignore[arg-type]  # a number off the wire
    except ValueError:
        return f"state {number}"
    return name.removeprefix("RUN_STATE_").lower()


def _state_number(name: str) -> Any:
    try:
        return metadata_pb2.RunState.Value(f"RUN_STATE_{name.upper()}")
    except ValueError:
        known = [_state_name(value.number) for value in metadata_pb2.RunState.DESCRIPTOR.values]
        raise error_of(
            "invalid_argument", f"state {name!r} is not one of {', '.join(known[1:])}"
        ) from None


def _time_s(holder: message.Message, field: str) -> float | None:
    if not holder.HasField(field):
        return None
    time: timestamp_pb2.Timestamp = getattr(holder, field)
    return time.seconds + time.nanos / 1e9


def name_of(holder: message.Message, field: str, number: int) -> str:
    """Returns the name of an enum's value without its prefix, in small letters; the number where it has none here."""
    kind = holder.DESCRIPTOR.fields_by_name[field].enum_type
    assert kind is not None, f"{field} is no enum"
    value = kind.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix_length = len(kind.values_by_number[0].name) - len("UNSPECIFIED")
    return str(value.name)[prefix_length:].lower()
