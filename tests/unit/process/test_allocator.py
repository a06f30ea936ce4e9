"""The allocator's limits are taken where the C library is glibc."""

from __future__ import annotations

import platform
import subprocess
import sys

PROGRAM = """
from runyard_server.process.allocator import limit_allocator
print(limit_allocator())
"""


def test_glibc_takes_the_limits() -> None:
    """A fresh process on glibc takes all of them; elsewhere it goes on without."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
