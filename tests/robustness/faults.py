"""A TCP proxy that breaks on demand: it cuts, resets, delays, throttles, stalls, closes one half, swallows the replies, and springs traps.

It runs in a thread of its own. `link` says what happens now, to connections that are open too; `trap` has something happen
at the moment when certain bytes pass. As a script (`python faults.py HOST:PORT`) it passes everything on until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

CHUNK_BYTES = 1 << 14
START_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Link:
    """What the network between two processes does."""

    delay_s: float = 0.0
    """Each chunk waits so long, one after the other."""
    rate_bytes_s: float = 0.0
    """0: as fast as it goes."""
    is_refusing: bool = False
    """New connections are reset at once, as by a host without that service."""
    is_stalled: bool = False
    """Nothing passes, and nobody is told: a network that drops packets."""
    is_deaf: bool = False
    """Requests pass, their replies do not: the way back is gone."""
    reset_after_bytes: int = 0
    """Each connection is reset when so much has passed one way."""
    half_close_after_bytes: int = 0
    """The server sees the end of the stream after so much of the request; the client sees nothing of it."""


PASSES = Link()


@dataclass
class Trap:
    """Springs once: when a request with the pattern passes, or when the reply to it does."""

    pattern: re.Pattern[bytes]
    is_reply: bool
    spring: Callable[[], None]
    share: float = 0.0
    """How much of the chunk is let through before; the connection is reset after."""
    passes: int = 0
    """How many requests with the pattern it lets pass first."""
    sprung: threading.Event = field(default_factory=threading.Event)


class Connection:
    """Both halves of one connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.is_broken = False
        """Bytes were swallowed: it can never be used again."""
        self.is_marked = False
        """The request that a trap waits for has passed here; its reply has not."""

    def reset(self) -> None:
        """Ends both halves without a farewell."""
        for writer in (self.client, self.server):
            _reset(writer)


class Proxy:
    """Listens on a free port of an address of this machine and passes on to `target`, HOST:PORT, which is set later."""

    def __init__(self, *, host: str = "127.0.0.1") -> None:
        self.target = ""
        self.struck = 0
        """Connections and chunks that a fault met."""
        self._link = PASSES
        self._trap: Trap | None = None
        self._connections: dict[Connection, None] = {}
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._host = host
        self._port = 0
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def address(self) -> str:
        """Returns HOST:PORT of the proxy."""
        return f"{self._host}:{self._port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._is_listening.wait(START_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_TIMEOUT_S)

    def set(self, link: Link = PASSES) -> None:
        """Makes the link so from now on; without an argument it heals. Connections that lost bytes are reset."""
        self._call(lambda: self._set(link))

    def cut(self) -> None:
        """Resets all open connections."""
        self._call(self._cut)

    def arm(self, trap: Trap) -> Trap:
        """Has the trap spring when its bytes pass next, in place of an earlier one."""
        self._call(lambda: setattr(self, "_trap", trap))
        return trap

    def disarm(self) -> None:
        """Takes the trap away."""
        self._call(lambda: setattr(self, "_trap", None))

    def _call(self, what: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(START_TIMEOUT_S)

    def _set(self, link: Link) -> None:
        self._link = link
        self._changed.set()
        self._changed = asyncio.Event()
        for connection in [c for c in self._connections if c.is_broken]:
            connection.reset()

    def _cut(self) -> None:
        for connection in list(self._connections):
            self.struck += 1
            connection.reset()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, self._host, 0))
        self._port = server.sockets[0].getsockname()[1]
        self._is_listening.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for connection in list(self._connections):
            connection.reset()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._link.is_refusing:
            self.struck += 1
            _reset(writer)
            return
        host, _, port = self.target.rpartition(":")
        try:
            from_server, to_server = await asyncio.open_connection(host, int(port))
        except OSError:
            _reset(writer)
            return
        connection = Connection(writer, to_server)
        self._connections[connection] = None
        ways = (
            asyncio.ensure_future(self._pump(reader, to_server, connection, is_reply=False)),
            asyncio.ensure_future(self._pump(from_server, writer, connection, is_reply=True)),
        )
        try:
            await asyncio.gather(*ways)
        except (OSError, asyncio.IncompleteReadError):
            connection.reset()
        finally:
            for way in ways:
                way.cancel()
            self._connections.pop(connection, None)
            for end in (writer, to_server):
                end.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: Connection,
        *,
        is_reply: bool,
    ) -> None:
        """Passes one way on until its end, as the link lets it."""
        passed = 0
        while True:
            chunk = await reader.read(CHUNK_BYTES)
            while self._link.is_stalled:
                self.struck += 1
                await self._changed.wait()
            if not chunk:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            if self._springs(chunk, writer, connection, is_reply=is_reply):
                connection.reset()
                return
            link = self._link
            pause_s = link.delay_s + (len(chunk) / link.rate_bytes_s if link.rate_bytes_s else 0.0)
            if pause_s:
                self.struck += 1
                await asyncio.sleep(pause_s)
            if is_reply and link.is_deaf:
                self.struck += 1
                connection.is_broken = True
                continue
            writer.write(chunk)
            await writer.drain()
            passed += len(chunk)
            if 0 < link.reset_after_bytes <= passed:
                self.struck += 1
                connection.reset()
                return
            if not is_reply and 0 < link.half_close_after_bytes <= passed:
                self.struck += 1
                connection.is_broken = True
                writer.write_eof()
                while await reader.read(CHUNK_BYTES):
                    pass
                return

    def _springs(
        self,
        chunk: bytes,
        writer: asyncio.StreamWriter,
        connection: Connection,
        *,
        is_reply: bool,
    ) -> bool:
        """Springs the trap if this is what it waits for; returns whether it did."""
        trap = self._trap
        if trap is None:
            return False
        is_wanted = connection.is_marked if is_reply else bool(trap.pattern.search(chunk))
        if is_wanted and not is_reply and trap.passes:
            trap.passes -= 1
            return False
        if trap.is_reply and not is_reply:
            connection.is_marked = connection.is_marked or is_wanted
        if trap.is_reply != is_reply or not is_wanted:
            return False
        self._trap = None
        self.struck += 1
        writer.write(chunk[: int(len(chunk) * trap.share)])
        trap.spring()
        trap.sprung.set()
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST in place of FIN."""
    transport = writer.transport
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def main() -> None:
    with Proxy() as proxy:
        proxy.target = sys.argv[1]
        print(proxy.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
