"""The local S3 server starts beside processes that take ports while it does."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import StartRefused
from runyard_server.process.local_s3 import PORT_DRAWS, LocalS3, LocalS3Config


class Robbed(LocalS3):
    """Loses one of its ports to us between the draw and the start, so many times."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(
            LocalS3Config(start_limit_s=20), folder, clock=SystemClock(), environment=os.environ
        )
        self.robbers: list[socket.socket] = []
        self.times = times

    async def _spawn(self, weed: str) -> None:
        if len(self.robbers) < self.times:
            robber = socket.create_server(("127.0.0.1", self._ports["s3.port"]))
            self.robbers.append(robber)
        await super()._spawn(weed)


async def test_a_port_taken_meanwhile_costs_another_draw(tmp_path: Path) -> None:
    server = Robbed(tmp_path, 1)
    try:
        await server.start()
        taken = server.robbers[0].getsockname()[1]
        assert not server.access.endpoint.endswith(f":{taken}")
    finally:
        await server.stop()
        for robber in server.robbers:
            robber.close()


async def test_it_gives_up_with_what_the_server_said(tmp_path: Path) -> None:
    server = Robbed(tmp_path, PORT_DRAWS)
    try:
        with pytest.raises(StartRefused, match=r"for S3 .* is not available"):
            await server.start()
    finally:
        for robber in server.robbers:
            robber.close()
