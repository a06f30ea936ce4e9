"""Keeps the C library's allocator from holding on to the large columns that pass through the process."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# Parameters of mallopt(3), glibc's malloc.h.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

LARGE_BYTES: Final = 4 * 1024 * 1024
"""Allocations from here on are mapped singly, and so go back to the system when freed."""
ARENA_COUNT: Final = 2


def limit_allocator() -> bool:
    """Bounds what freed columns leave behind in each thread's arena; returns whether the allocator took it.

    By default glibc raises its threshold for mapped blocks to 32 MiB as such blocks are freed, and gives every thread
    an arena: blocks of columns, freed by changing threads, then stay resident several times over.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = (
        (_MMAP_THRESHOLD, LARGE_BYTES),
        (_TRIM_THRESHOLD, LARGE_BYTES),
        (_ARENA_MAX, ARENA_COUNT),
    )
    taken = [mallopt(name, value) == 1 for name, value in settings]
    return all(taken)
