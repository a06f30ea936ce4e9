"""Where a run's current history lies after a rewind or a fork: its own points and its ancestors', less what was superseded; pure."""

from __future__ import annotations

from dataclasses import replace

from runyard_server.domain.errors import FailedPrecondition
from runyard_server.domain.run import Cut, HistoryPart, RunDocument, RunKey

ANCESTOR_COUNT_MAX = 32


def parts_of(document: RunDocument) -> tuple[HistoryPart, ...]:
    """Returns the parts of a run's history, its own first; one part where nothing was rewound or forked."""
    return document.history_parts or (HistoryPart(document.run_key),)


def rewound_parts(document: RunDocument, *, to_step: int) -> tuple[HistoryPart, ...]:
    """Returns the history once all that its writers so far logged after `to_step` is superseded."""
    own, *ancestors = parts_of(document)
    # Every earlier cut speaks of fewer writers: one at a higher step than the new one takes away nothing more.
    kept = [cut for cut in own.cuts if cut.last_step < to_step]
    own = replace(own, cuts=(*kept, Cut(document.writer_count, to_step)))
    return (own, *(_up_to(part, to_step) for part in ancestors))


def forked_parts(parent: RunDocument, *, step: int, run_key: RunKey) -> tuple[HistoryPart, ...]:
    """Returns the history of a fork: its own points, and the parent's as they are now up to `step`.

    Raises FailedPrecondition FORK_TOO_DEEP.
    """
    own, *ancestors = parts_of(parent)
    if len(ancestors) + 1 > ANCESTOR_COUNT_MAX:
        raise FailedPrecondition(
            "FORK_TOO_DEEP",
            f"run {parent.path} has {len(ancestors)} ancestors: a fork of it would have more than the "
            f"{ANCESTOR_COUNT_MAX} that a run may have; fork an earlier one",
            metadata={"run": parent.path, "limit": ANCESTOR_COUNT_MAX},
        )
    # What the parent logs from now on, and what a later rewind takes from it, is not the fork's.
    frozen = replace(own, writer_max=parent.writer_count)
    return (HistoryPart(run_key), *(_up_to(part, step) for part in (frozen, *ancestors)))


def _up_to(part: HistoryPart, step: int) -> HistoryPart:
    return replace(part, last_step=step if part.last_step is None else min(part.last_step, step))
