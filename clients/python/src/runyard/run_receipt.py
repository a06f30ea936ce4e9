"""What a run's own process can say of its records: how many were logged, and how many the server has for good."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from typing import Callable

from runyard.run_folder import Mark, RunFolder
from runyard.text_format import count_text

SAMPLE_COUNT_MAX = 600
GAPS_SHOWN_MAX = 10


@dataclasses.dataclass(frozen=True)
class RunReceipt:
    """A run's records as they are now; no server is asked, the agent's last word counts. `print` it to read it."""

    records_written: int = 0
    """Records in the journal: rows, changes, files."""
    records_durable: int = 0
    """Of these, how many the server has for good."""
    records_refused: int = 0
    """How many the server refused for good."""
    records_dropped: int = 0
    """Records that are in no journal: the disk, or the limit of journals, refused them."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Closed ranges of what was refused, as far as they are listed."""
    lag_records: int = 0
    """Records that are neither durable nor refused yet."""
    lag_s: float = 0.0
    """Age of the oldest of them; 0 if there is none."""
    files_durable: int = 0
    files_failed: int = 0
    artifacts_durable: int = 0
    """Artifacts that are versions on the server."""
    artifacts_failed: int = 0
    points_rejected: int = 0
    """Points that the server refused inside records that it took."""
    server: str = ""
    """connecting, reachable, unreachable or refused; "offline" or "disabled" where nothing is sent."""
    message: str = ""
    """What the agent last had to say: why records were refused, or why the server does not answer."""
    is_complete: bool = False
    """Whether the run has ended on the server and all of it is there that could be sent."""

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Returns it in words."""
        files = f"{self.files_durable:,} file{'' if self.files_durable == 1 else 's'}"
        if self.artifacts_durable:
            files += f", {count_text(self.artifacts_durable, 'artifact')}"
        lines = [f"{self.records_durable:,} of {self.records_written:,} records durable; {files}"]
        if self.lag_records and self.server == "offline":
            lines.append(f"{_records(self.lag_records).rsplit(' ', 1)[0]} on this disk only")
        elif self.lag_records:
            lines.append(
                f"{_records(self.lag_records).rsplit(' ', 1)[0]} on the way, for {self.lag_s:.1f} s"
            )
        if self.records_refused:
            lines.append(
                f"{_records(self.records_refused)} refused for good: {gaps_text(self.gaps)}"
            )
        if self.records_dropped:
            lines.append(dropped_line(self.records_dropped))
        if self.files_failed:
            lines.append(f"{self.files_failed:,} files could not be uploaded")
        if self.artifacts_failed:
            lines.append(f"{count_text(self.artifacts_failed, 'artifact')} did not become versions")
        if self.points_rejected:
            lines.append(f"{self.points_rejected:,} points refused by the server")
        if self.server and not self.is_complete:
            lines.append(f"server: {self.server}" + (f" ({self.message})" if self.message else ""))
        return lines


class LagClock:
    """Remembers when the journal was how long, a few hundred moments at most, so that a lag has an age."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, sequence: int) -> None:
        """Takes the last sequence written so far; called a few times a second."""
        with self._lock:
            if self._samples and self._samples[-1][1] == sequence:
                return
            self._samples.append((self._monotonic(), sequence))
            if len(self._samples) > SAMPLE_COUNT_MAX:
                self._samples = deque(list(self._samples)[::2])

    def age_s(self, settled_sequence: int) -> float:
        """Returns for how long at least the record behind `settled_sequence` has been written; forgets what is settled."""
        with self._lock:
            while self._samples and self._samples[0][1] <= settled_sequence:
                self._samples.popleft()
            return self._monotonic() - self._samples[0][0] if self._samples else 0.0


def make_receipt(
    folder: RunFolder | None, clock: LagClock, *, mode: str, written: int, dropped: int
) -> RunReceipt:
    """Returns the receipt of a run whose journal has `written` records; reads its mark, asks nobody."""
    if folder is None:
        return RunReceipt(records_dropped=dropped, server="disabled" if mode == "disabled" else "")
    mark = folder.read_mark()
    if mark is None:
        server = "offline" if mode == "offline" else "connecting"
        mark = Mark(server=server)
    clock.note(written)
    settled = min(mark.durable_sequence, written)
    return RunReceipt(
        records_written=written,
        records_durable=max(0, settled - mark.records_refused),
        records_refused=mark.records_refused,
        records_dropped=dropped,
        gaps=mark.refused_ranges,
        lag_records=written - settled,
        lag_s=clock.age_s(settled) if written > settled else 0.0,
        files_durable=mark.files_durable,
        files_failed=mark.files_failed,
        artifacts_durable=mark.artifacts_durable,
        artifacts_failed=mark.artifacts_failed,
        points_rejected=mark.points_rejected,
        server=mark.server,
        message=mark.message,
        is_complete=mark.is_complete,
    )


def gaps_text(gaps: tuple[tuple[int, int], ...]) -> str:
    """Returns ranges of records as text: "5, 17-20, +3 more"."""
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in gaps]
    more = len(shown) - GAPS_SHOWN_MAX
    return ", ".join(shown[:GAPS_SHOWN_MAX] + ([f"+{more} more"] if more > 0 else []))


def dropped_line(count: int) -> str:
    """Returns the line that tells of records that no disk took."""
    return f"{_records(count)} dropped: the disk, or the limit of journals, refused them"


def _records(count: int) -> str:
    return f"{count:,} record was" if count == 1 else f"{count:,} records were"
