"""Finds what is due without looking at what is not: buckets of time that hold what is to be looked at in each.

```
   bucket 41   bucket 42   bucket 43  ...  bucket 101         now in bucket 42: pop 41 and 42, look at what they hold,
   [a, b]      [c]         []              [d, e, f]          put each back where its deadline is by now
```

A sign of life moves nothing. Only when the old deadline comes is the new one computed: one look a timeout for each run.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Scheduled(Protocol):
    """What a wheel holds."""

    slot: int
    """The bucket that it is in; OUT for none. Written by the wheel only."""


OUT = -1 << 62
T = TypeVar("T", bound=Scheduled)


class Wheel(Generic[T]):
    """Holds each item in at most one bucket; a further `put` moves it."""

    def __init__(self, *, width_s: float) -> None:
        self._width_s = width_s
        self._buckets: dict[int, list[T]] = {}

    def put(self, item: T, at_s: float) -> None:
        """Has the item come up once `at_s` has come, instead of when it would have come before."""
        slot = int(at_s // self._width_s)
        if slot == item.slot:
            return
        item.slot = slot
        # A copy in another bucket stays there, and is passed over when its time comes.
        self._buckets.setdefault(slot, []).append(item)

    def take_out(self, item: T) -> None:
        """Has the item come up no more."""
        item.slot = OUT

    def due(self, now_s: float) -> list[T]:
        """Takes out and returns what is in the buckets up to that of `now_s`; some of it may be due a width later only."""
        last = int(now_s // self._width_s)
        found = []
        for slot in sorted(slot for slot in self._buckets if slot <= last):
            for item in self._buckets.pop(slot):
                if item.slot == slot:
                    item.slot = OUT
                    found.append(item)
        return found
