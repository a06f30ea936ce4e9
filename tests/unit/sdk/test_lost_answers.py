"""A call that is cancelled under its caller must never pass for an answer: the run would end with records missing."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest

from runyard.agent.budget import Budget
from runyard.agent.columns import Piece
from runyard.agent.mark import Mark
from runyard.agent.ports import Batch, StartedRun
from runyard.agent.retry import Reach, Repeater
from runyard.agent.transport import ServerTransport
from runyard.agent.uploader import Uploader
from runyard.errors import Unavailable
from tests.simulation.disk import Disk
from tests.simulation.world import Chance


class CancelsUnderYou:
    """A transport whose connection is closed by somebody else while a batch is in flight."""

    async def write_batch(self, batch: Batch) -> list[object]:
        raise asyncio.CancelledError


async def test_a_cancelled_batch_is_not_taken_for_a_settled_one() -> None:
    """Draining raises if a piece ended without an answer, and the mark stays where it was."""
    mark = Mark(Disk(Chance(0)), "/run", time_unix_ns=lambda: 0)
    reach = Reach(asyncio.get_running_loop().time)
    uploader = Uploader(
        CancelsUnderYou(),  # type: ignore[arg-type]  # one call of the many is enough
        Repeater(reach, draw=lambda: 0.5),
        StartedRun("a/b/c", 1, 1, 1, "name", False),
        mark,
        budget=Budget(1 << 20),
    )
    await uploader.submit(Piece(1, 5, (), (), 100))
    with pytest.raises(RuntimeError, match="records 1 to 5 were given up"):
        await uploader.drain()
    assert mark.durable_sequence == 0


class Hangs(grpc.GenericRpcHandler):
    """Answers /fails with UNAVAILABLE at once, and /works after a moment."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def fail(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

        async def work(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            await asyncio.sleep(0.3)
            return b"done"

        return grpc.unary_unary_rpc_method_handler(fail if details.method == "/s/fails" else work)


async def test_one_lost_connection_cancels_no_other_call() -> None:
    """When one call finds the server gone, others in flight over the same channel still get their answers."""
    from runyard.agent.grpc_calls import GrpcCalls

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Hangs(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # Nobody answers HTTP there: the way back to gRPC stays closed for the time of the test.
    transport = ServerTransport("http://127.0.0.1:9", api_key="")
    transport._grpc = GrpcCalls(f"127.0.0.1:{port}", is_tls=False, headers={})
    try:
        working = asyncio.ensure_future(transport._call("/s/works", b""))
        await asyncio.sleep(0.05)
        with pytest.raises(Unavailable):
            await transport._call("/s/fails", b"")
        assert await working == b"done"
    finally:
        await transport.close()
        await server.stop(None)
