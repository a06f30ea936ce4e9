"""How the server tells of itself: names of log events, counters and histograms, and how a log line looks."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from prometheus_client import Counter, Gauge, Histogram

# Log events of the process and the rpc edge; a service keeps its own beside its code until two need one.
EVENT_CHILD_RESTARTED: Final = "child_restarted"
EVENT_CHILD_STARTED: Final = "child_started"
EVENT_CHILD_STOPPED: Final = "child_stopped"
EVENT_CHILD_VANISHED: Final = "child_vanished"
EVENT_CONFIG_LOADED: Final = "config_loaded"
EVENT_PORT_REPLACED: Final = "port_replaced"
EVENT_PROCESS_FAILED: Final = "process_failed"
EVENT_PROCESS_READY: Final = "process_ready"
EVENT_PROCESS_STOPPED: Final = "process_stopped"
EVENT_PROCESS_STOPPING: Final = "process_stopping"
EVENT_REQUEST_FAILED: Final = "request_failed"
EVENT_REQUEST_REFUSED: Final = "request_refused"
EVENT_SERVICE_STARTED: Final = "service_started"
EVENT_SERVICE_STOPPED: Final = "service_stopped"
EVENT_STOP_TIMED_OUT: Final = "stop_timed_out"
EVENT_WEB_NOT_BUILT: Final = "web_not_built"

SECONDS_BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
)

RPC_REQUESTS = Counter(
    "runyard_rpc_requests_total", "Calls answered, by method and gRPC code.", ("method", "code")
)
RPC_REFUSED = Counter(
    "runyard_rpc_refused_total",
    "Calls answered with an error, by its reason.",
    ("method", "reason"),
)
RPC_SECONDS = Histogram(
    "runyard_rpc_seconds", "Time to answer a call.", ("method",), buckets=SECONDS_BUCKETS
)
RPC_IN_FLIGHT = Gauge("runyard_rpc_in_flight", "Calls being answered now.")
SIBLING_CALLS = Counter(
    "runyard_sibling_calls_total",
    "Calls to other services, by service and gRPC code.",
    ("service", "code"),
)
SIBLING_RETRIES = Counter(
    "runyard_sibling_retries_total",
    "Calls repeated because a service was unavailable.",
    ("service",),
)
HTTP_REQUESTS = Counter(
    "runyard_http_requests_total",
    "HTTP requests answered, by kind of route and status.",
    ("route", "status"),
)
HTTP_SECONDS = Histogram(
    "runyard_http_seconds", "Time to answer an HTTP request.", ("route",), buckets=SECONDS_BUCKETS
)
HTTP_REFUSED = Counter(
    "runyard_http_refused_total", "HTTP requests refused before routing, by reason.", ("reason",)
)
CHILD_RESTARTS = Counter(
    "runyard_child_restarts_total", "Child processes restarted because they ended.", ("child",)
)
SERVICE_READY = Gauge(
    "runyard_service_ready", "1 while the service is ready, else 0.", ("service",)
)


def configure_logging(*, level: str, is_json: bool | None, stream: TextIO | None = None) -> None:
    """Sends all log records to `stream` (standard error), one a line; `is_json` None means JSON unless it is a terminal."""
    out = stream if stream is not None else sys.stderr
    if is_json is None:
        is_json = not out.isatty()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter() if is_json else ConsoleFormatter(is_coloured=out.isatty()))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("runyard").setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: time, level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        line: dict[str, Any] = {
            "time": _time_text(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for key, value in _fields(record).items():
            line[key if key not in line else f"{key}_"] = value
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """Writes a record for a person: time, level, logger, event, key=value."""

    _COLOURS: Final = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}

    def __init__(self, *, is_coloured: bool) -> None:
        super().__init__()
        self._is_coloured = is_coloured

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, and the traceback after it where there is one."""
        fields = " ".join(
            f"{key}={_console_value(value)}" for key, value in _fields(record).items()
        )
        name = record.name.removeprefix("runyard.")
        level = f"{record.levelname.lower():<7}"
        if self._is_coloured and record.levelname in self._COLOURS:
            level = f"{self._COLOURS[record.levelname]}{level}\x1b[0m"
        clock = self.formatTime(record, "%H:%M:%S")
        line = f"{clock} {level} {name:<9} {record.getMessage()} {fields}".rstrip()
        if record.exc_info:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _time_text(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _console_value(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or "\n" in text or not text else text
