"""What a trainer wrote and when it was synced, so that the checker can ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.simulation.printing import Printed

Place = tuple[str, int]
"""(metric, step)."""


@dataclass(frozen=True)
class Row:
    """Values of one ROW record, as bits."""

    sequence: int
    step: int
    values: dict[str, bytes]


@dataclass(frozen=True)
class Setting:
    """One key that a CHANGE record sets."""

    sequence: int
    key: str
    value: int


@dataclass(frozen=True)
class Media:
    """One value that a MEDIA record holds."""

    sequence: int
    step: int
    name: str
    items: list[dict[str, str]]


@dataclass
class Written:
    """All that one writer wrote."""

    run_id: str
    folder: str
    request_id: str
    rewind_to_step: int | None = None
    fork: tuple[str, int] | None = None
    """Where its START wants the run forked from: (path, step)."""
    rows: list[Row] = field(default_factory=list)
    media: list[Media] = field(default_factory=list)
    config: list[Setting] = field(default_factory=list)
    summary: list[Setting] = field(default_factory=list)
    printed: Printed = field(default_factory=Printed)
    last_sequence: int = 0
    synced_sequence: int = 0
    """What a power cut cannot take."""
    is_finished: bool = False
    """True if FINISH was written."""
    is_cut: bool = False
    """True if the power of its machine was cut after it had begun: what was not synced may be gone."""

    is_refused: bool = False
    """True if the server refused to begin it; found out in the end."""

    @property
    def path(self) -> str:
        """Returns entity/project/run_id."""
        return f"sim/world/{self.run_id}"

    @property
    def goes_back(self) -> bool:
        """Returns whether it asks for a step of another's, which the server may not have, and then refuses it."""
        return self.rewind_to_step is not None or self.fork is not None

    @property
    def first_step(self) -> int:
        """Returns the step behind the one that it goes back to."""
        if self.rewind_to_step is not None:
            return self.rewind_to_step + 1
        return 0 if self.fork is None else self.fork[1] + 1

    @property
    def last_step(self) -> int | None:
        """Returns its highest step, or None before its first row."""
        return max((row.step for row in self.rows), default=None)

    @property
    def name(self) -> str:
        """Returns what tells it from other writers."""
        return self.folder.rsplit("/", 1)[1]

    def points(self, durable: Iterable[int]) -> dict[Place, bytes]:
        """Returns the bits at each place if these records are stored: the last one written wins."""
        kept = set(durable)
        found: dict[Place, bytes] = {}
        for row in self.rows:
            if row.sequence in kept:
                found.update(((name, row.step), bits) for name, bits in row.values.items())
        return found

    def media_values(self, durable: Iterable[int]) -> dict[Place, list[dict[str, str]]]:
        """Returns the items at each place if these records are stored: the last one written wins."""
        kept = set(durable)
        return {(one.name, one.step): one.items for one in self.media if one.sequence in kept}


def allowed(settings: Iterable[Setting], key: str, *, floor: int) -> set[int | None]:
    """Returns what a key may be if all up to `floor` is applied, and what is behind it perhaps; None: not there."""
    last: int | None = None
    later: set[int | None] = set()
    for one in settings:
        if one.key == key:
            if one.sequence <= floor:
                last = one.value
            else:
                later.add(one.value)
    return {last, *later}
