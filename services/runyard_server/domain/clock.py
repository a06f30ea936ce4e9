"""Time and chance, so that tests and the simulator can rule them; nothing else in the server reads a clock."""

from __future__ import annotations

import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """Gives time and random bits."""

    def now_unix_ns(self) -> int:
        """Returns the wall-clock time in Unix nanoseconds; it may jump both ways."""
        ...

    def monotonic_s(self) -> float:
        """Returns seconds since some moment; it never goes back."""
        ...

    def random_bits(self, bits: int) -> int:
        """Returns an unpredictable integer of that many bits."""
        ...


class SystemClock:
    """Reads the machine's clocks and its entropy."""

    def now_unix_ns(self) -> int:
        return time.time_ns()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def random_bits(self, bits: int) -> int:
        return secrets.randbits(bits)
