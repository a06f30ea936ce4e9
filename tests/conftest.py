"""What all tests share: markers by folder, a clean environment, settings of hypothesis, the seed in the header."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from runyard_server.storage.clickhouse.engine import ClickHouse

TESTS = Path(__file__).resolve().parent
LEVELS = (
    "unit",
    "contract",
    "differential",
    "integration",
    "integrations_real",
    "simulation",
    "robustness",
    "e2e",
)
# Switches of the tests themselves; every other RUNYARD_ variable of the caller's shell is taken away.
OWN_VARIABLES = ("RUNYARD_TEST_", "RUNYARD_SIM_")

# In CI a red build is the commit's fault, not chance's; elsewhere each run explores anew. `print_blob` says how to replay.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# Started with nohup or in the background, the signals of a terminal are ignored, and what we start would inherit that. A
# handler, unlike SIG_IGN, is not inherited: training processes begin as in the foreground.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, lambda *_: None),
    (signal.SIGQUIT, lambda *_: None),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)
settings.load_profile("ci" if os.environ.get("CI") else "explore")


def pytest_configure(config: pytest.Config) -> None:
    for name in list(os.environ):
        if name.startswith("RUNYARD_") and not name.startswith(OWN_VARIABLES):
            del os.environ[name]


def pytest_report_header(config: pytest.Config) -> list[str]:
    switches = sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith(OWN_VARIABLES))
    return [f"runyard: {' '.join(switches) or 'no RUNYARD_TEST_ or RUNYARD_SIM_ switches'}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if level_of(item) in LEVELS:
            item.add_marker(level_of(item))
    if hasattr(config, "workerinput"):
        # Side by side the longest files begin, so that none is left for one process alone.
        items.sort(key=lambda item: level_of(item) not in ("simulation", "robustness"))


def level_of(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Makes text of what a test printed, lone surrogates too, so that it can be sent to the process that reports."""
    report = yield
    report.sections = [
        (name, content.encode("utf-8", "backslashreplace").decode())
        for name, content in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """The embedded ClickHouse of this test process, migrated; a process can hold one, so all suites share it.

    Tests tell their data apart by run keys: see tests/stores.py.
    """
    store = ClickHouse.open_embedded(tmp_path_factory.mktemp("clickhouse"))
    asyncio.run(store.migrate())
    yield store
    asyncio.run(store.close())
