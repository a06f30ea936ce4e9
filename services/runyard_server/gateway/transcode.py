"""Finds methods by descriptor and turns JSON bodies into messages and back, so that a new RPC changes nothing here."""

from __future__ import annotations

import difflib
import importlib
import json
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf import json_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

import runyard_protos
from runyard_server.domain.errors import Internal, InvalidArgument
from runyard_server.gateway.message_json import to_json

_PACKAGE = re.compile(r"runyard\.([a-z_]+)\.v\d+")
_NO_FIELD = re.compile(r'Message type "([^"]+)" has no field named "([^"]*)"')
_PROBLEM_LENGTH_MAX = 400
INTERNAL_METHODS = frozenset(
    {
        "/runyard.metadata.v1.MetadataService/LeaseNotifications",  # its answer carries the targets' secrets
        "/runyard.metadata.v1.MetadataService/ReportNotifications",
        "/runyard.metadata.v1.MetadataService/RenewMonitorReplica",
        "/runyard.metadata.v1.MetadataService/RecordHeartbeats",
        "/runyard.ingest.v1.IngestService/PurgeRuns",
        "/runyard.files.v1.FilesService/PurgeRuns",
        "/runyard.files.v1.FilesService/ListConsoleArchives",
        "/runyard.files.v1.FilesService/ReadConsoleArchive",
        "/runyard.ingest.v1.IngestService/DropConsoleLines",
        "/runyard.query.v1.QueryService/ListPrintedRuns",
        "/runyard.query.v1.QueryService/ExportConsoleLines",
        "/runyard.query.v1.QueryService/CheckConsoleArchive",
    }
)
"""Calls that services make of each other; the gateway answers them as if they did not exist."""


@dataclass(frozen=True, slots=True)
class Method:
    """One unary method of one service."""

    path: str
    """Path of the call, /package.Service/Method."""
    service: str
    """The target that answers it: query for runyard.query.v1.QueryService."""
    request_type: type[Message]
    reply_type: type[Message]


def find_methods() -> dict[str, Method]:
    """Returns all unary methods of all services of the contracts, by path."""
    methods: dict[str, Method] = {}
    for module in pkgutil.walk_packages(runyard_protos.__path__, "runyard_protos."):
        if module.name.endswith("_pb2"):
            descriptor = importlib.import_module(module.name).DESCRIPTOR
            methods.update(_methods_of(descriptor))
    return methods


def find_public_methods() -> dict[str, Method]:
    """Returns the methods that the gateway forwards: all but those that only services may call."""
    return {path: one for path, one in find_methods().items() if path not in INTERNAL_METHODS}


def _methods_of(file: FileDescriptor) -> Mapping[str, Method]:
    found: dict[str, Method] = {}
    package = _PACKAGE.fullmatch(file.package)
    for service in file.services_by_name.values():
        assert package is not None, f"package {file.package} is not runyard.<noun>.v<n>"
        for method in service.methods:
            if method.client_streaming or method.server_streaming:
                continue
            path = f"/{service.full_name}/{method.name}"
            found[path] = Method(
                path,
                package[1],
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type),
            )
    return found


def encode_request(method: Method, body: bytes) -> bytes:
    """Returns the request's wire bytes from its JSON; raises InvalidArgument naming what is wrong in it."""
    if not body.strip():
        raise _malformed(method, "the body is empty: send {} for a request without fields")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _malformed(method, f"the body is not UTF-8: {error}") from error
    if not text.lstrip().startswith("{"):
        raise _malformed(method, "the body is not a JSON object")
    message = method.request_type()
    try:
        json_format.Parse(text, message)
        return message.SerializeToString()
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise _parse_problem(method, error) from error


def decode_reply(method: Method, body: bytes) -> bytes:
    """Returns the reply's JSON from its wire bytes; raises Internal if they are no such message."""
    try:
        message = method.reply_type.FromString(body)
    except DecodeError as error:
        raise Internal(
            "INTERNAL",
            f"service {method.service!r} answered {method.path} with bytes that are no {method.reply_type.DESCRIPTOR.name}",
            metadata={"method": method.path, "service": method.service},
        ) from error
    return to_json(message).encode()


def _parse_problem(method: Method, error: Exception) -> InvalidArgument:
    text = str(error)
    unknown = _NO_FIELD.search(text)
    if unknown is None:
        syntax = error.__cause__ if isinstance(error.__cause__, json.JSONDecodeError) else None
        return _malformed(
            method, f"the body does not fit: {str(syntax or text)[:_PROBLEM_LENGTH_MAX]}"
        )
    type_name, field = unknown[1], unknown[2][:128]
    known = _field_names(method.request_type.DESCRIPTOR, type_name)
    close = difflib.get_close_matches(field, known, n=1)
    hint = (
        f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(known) or 'no fields'}"
    )
    short_name = type_name.rpartition(".")[2]
    return _malformed(method, f"{short_name} has no field {field!r}{hint}", field=field)


def _field_names(root: object, type_name: str) -> list[str]:
    """Returns the JSON names of the fields of the message type `type_name`, found from `root` downwards."""
    seen, queue = set[str](), [root]
    while queue:
        descriptor = queue.pop()
        full_name = str(getattr(descriptor, "full_name", ""))
        if full_name == type_name:
            return [field.json_name for field in getattr(descriptor, "fields", ())]
        if full_name not in seen:
            seen.add(full_name)
            fields = getattr(descriptor, "fields", ())
            queue.extend(field.message_type for field in fields if field.message_type is not None)
    return []


def _malformed(method: Method, problem: str, *, field: str = "") -> InvalidArgument:
    metadata = {"method": method.path}
    if field:
        metadata["field"] = field
    return InvalidArgument("BODY_MALFORMED", f"{method.path}: {problem}", metadata=metadata)
