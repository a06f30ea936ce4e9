"""Services apart whose ways to the store lead through a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.yard import Yard
from tests.robustness.faults import Proxy


@dataclass
class Behind:
    """A yard with a proxy before its store."""

    yard: Yard
    store: Proxy


@contextmanager
def yard_behind(folder: Path, *, is_started: bool = True) -> Iterator[Behind]:
    """Gives the yard, started or not; it is stopped at the end."""
    with Proxy() as store:
        yard = Yard(folder, "apart", settings=[f"clickhouse.url=http://{store.address}"])
        store.target = f"127.0.0.1:{yard.parts['clickhouse'].command[-1]}"
        try:
            if is_started:
                yard.start()
            yield Behind(yard, store)
        finally:
            store.set()
            try:
                yard.stop()
            finally:
                yard.kill()
