"""A yard of services apart that the tests of a module share; they restart what they kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.yard import Yard
from tests.robustness.behind import Behind, yard_behind
from tests.robustness.far import FarYard, far_yard


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A running yard, each service in a process of its own."""
    with Yard(tmp_path_factory.mktemp("yard-apart"), "apart") as yard:
        yield yard


@pytest.fixture(scope="session")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A running yard with a proxy before its store; who kills a part of it starts it again."""
    with yard_behind(tmp_path_factory.mktemp("behind")) as running:
        yield running


@pytest.fixture(scope="session")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarYard]:
    """A running yard behind proxies; who breaks a link heals it."""
    with far_yard(tmp_path_factory.mktemp("far")) as running:
        yield running
