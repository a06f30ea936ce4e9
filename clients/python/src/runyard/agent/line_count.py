"""How many lines of a console's journal the agent has read, how many of them the server has, and how many were not kept."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runyard import journal_format as form

if TYPE_CHECKING:
    from runyard.agent.columns import Event


class LineCount:
    """Counts by number: a line that is told again counts once."""

    def __init__(self, written: int = 0, durable: int = 0, dropped: int = 0) -> None:
        self.written = written
        self.durable = durable
        self.dropped = dropped
        """Lines that came too fast to be kept."""
        self._waiting: deque[tuple[int, int]] = deque()
        """(sequence, last line) of what is on its way, by sequence; only where the last line grew."""

    def note(self, events: Sequence[Event]) -> None:
        """Takes the records of a piece, in order."""
        for event in events:
            if event.kind == form.CONSOLE:
                first_line, _, _, line_count = form.CONSOLE_HEAD.unpack_from(event.payload)
                if first_line + line_count - 1 > self.written:
                    self.written = first_line + line_count - 1
                    self._waiting.append((event.sequence, self.written))
            elif event.kind == form.FINISH:
                self.dropped = int(json.loads(event.payload).get("lines_dropped") or 0)

    def settle(self, durable_sequence: int) -> None:
        """Takes how far the records are settled."""
        while self._waiting and self._waiting[0][0] <= durable_sequence:
            self.durable = self._waiting.popleft()[1]
