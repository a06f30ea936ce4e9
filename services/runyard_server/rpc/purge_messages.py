"""Turns purges of deleted runs into messages of metadata.v1."""

from __future__ import annotations

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_server.domain.purges import Purge, PurgeStep
from runyard_server.rpc.message_values import (
    optional_timestamp,
    state_to_number,
    timestamp_from_unix_ns,
)


def purge_to_message(purge: Purge) -> pb.DeletedRun:
    """Returns the deleted run as a message; the receipt is there once its purge has begun."""
    return pb.DeletedRun(
        run_path=purge.path,
        run_key=purge.run_key,
        display_name=purge.display_name,
        state=state_to_number(purge.state),
        delete_time=timestamp_from_unix_ns(purge.delete_time_unix_ns),
        deleted_by=purge.deleted_by,
        purge_due_time=timestamp_from_unix_ns(purge.due_time_unix_ns),
        purge_time=optional_timestamp(purge.purge_time_unix_ns),
        receipt=None if purge.step is PurgeStep.IN_TRASH else _receipt(purge),
    )


def _receipt(purge: Purge) -> pb.PurgeReceipt:
    return pb.PurgeReceipt(
        stores=[
            pb.StoreReceipt(store=one.store, rows=one.rows, objects=one.objects, bytes=one.bytes)
            for one in purge.stores
        ],
        is_complete=purge.step >= PurgeStep.PURGED,
        trouble=purge.trouble,
    )
