"""Writers of a run: who they are, how they ended, and what their ends mean for the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runyard_server.domain.projects import EndRule
from runyard_server.domain.run import RunException, RunKey, RunState, TransitionCause

DEFAULT_WRITER_LABEL = "main"
_SEVERITY = (
    RunState.FINISHED,
    RunState.PREEMPTED,
    RunState.KILLED,
    RunState.CRASHED,
    RunState.FAILED,
)


@dataclass(frozen=True, slots=True)
class WriterEnd:
    """How a writer's part in a run ended, as FinishRun said."""

    state: RunState
    cause: TransitionCause
    exit_code: int | None
    evidence: str
    end_time_unix_ns: int
    last_sequence: int
    exception: RunException | None = None
    records_refused: int = 0


@dataclass(frozen=True, slots=True)
class WriterIdentity:
    """What a writer is in a distributed run; see metadata.v1.WriterIdentity."""

    rank: int | None = None
    local_rank: int | None = None
    world_size: int = 0
    node: str = ""
    gpus: tuple[str, ...] = ()
    source: str = ""
    is_primary: bool = False
    launch: str = ""


@dataclass(frozen=True, slots=True)
class Writer:
    """One process that logs into a run; numbered from 1 within the run."""

    run_key: RunKey
    writer: int
    request_id: str
    """The init() that it is; one writer per request_id, over all runs."""
    label: str
    attempt: int
    is_resumed: bool
    """Whether the run existed when it came; part of the answer that a repeat gets."""
    start_time_unix_ns: int
    applied_sequence: int = 0
    """The highest sequence of its stream whose changes are in the run's document."""
    is_counted: bool = True
    """Whether its end has a say in the run's state; False once the run ended and was resumed by another."""
    end: WriterEnd | None = None
    identity: WriterIdentity = WriterIdentity()
    hostname: str = ""
    pid: int = 0


def run_outcome(writers: Sequence[Writer], rule: EndRule = EndRule.LAST_WRITER) -> WriterEnd | None:
    """Returns the end that decides the run's, or None while a writer lives that has a say in it.

    `writers` are the counted ones. By END_RULE_PRIMARY only the primary writer has a say. Else the worst end decides
    (failed > crashed > killed > finished), the latest of equals. Ends of those whom a later process of the same label
    replaced do not decide: a restart heals them.
    """
    if rule is EndRule.PRIMARY:
        label = _primary_label(writers)
        writers = [writer for writer in writers if writer.label == label]
    if any(writer.end is None for writer in writers):
        return None
    return _worst_end(_deciding(writers))


def silent_outcome(
    writers: Sequence[Writer], rule: EndRule = EndRule.LAST_WRITER
) -> WriterEnd | None:
    """Returns the end that decides the run's once the remaining writers have fallen silent, or None.

    A process that was replaced and never heard of again (its node died) must not turn its successor's good end
    into a crash.
    """
    remaining = [w for w in writers if w.end is not None or not _successors(w, writers)]
    return run_outcome(remaining, rule)


def _primary_label(writers: Sequence[Writer]) -> str:
    """Returns the label of the writer that says it is primary, else of rank 0, else of the first."""
    primary = [w for w in writers if w.identity.is_primary]
    ranked = [w for w in writers if w.identity.rank == 0]
    return next(iter((*primary, *ranked, *writers))).label if writers else ""


def _deciding(writers: Sequence[Writer]) -> list[Writer]:
    return [w for w in writers if not _is_healed(w, writers)]


def _is_healed(writer: Writer, writers: Sequence[Writer]) -> bool:
    """Returns whether a successor explains the writer's end.

    A vanished process with a successor was restarted. Any other end counts only if it came after the successor's
    start: then both ran side by side under one label.
    """
    assert writer.end is not None
    successors = _successors(writer, writers)
    if not successors:
        return False
    if writer.end.state is RunState.CRASHED:
        return True
    return writer.end.end_time_unix_ns <= successors[0].start_time_unix_ns


def _successors(writer: Writer, writers: Sequence[Writer]) -> list[Writer]:
    return [w for w in writers if w.label == writer.label and w.writer > writer.writer]


def _worst_end(writers: Sequence[Writer]) -> WriterEnd | None:
    ends = [writer.end for writer in writers if writer.end is not None]
    if not ends:
        return None
    return max(ends, key=lambda end: (_SEVERITY.index(end.state), end.end_time_unix_ns))
