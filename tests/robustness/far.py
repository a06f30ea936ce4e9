"""A yard in one process that is reached through proxies only: one for HTTP, one for gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.yard import Yard
from tests.robustness.faults import PASSES, Link, Proxy

FAULTS = {
    "cut": PASSES,
    "refused": Link(is_refusing=True),
    "slow": Link(delay_s=0.05),
    "throttled": Link(rate_bytes_s=20_000),
    "stalled": Link(is_stalled=True),
    "replies swallowed": Link(is_deaf=True),
    "reset in the middle": Link(reset_after_bytes=3_000),
    "closed one way": Link(half_close_after_bytes=3_000),
}


@dataclass
class FarYard:
    """The yard and its two proxies."""

    yard: Yard
    http: Proxy
    grpc: Proxy

    def environment(self, root: Path) -> dict[str, str]:
        """Returns the environment of a script that logs through the proxies."""
        return self.yard.environment(root, RUNYARD_BASE_URL=f"http://{self.http.address}")

    def strike(self, name: str) -> None:
        """Makes both links so; what is open is cut where new connections are refused, and where the cut is all."""
        for proxy in (self.http, self.grpc):
            proxy.set(FAULTS[name])
            if name in ("cut", "refused"):
                proxy.cut()

    def heal(self) -> None:
        """Lets everything pass again."""
        for proxy in (self.http, self.grpc):
            proxy.set()

    def has_struck(self, before: int) -> bool:
        """Returns whether the faults met more than that."""
        return self.struck > before

    @property
    def struck(self) -> int:
        """Returns what the faults met so far."""
        return self.http.struck + self.grpc.struck


@contextmanager
def far_yard(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    tell: Callable[[Proxy], str] = lambda proxy: proxy.address,
) -> Iterator[FarYard]:
    """Gives the running yard, its proxies listening on the host's address; `tell` says where agents reach gRPC."""
    with Proxy(host=host) as http, Proxy(host=host) as grpc:
        yard = Yard(folder, settings=[f"gateway.grpc_address={tell(grpc)}"])
        http.target, grpc.target = yard.http, yard.grpc
        with yard:
            yield FarYard(yard, http, grpc)
