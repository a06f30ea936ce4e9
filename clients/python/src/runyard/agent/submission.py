"""Hands what a journal holds to its uploader, piece by piece; what is damaged on the disk is set aside and told."""

from __future__ import annotations

import asyncio
from typing import Callable

from runyard.agent.columns import Piece
from runyard.agent.mark import Mark
from runyard.agent.reader import JournalFollower
from runyard.agent.uploader import Uploader


async def submit_all(
    journal: JournalFollower,
    uploader: Uploader,
    mark: Mark,
    *,
    hear: Callable[[Piece], None] = lambda piece: None,
) -> bool:
    """Submits all that is there; returns whether anything was. `hear` is given each piece before it goes."""
    has_grown, lost_count = False, len(journal.lost)
    while uploader.refusal is None:
        piece = journal.read()
        for lost in journal.lost[lost_count:]:
            if piece is None or not (
                piece.first_sequence <= lost.first_sequence <= piece.last_sequence
            ):
                uploader.set_aside(lost.first_sequence, lost.last_sequence, lost.message)
            else:
                mark.refuse(lost.first_sequence, lost.last_sequence, lost.message)
        lost_count = len(journal.lost)
        mark.written_sequence = max(mark.written_sequence, journal.next_sequence - 1)
        if piece is None:
            break
        has_grown = True
        hear(piece)
        await uploader.submit(piece)
        await asyncio.sleep(0)
    return has_grown
