"""The server that answers as a test says, and an Api that asks it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import runyard
from tests.integration.yard import ORIGIN_OFF
from tests.unit.sdk.answering import Yard


@pytest.fixture(autouse=True)
def without_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process looks where runs come from unless a test asks for it: its records come some time."""
    for name, value in ORIGIN_OFF.items():
        monkeypatch.setenv(name, value)


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
