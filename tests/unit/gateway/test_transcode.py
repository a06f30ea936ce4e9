"""JSON bodies become messages and back without a change, for every method of the contracts."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.query.v1 import query_pb2
from runyard_server.domain.errors import Internal, InvalidArgument
from runyard_server.gateway.message_json import CHUNK_LENGTH, to_json
from runyard_server.gateway.transcode import (
    INTERNAL_METHODS,
    Method,
    decode_reply,
    encode_request,
    find_methods,
    find_public_methods,
)

METHODS = find_methods()
QUERY_RUNS = METHODS["/runyard.query.v1.QueryService/QueryRuns"]
GET_RUN = METHODS["/runyard.metadata.v1.MetadataService/GetRun"]

SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
}


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=10)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.text(st.characters(codec="utf-8"), max_size=10)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        return st.sampled_from([value.number for value in field.enum_type.values])
    return SCALARS[field.cpp_type]


@st.composite
def messages(draw: Callable[..., Any], descriptor: Descriptor, depth: int = 0) -> Message:
    """Draws any message of a type, fields set at will."""
    message = GetMessageClass(descriptor)()
    if descriptor.full_name == "google.protobuf.Timestamp":
        return GetMessageClass(descriptor)(
            seconds=draw(st.integers(0, 253402300799)), nanos=draw(st.integers(0, 999_999_999))
        )
    if descriptor.full_name == "google.protobuf.Duration":
        return GetMessageClass(descriptor)(
            seconds=draw(st.integers(0, 10**9)), nanos=draw(st.integers(0, 999_999_999))
        )
    if descriptor.full_name == "google.protobuf.FieldMask":
        return GetMessageClass(descriptor)(
            paths=draw(st.lists(st.sampled_from(["notes", "tags", "job_type"])))
        )
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None:
            if depth < 3:
                inner = messages(field.message_type, depth + 1)
                if field.is_repeated:
                    getattr(message, field.name).extend(draw(st.lists(inner, max_size=2)))
                else:
                    getattr(message, field.name).CopyFrom(draw(inner))
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values(field), max_size=3)))
        else:
            setattr(message, field.name, draw(values(field)))
    return message


@pytest.mark.parametrize("method", list(METHODS.values()), ids=lambda method: method.path)
@given(data=st.data())
def test_requests_and_replies_round_trip(method: Method, data: st.DataObject) -> None:
    """JSON made of any request is read back as that request, and any reply's JSON is what the reference printer says."""
    request = data.draw(messages(method.request_type.DESCRIPTOR))
    wire = encode_request(method, to_json(request).encode())
    assert _canonical(method.request_type.FromString(wire)) == _canonical(request)
    reply = data.draw(messages(method.reply_type.DESCRIPTOR))
    text = decode_reply(method, reply.SerializeToString())
    assert json.loads(text) == json.loads(json_format.MessageToJson(reply))


def test_every_service_is_found() -> None:
    """Each service of the contracts is there under the target that answers it."""
    assert {method.service for method in METHODS.values()} == {
        "ingest",
        "query",
        "metadata",
        "monitor",
        "files",
    }


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_doubles_keep_their_bits(numbers: list[float]) -> None:
    """Every double comes back bit by bit, NaN as NaN."""
    reply = query_pb2.QuerySeriesResponse(series=[query_pb2.Series(values=numbers)])
    back = json_format.Parse(to_json(reply), query_pb2.QuerySeriesResponse()).series[0].values
    for given_number, read in zip(numbers, back, strict=True):
        if math.isnan(given_number):
            assert math.isnan(read)
        else:
            assert struct.pack("<d", given_number) == struct.pack("<d", read)


def test_columns_longer_than_a_chunk() -> None:
    """A column that is converted in several goes has no seam."""
    count = CHUNK_LENGTH * 2 + 1
    series = query_pb2.Series(
        steps=range(count), values=[i / 3 for i in range(count)], writers=[7] * count
    )
    read = json.loads(to_json(query_pb2.QuerySeriesResponse(series=[series])))["series"][0]
    assert [int(step) for step in read["steps"]] == list(range(count))
    assert read["values"] == [i / 3 for i in range(count)]
    assert read["writers"] == [7] * count


@pytest.mark.parametrize("name", ["projectPath", "project_path"])
def test_both_spellings_of_a_field_are_taken(name: str) -> None:
    """LowerCamelCase as the standard says, and the name in the contract."""
    wire = encode_request(QUERY_RUNS, json.dumps({name: "nico/p"}).encode())
    assert query_pb2.QueryRunsRequest.FromString(wire).project_path == "nico/p"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"projectPaht": "a/b"}', "has no field 'projectPaht'; did you mean 'projectPath'?"),
        ('{"pageSize": "many"}', "does not fit"),
        ('{"pageSize": -1}', "does not fit"),
        ('{"states": ["RUN_STATE_ASLEEP"]}', "does not fit"),
        ("", "the body is empty: send {}"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"pageSize": 1', "does not fit"),
        ('{"projectPath": "\\ud800"}', "does not fit"),
        ("{" * 1000, "does not fit"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "does not fit"),
    ],
)
def test_wrong_bodies_are_named(body: str, said: str) -> None:
    """Each mistake gets an InvalidArgument that says what it is; nothing crashes."""
    with pytest.raises(InvalidArgument) as caught:
        encode_request(QUERY_RUNS, body.encode())
    assert caught.value.reason == "BODY_MALFORMED"
    assert said in caught.value.message


def test_unknown_field_of_an_inner_message_lists_what_there_is() -> None:
    """The hint speaks of the message that has the mistake, not of the outermost."""
    update = METHODS["/runyard.metadata.v1.MetadataService/UpdateRun"]
    with pytest.raises(InvalidArgument, match=r"Run has no field 'labels'"):
        encode_request(update, b'{"run": {"labels": ["x"]}}')


def test_bytes_that_are_no_utf8() -> None:
    """A body in another encoding is refused as such."""
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        encode_request(QUERY_RUNS, b'{"projectPath": "\xff"}')


def test_integers_stay_exact() -> None:
    """64-bit integers are text in JSON, so that JavaScript keeps all their digits."""
    reply = metadata_pb2.GetRunResponse(run=metadata_pb2.Run(run_key=2**64 - 1))
    text = decode_reply(GET_RUN, reply.SerializeToString())
    assert json.loads(text)["run"]["runKey"] == "18446744073709551615"


def test_reply_that_is_no_message_is_the_servers_fault() -> None:
    """Bytes of a broken sibling are not passed on as if they were an answer."""
    with pytest.raises(Internal, match="no GetRunResponse"):
        decode_reply(GET_RUN, b"\xff\xff\xff")


def _canonical(message: Message) -> Any:
    """Returns a form in which NaN equals NaN."""
    return json.loads(json_format.MessageToJson(message))


def test_internal_methods_exist_and_are_not_forwarded() -> None:
    """Each name is one of the contracts', so that a renamed call does not open itself; nothing else is hidden."""
    assert set(METHODS) >= INTERNAL_METHODS
    assert set(find_public_methods()) == set(METHODS) - INTERNAL_METHODS
    secret = {path for path in METHODS if path.endswith(("/PurgeRuns", "/LeaseNotifications"))}
    assert len(secret) == 3
    assert secret <= INTERNAL_METHODS
