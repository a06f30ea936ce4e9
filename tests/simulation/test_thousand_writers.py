"""A thousand writers of one run at once, under faults: nothing of any of them is lost, doubled or overwritten by another."""

from __future__ import annotations

import pytest

from tests.simulation.story import Story, tell

WRITERS = 1_000


class OneBigJob(Story):
    """A run of so many ranks that log the same few metrics at the same steps, and another that is drawn as ever."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.is_drawn = False

    def _draw_crew(self) -> tuple[int, int]:
        if self.is_drawn:
            return super()._draw_crew()
        self.is_drawn = True
        return WRITERS, 3

    async def tell(self) -> list[str]:
        trace = await super().tell()
        assert max(map(len, self.runs.values())) >= WRITERS
        return trace


@pytest.mark.parametrize("seed", [2])
def test_a_thousand_writers_share_a_run(seed: int) -> None:
    """I1 to I5, I7 and I8 hold for each, through deaths of agents, servers and trainers, lost and repeated requests, full disks."""
    tell(seed, OneBigJob)
