"""The locks of one root: that no agent and no other sync sends the same at the same time."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Callable

from runyard.agent.process_setup import set_up_log, take_lock

AGENT_LOCK, SYNC_LOCK = "agent.lock", "sync.lock"


class RootLocks:
    """Holds sync.lock from the first use to `release`, and agent.lock only while a run is sent that an agent would send.

    Where the root cannot be written there are no locks, and runs are sent without: what is sent twice is known by
    its number and counts once.
    """

    def __init__(self, root: Path, *, warn: Callable[[str], None]) -> None:
        self._root = root
        self._warn = warn
        self._numbers: dict[str, int] = {}
        self._agent_use_count = 0
        self._is_unwritable = False

    def take(self, *, needs_agent: bool) -> bool:
        """Returns whether a run may be sent now; then `give` MUST follow."""
        if not self._take(SYNC_LOCK) or (needs_agent and not self._take(AGENT_LOCK)):
            return False
        self._agent_use_count += needs_agent
        return True

    def give(self, *, needs_agent: bool) -> None:
        """Tells that the run is sent; agents may come again once none of theirs is left."""
        self._agent_use_count -= needs_agent
        if not self._agent_use_count:
            self._release(AGENT_LOCK)

    def release(self) -> None:
        """Lets others have them."""
        for name in list(self._numbers):
            self._release(name)

    def _take(self, name: str) -> bool:
        if name in self._numbers or self._is_unwritable:
            return True
        try:
            number = take_lock(str(self._root), name)
        except OSError as error:
            self._is_unwritable = True
            logging.getLogger("runyard").addHandler(logging.NullHandler())
            self._warn(
                f"{self._root} cannot be written ({error.strerror}): its runs are sent all the same, but how far is "
                f"kept nowhere, so the next sync sends them again; the server counts them once"
            )
            return True
        if number is None:
            return False
        if not self._numbers:
            set_up_log(f"{self._root}/agent.log")
        self._numbers[name] = number
        return True

    def _release(self, name: str) -> None:
        number = self._numbers.pop(name, None)
        if number is not None:
            os.ftruncate(
                number, 0
            )  # this process lives on: its pid there would pass for an agent's
            os.close(number)
