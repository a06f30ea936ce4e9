"""A yard of services apart that the tests of a module share; they restart what they kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.yard import Yard


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A running yard, each service in a process of its own."""
    with Yard(tmp_path_factory.mktemp("yard-apart"), "apart") as yard:
        yield yard
