"""What the processes of the simulated world print: a keeper writes it into the journal `console`, and the checker asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runyard import journal_format as form
from tests.simulation.disk import Disk
from tests.simulation.world import Chance, Node

if TYPE_CHECKING:
    from tests.simulation.trainer import JournalWriter

STREAMS = (1, 2)


@dataclass(frozen=True)
class Telling:
    """Lines that one CONSOLE record tells."""

    sequence: int
    first_line: int
    texts: tuple[str, ...]


@dataclass
class Printed:
    """All that one writer printed, by journal record, as far as its disk took it."""

    tellings: list[Telling] = field(default_factory=list)
    last_sequence: int = 0
    synced_sequence: int = 0
    """What a power cut cannot take."""

    def lines(self, durable: Iterable[int]) -> dict[int, str]:
        """Returns the lines, by number, if these records are stored: of several tellings the last one counts."""
        kept = set(durable)
        found: dict[int, str] = {}
        for one in self.tellings:
            if one.sequence in kept:
                found.update(enumerate(one.texts, one.first_line))
        return found


class Keeper(Node):
    """The process that keeps what a training process prints. It outlives it by a moment, and may be killed with it."""

    def __init__(
        self, name: str, journal: JournalWriter, printed: Printed, disk: Disk, chance: Chance
    ) -> None:
        super().__init__(name)
        self._journal = journal
        self._printed = printed
        self._disk = disk
        self._chance = chance
        self._last_line = 0

    def begin(self, folder: str) -> None:
        """Takes the lock by which agents know that it lives; without room for it they go by the journal alone."""
        path = f"{folder}/{form.CONSOLE_JOURNAL}/keeper.lock"
        try:
            self._disk.create(path, 0)
        except OSError:
            return
        self._disk.locks[path] = self

    def keep(self, time_unix_ns: int) -> None:
        """Keeps some lines, or tells the last one again, as a progress bar does; a full disk drops them."""
        chance = self._chance
        is_again = self._last_line > 0 and chance.hits(0.3)
        first = self._last_line if is_again else self._last_line + 1
        count = 1 if is_again else chance.between(1, 3)
        texts = tuple(f"{chance.random.getrandbits(32):08x}" for _ in range(count))
        stream = chance.random.choice(STREAMS)
        head = form.CONSOLE_HEAD.pack(first, time_unix_ns, stream, count)
        if self._journal.append(form.CONSOLE, head + "\n".join(texts).encode()):
            self._last_line = first + count - 1
            self._printed.tellings.append(Telling(self._journal.sequence, first, texts))
        self._printed.last_sequence = self._journal.sequence

    def end(self) -> None:
        """Ends the journal, as it does when the training process has ended."""
        self._journal.append_json(form.FINISH, {"line_count": self._last_line})
        self._printed.last_sequence = self._journal.sequence
        self.sync()
        self.is_alive = False

    def sync(self) -> None:
        """Makes what was kept last."""
        self._printed.synced_sequence = self._journal.sync()

    def kill(self) -> None:
        """Ends it in the middle of a write."""
        if self.is_alive:
            self._journal.tear(self._chance)
        super().kill()
