"""The server that answers as a test says, and an Api that asks it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import runyard
from tests.unit.sdk.answering import Yard


@pytest.fixture
def yard() -> Iterator[Yard]:
    yard = Yard()
    thread = threading.Thread(target=yard.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield yard
    yard.server.shutdown()
    thread.join()
    yard.server.server_close()


@pytest.fixture
def api(yard: Yard) -> Iterator[runyard.Api]:
    api = runyard.Api(yard.url, api_key="secret")
    yield api
    api.close()
