"""Reads runs back over gRPC, bit by bit, and asks what must hold of every finished run."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from runyard_protos.metadata.v1 import metadata_pb2, metadata_pb2_grpc
from runyard_protos.query.v1 import query_pb2, query_pb2_grpc

CALL_TIMEOUT_S = 30.0
POLL_S = 0.1
PAGE = 200_000
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", 64 << 20)]
DEAD_CALLS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def bits(value: float) -> bytes:
    """Returns the eight bytes of a float: NaN equals itself, -0.0 is not 0.0."""
    return struct.pack("<d", value)


@dataclass(frozen=True, slots=True)
class Readback:
    """Stubs of one runyard."""

    query: query_pb2_grpc.QueryServiceStub
    metadata: metadata_pb2_grpc.MetadataServiceStub

    def run(self, path: str) -> metadata_pb2.Run:
        """Returns the run's document."""
        request = metadata_pb2.GetRunRequest(path=path)
        return self.metadata.GetRun(request, timeout=CALL_TIMEOUT_S).run

    def state(self, path: str) -> str:
        """Returns the state without its prefix."""
        return metadata_pb2.RunState.Name(self.run(path).state).removeprefix("RUN_STATE_")

    def states(self, path: str) -> list[str]:
        """Returns the states that the run went through."""
        request = metadata_pb2.ListRunTransitionsRequest(run_path=path)
        reply = self.metadata.ListRunTransitions(request, timeout=CALL_TIMEOUT_S)
        names = [metadata_pb2.RunState.Name(one.to) for one in reply.transitions]
        return [name.removeprefix("RUN_STATE_") for name in names]

    def metrics(self, path: str) -> list[str]:
        """Returns the names of all metrics."""
        names: list[str] = []
        token = ""
        while True:
            request = query_pb2.ListMetricsRequest(run_path=path, page_token=token)
            reply = self.query.ListMetrics(request, timeout=CALL_TIMEOUT_S)
            names += [metric.name for metric in reply.metrics]
            token = reply.next_page_token
            if not token:
                return names

    def history(self, path: str) -> dict[str, list[tuple[int, bytes]]]:
        """Returns every stored point of every metric as (step, bits of the value), in the order the server gives."""
        history: dict[str, list[tuple[int, bytes]]] = {}
        names = self.metrics(path)
        for first in range(0, len(names), 100):
            some = names[first : first + 100]
            history.update((name, []) for name in some)
            continues: int | None = None
            while True:
                request = query_pb2.QuerySeriesRequest(run_path=path, metrics=some, limit=PAGE)
                if continues is not None:
                    request.range.first_step = continues
                reply = self.query.QuerySeries(request, timeout=CALL_TIMEOUT_S)
                for series in reply.series:
                    pairs = zip(series.steps, map(bits, series.values), strict=True)
                    history[series.metric].extend(pairs)
                if not reply.HasField("next_step"):
                    break
                continues = reply.next_step
        return history

    def receipt(self, path: str) -> query_pb2.GetReceiptResponse:
        """Returns the receipt."""
        return self.query.GetReceipt(
            query_pb2.GetReceiptRequest(run_path=path), timeout=CALL_TIMEOUT_S
        )

    def assert_receipt_is_whole(self, path: str, *, points: int) -> None:
        """I5: nothing is missing, and as many points were accepted as are stored."""
        receipt = self.receipt(path)
        assert receipt.writers, f"no receipt for {path}"
        for writer in receipt.writers:
            assert not writer.gaps, f"records missing: {writer}"
            assert writer.records_durable == writer.contiguous_sequence == writer.last_sequence
            assert writer.points_rejected == 0, writer
        assert points == sum(writer.points_accepted for writer in receipt.writers)
        stored = sum(len(series) for series in self.history(path).values())
        assert points == stored

    def wait_for_state(self, path: str, state: str, *, timeout_s: float) -> None:
        """Returns when the run is in that state."""
        try:
            wait_until(lambda: self.state(path) == state, timeout_s, f"{path} to be {state}")
        except AssertionError as error:
            request = metadata_pb2.ListRunTransitionsRequest(run_path=path)
            history = self.metadata.ListRunTransitions(request, timeout=CALL_TIMEOUT_S)
            raise AssertionError(f"{error}\nit went through:\n{history.transitions}") from None


@contextmanager
def readback(address: str) -> Iterator[Readback]:
    """Gives stubs for the gRPC address."""
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        yield Readback(
            query_pb2_grpc.QueryServiceStub(channel), metadata_pb2_grpc.MetadataServiceStub(channel)
        )


def wait_until(is_so: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Polls until it is so; a run not known yet, or a server away, is not so yet. Fails with `what` after the time."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            if is_so():
                return
            last = None
        except grpc.RpcError as error:
            last = error
        time.sleep(POLL_S)
    raise AssertionError(f"waited {timeout_s} s in vain for {what}; last: {last}")
