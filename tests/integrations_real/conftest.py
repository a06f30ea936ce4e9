"""A yard, and scripts that train with real libraries in `.venv-integrations`; without it the tests skip and say why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import runyard
from tests.integration.yard import Yard
from tests.integrations_real.frameworks import Trainer


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """The server that all scripts log to."""
    with Yard(tmp_path_factory.mktemp("yard-integrations")) as running:
        yield running


@pytest.fixture(scope="module")
def trainer(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Runs scripts, in a folder that the tests of a module share."""
    return Trainer(yard, tmp_path_factory.mktemp("scripts"))


@pytest.fixture
def api(yard: Yard) -> Iterator[runyard.Api]:
    """Reads back."""
    with runyard.Api(yard.base_url) as made:
        yield made
