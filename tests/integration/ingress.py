"""One gRPC address for services that run apart: what an ingress does in a cluster. Routes unary calls by service, as bytes.

python tests/integration/ingress.py --listen HOST:PORT metadata=HOST:PORT ingest=HOST:PORT ...
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable

import grpc
import grpc.aio

MESSAGE_BYTES_MAX = 64 << 20
CALL_TIMEOUT_S = 120.0
OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A backend that was killed comes back within the tests' patience.
    ("grpc.max_reconnect_backoff_ms", 500),
)


class Router(grpc.GenericRpcHandler):
    """Finds the backend of a call by the noun in /runyard.<noun>.v1.<Service>/<Method>."""

    def __init__(self, routes: dict[str, str]) -> None:
        self.channels = {
            noun: grpc.aio.insecure_channel(address, options=OPTIONS)
            for noun, address in routes.items()
        }

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        parts = details.method.split(".")
        if parts[0] != "/runyard" or parts[1] not in self.channels:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self.forward(self.channels[parts[1]].unary_unary(details.method))
        )

    def forward(
        self, call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    ) -> Callable[..., object]:
        async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            metadata = [
                (key, value)
                for key, value in context.invocation_metadata() or ()
                if not key.startswith(("grpc-", ":", "user-agent"))
            ]
            remaining_s = context.time_remaining()
            try:
                return await call(
                    request,
                    timeout=min(remaining_s or CALL_TIMEOUT_S, CALL_TIMEOUT_S),
                    metadata=metadata,
                )
            except grpc.aio.AioRpcError as error:
                await context.abort(
                    error.code(), error.details() or "", tuple(error.trailing_metadata() or ())
                )
                raise AssertionError("abort raises") from error

        return answer


async def serve(listen: str, routes: dict[str, str]) -> None:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Router(routes),))
    if server.add_insecure_port(listen) == 0:
        raise SystemExit(f"ingress: {listen} is taken")
    await server.start()
    print(f"ready {listen}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--listen", required=True)
    parser.add_argument("routes", nargs="+", metavar="NOUN=HOST:PORT")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.listen, dict(route.split("=", 1) for route in arguments.routes)))


if __name__ == "__main__":
    main()
