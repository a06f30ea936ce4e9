"""The end of a run: waits until all is durable, and says what became of it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from runyard.agent_link import AgentLink
from runyard.artifacts.answers import answer_lines
from runyard.finish_progress import FinishProgress
from runyard.run_folder import REFUSED, UNREACHABLE, LineCounts, Mark, RunFolder
from runyard.run_receipt import dropped_line, gaps_text
from runyard.settings import ResolvedSettings
from runyard.terminal import Terminal
from runyard.text_format import count_text

POLL_INTERVAL_S = 0.02
START_GRACE_S = 15.0
"""Longest wait of finish() for the first word of an agent."""
_TOO_LONG = "not done after"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a run's records by the time finish() returns."""

    records_written: int
    records_durable: int
    records_dropped: int
    records_refused: int
    gaps: tuple[tuple[int, int], ...]
    """Where those are in the journal."""
    refusal: str
    """Why the server refused the last of them."""
    files_durable: int
    files_failed: int
    points_rejected: int
    is_complete: bool
    reason: str
    """Why it is not complete; "" if it is."""
    file_failure: str = ""
    """Why the last of the files that failed did."""
    is_dropped: bool = False
    """Whether the run was deleted on the server, and with that its data here."""
    artifacts_durable: int = 0
    artifacts_failed: int = 0
    artifacts_unnoted: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What became of artifacts, where only the mark has it."""
    is_ended: bool = False
    """Whether the server knows of the run's end."""
    lines: LineCounts = dataclasses.field(default_factory=LineCounts)
    """Of the console."""


def await_durable(
    folder: RunFolder,
    link: AgentLink,
    settings: ResolvedSettings,
    terminal: Terminal,
    *,
    records_written: int,
    records_dropped: int,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Waits until the server has everything, it refuses, or the time is up; never raises for Ctrl-C."""
    start_s = monotonic()
    progress = FinishProgress(terminal, records_written, start_s=start_s)
    reason = ""
    try:
        while True:
            mark = folder.read_mark()
            now_s = monotonic()
            progress.look(mark, now_s)
            reason = _stop_reason(mark, link, settings, waited_s=now_s - start_s)
            if reason.startswith(_TOO_LONG) and progress.are_files_moving(now_s):
                reason = ""
            if mark is None and not folder.path.exists():
                reason = "its folder was removed"
            if reason or (mark is not None and mark.is_complete):
                break
            link.revive(mark, records_written + 1)
            sleep(POLL_INTERVAL_S)
    except KeyboardInterrupt:
        mark, reason = folder.read_mark(), "interrupted"
    finally:
        terminal.end_progress()
    mark = mark or Mark()
    if not mark.is_complete and mark.server != REFUSED and folder.path.exists():
        link.leave_to_agent()
    return Outcome(
        lines=folder.read_line_counts(),
        records_written=records_written,
        records_durable=max(0, min(mark.durable_sequence, records_written) - mark.records_refused),
        records_dropped=records_dropped,
        records_refused=mark.records_refused,
        gaps=mark.refused_ranges,
        refusal=mark.message if mark.records_refused else "",
        files_durable=mark.files_durable,
        files_failed=mark.files_failed,
        artifacts_durable=mark.artifacts_durable,
        artifacts_failed=mark.artifacts_failed,
        artifacts_unnoted=mark.artifacts_unnoted,
        file_failure=mark.message if mark.files_failed else "",
        points_rejected=mark.points_rejected,
        is_complete=mark.is_complete,
        reason="" if mark.is_complete else reason,
        is_dropped=mark.is_dropped,
        is_ended=mark.is_ended,
    )


def outcome_lines(outcome: Outcome, folder: Path) -> list[str]:
    """Returns the receipt, and what to do where something is missing."""
    if outcome.is_dropped:
        return [
            f"This run was deleted on the server: {outcome.records_written:,} records are dropped"
        ]
    if not outcome.is_complete and not folder.exists():
        written = f"{outcome.records_written:,} records were written"
        return [
            f"{written}, and {folder} was removed: what the server has not got by now is lost. "
            f"`runyard runs show` tells what it has"
        ]
    files = f"{outcome.files_durable} file{'' if outcome.files_durable == 1 else 's'}"
    if outcome.artifacts_durable:
        files += f", {count_text(outcome.artifacts_durable, 'artifact')}"
    kept = outcome.lines
    if kept.written:
        whole = f"{kept.durable:,} of " if kept.durable < kept.written else ""
        files += f", {whole}{count_text(kept.written, 'line')} of the console"
    records = f"{outcome.records_durable:,} of {outcome.records_written:,} records durable"
    if outcome.records_written < 10_000:
        records = records.replace(",", "")
    lines = [f"{records}; {files}"]
    if outcome.records_dropped:
        lines.append(dropped_line(outcome.records_dropped))
    if kept.dropped:
        lines.append(
            f"{count_text(kept.dropped, 'line')} of the console not kept: printed faster than "
            f"RUNYARD_CONSOLE_BYTES_PER_S_MAX; notes among the lines say where"
        )
    if outcome.records_refused:
        was = "record was" if outcome.records_refused == 1 else "records were"
        why = f": {outcome.refusal}" if outcome.refusal else ""
        where = f" ({gaps_text(outcome.gaps)})" if outcome.gaps else ""
        lines.append(f"{outcome.records_refused:,} {was} refused by the server{where}{why}")
    if outcome.files_failed:
        lines.append(
            f"{count_text(outcome.files_failed, 'file')} could not be uploaded; {shown_path(folder.parent / 'agent.log')} says why"
            + (f": {outcome.file_failure}" if outcome.file_failure else "")
        )
    if outcome.artifacts_durable or outcome.artifacts_failed:
        lines.extend(answer_lines(folder / "artifacts", outcome.artifacts_unnoted))
    if outcome.points_rejected:
        lines.append(
            f"{outcome.points_rejected:,} points were refused by the server; `runyard runs show` says why"
        )
    if outcome.is_ended and not outcome.is_complete:
        lines.append(
            f"Not all is at the server: {outcome.reason}. It is safe in {shown_path(folder)}: the next agent in that folder sends "
            f"it, or runyard sync {shown_path(folder)}"
        )
    elif not outcome.is_complete:
        lines.append(
            f"Not all is at the server ({outcome.reason}). It is safe in {shown_path(folder)}: the agent goes on "
            f"sending it. To send it yourself: runyard sync {shown_path(folder)}"
        )
    return lines


def shown_path(path: Path) -> str:
    """Returns the path as a person would type it here."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # no working directory, or another drive
        return str(path)
    return str(path) if relative.startswith("..") else f".{os.sep}{relative}"


def waiting_text(mark: Mark) -> str:
    """Returns what a store that does not answer keeps from being sent; "" if it does not."""
    counts = ((mark.files_waiting, "file"), (mark.artifacts_waiting, "artifact"))
    waiting = " and ".join(count_text(count, noun) for count, noun in counts if count)
    if not waiting:
        return ""
    verb = "waits" if mark.files_waiting + mark.artifacts_waiting == 1 else "wait"
    return f"{waiting} {verb} for the object store ({mark.message})"


def _stop_reason(
    mark: Mark | None, link: AgentLink, settings: ResolvedSettings, *, waited_s: float
) -> str:
    """Returns why waiting on is of no use, "" if it is."""
    if waited_s >= settings.finish_timeout_s:
        waiting = "" if mark is None else waiting_text(mark)
        return f"{_TOO_LONG} {settings.finish_timeout_s:g} s{'; ' if waiting else ''}{waiting}"
    if mark is None:
        failure = link.failure()
        return failure or ("no agent answers" if waited_s >= START_GRACE_S else "")
    if mark.is_ended and not mark.is_complete:
        return waiting_text(mark)
    if mark.server == REFUSED:
        return f"the server refuses it: {mark.message}"
    if mark.server == UNREACHABLE and waited_s >= settings.unreachable_timeout_s:
        return f"the server at {settings.base_url} does not answer"
    return ""
