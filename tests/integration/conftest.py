"""Yards that the tests of a session share, one per shape, started when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.integration.yard import SHAPES, Yard


@pytest.fixture(scope="session", params=SHAPES)
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    """A running yard of the shape; tests that kill or stop parts make their own."""
    with ExitStack() as stack:
        yield stack.enter_context(
            Yard(tmp_path_factory.mktemp(f"yard-{request.param}"), request.param)
        )
