"""TCP ports of this machine for tests, outside the range from which the kernel takes ports for outgoing connections.

A port that the kernel may hand to a connection is not ours between its draw and the server's bind: a part of a yard
that starts meanwhile, and calls another, can be given it.
"""

from __future__ import annotations

import os
import random
import socket
from itertools import islice
from pathlib import Path

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 10_000
_DEFAULT_RANGE = (32_768, 60_999)
_drawn: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Returns `count` ports of the loopback where nobody listens; none comes twice in one process."""
    first, last = _outgoing_range()
    pool = range(_FIRST, first) if first - _FIRST > 2000 else range(last + 1, 65_536)
    # Each of the processes that run tests side by side has its own: a port is drawn some time before it is bound.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    pool = pool[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    # Not from the test's own generator: two test processes on one machine must not draw alike.
    order = random.SystemRandom().sample(pool, len(pool))
    ports = list(islice((p for p in order if p not in _drawn and _is_free(p)), count))
    if len(ports) < count:
        raise RuntimeError(f"no {count} free ports in {pool.start}-{pool.stop - 1}")
    _drawn.update(ports)
    return ports


def free_port() -> int:
    """Returns one such port."""
    return free_ports(1)[0]


def _outgoing_range() -> tuple[int, int]:
    try:
        first, last = map(int, _RANGE_FILE.read_text().split())
    except (OSError, ValueError):
        return _DEFAULT_RANGE
    return first, last


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT is free to listen on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
