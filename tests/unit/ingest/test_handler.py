"""Message to batch and back: columns keep every bit, reasons keep their names."""

from __future__ import annotations

import numpy as np
import pytest

from runyard_protos.errors.v1 import errors_pb2
from runyard_protos.ingest.v1 import ingest_pb2
from runyard_server.domain.points import Rejection, SummaryChange
from runyard_server.ingest.handler import batch_from_message, message_from_acknowledgement
from runyard_server.ingest.pipeline import Acknowledgement
from tests.contract.point_store import SPECIAL_BITS
from tests.stores import float_of


def test_columns_keep_every_bit() -> None:
    """What was on the wire is in the columns: extreme integers, NaN payloads, -0.0; each of its own type."""
    message = ingest_pb2.WriteBatchRequest(
        run_key=2**64 - 1, writer=2**32 - 1, first_sequence=1, last_sequence=2**40, metric_names=["ä", "b"]
    )  # fmt: skip
    table = message.tables.add()
    table.metric_indexes.extend([1, 0])
    table.steps.extend([-(2**63), 2**63 - 1])
    table.times_unix_ns.extend([-1, 2**62])
    table.sequences.extend([1, 2**64 - 1])
    values = [float_of(bits) for bits in SPECIAL_BITS]
    table.values.extend(values)
    message.summary_changes.add(sequence=7, key="k", value_json="1")
    batch = batch_from_message(ingest_pb2.WriteBatchRequest.FromString(message.SerializeToString()))
    assert (batch.run_key, batch.writer) == (2**64 - 1, 2**32 - 1)
    assert (batch.first_sequence, batch.last_sequence) == (1, 2**40)
    assert batch.metric_names == ("ä", "b")
    assert batch.summary_changes == (SummaryChange(7, "k", "1"),)
    (read,) = batch.tables
    assert read.metric_indexes == (1, 0)
    assert read.steps.tolist() == [-(2**63), 2**63 - 1]
    assert read.times_unix_ns.tolist() == [-1, 2**62]
    assert read.sequences.tolist() == [1, 2**64 - 1]
    assert read.values.view(np.uint64).tolist() == list(SPECIAL_BITS)


def test_empty_columns_have_their_types() -> None:
    """A message without rows gives empty columns of the same types."""
    message = ingest_pb2.WriteBatchRequest()
    message.tables.add()
    (read,) = batch_from_message(message).tables
    columns = (read.steps, read.times_unix_ns, read.sequences, read.values)
    assert [column.dtype for column in columns] == [np.int64, np.int64, np.uint64, np.float64]
    assert all(column.size == 0 for column in columns)


@pytest.mark.parametrize(
    "reason", ["METRIC_NAME_INVALID", "METRIC_COUNT_EXCEEDED", "FIELD_INVALID", "FIELD_TOO_LARGE"]
)
def test_rejections_carry_their_reason(reason: str) -> None:
    """Every reason that ingest gives is one of errors.v1."""
    rejection = Rejection("m", reason, "why", 5)
    reply = message_from_acknowledgement(Acknowledgement(3, 9, (rejection,), is_repeat=True))
    assert (reply.first_sequence, reply.last_sequence, reply.is_repeat) == (3, 9, True)
    (told,) = reply.rejections
    assert errors_pb2.ErrorReason.Name(told.reason) == f"ERROR_REASON_{reason}"
    assert (told.metric, told.message, told.points) == ("m", "why", 5)
