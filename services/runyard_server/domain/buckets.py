"""Buckets: how wide they are, so that the same points always fall into the same ones; pure."""

from __future__ import annotations

SHIFT_MAX = 63
"""Width 2**63: two buckets hold all steps, one on each side of 0."""


def bucket_shift(first_step: int, last_step: int, *, count_max: int) -> int:
    """Returns the logarithm (base 2) of the smallest width that gives at most `count_max` buckets over these steps.

    Bucket k of width w holds the steps k*w … k*w + w - 1, so buckets do not move with the range. At least two are
    needed where the steps lie on both sides of 0; a smaller `count_max` is answered with the widest.
    """
    assert first_step <= last_step, (first_step, last_step)
    assert count_max >= 1, count_max
    shift = max(0, ((last_step - first_step) // count_max).bit_length() - 1)
    while shift < SHIFT_MAX and (last_step >> shift) - (first_step >> shift) >= count_max:
        shift += 1
    return shift
