"""Says in memory what counts of a history's part; the reference of the conditions in SQL."""

from __future__ import annotations

from runyard_server.domain.run import HistoryPart


def counts(part: HistoryPart, step: int, writer: int) -> bool:
    """Returns whether what the part's run logged at that step by that writer is of the history."""
    return (
        (part.last_step is None or step <= part.last_step)
        and (part.writer_max == 0 or writer <= part.writer_max)
        and not any(writer <= cut.writer_max and step > cut.last_step for cut in part.cuts)
    )
