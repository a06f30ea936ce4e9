"""What an agent says of how a writer ended: the process's own word, and the system's where there is none or it differs."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Mapping
from typing import Any

from runyard.agent.ports import Ending, ProcessEnd

PROCESS_EXITED, SIGNAL, PROCESS_VANISHED = "PROCESS_EXITED", "SIGNAL", "PROCESS_VANISHED"
OUT_OF_MEMORY, PREEMPTED, USER_REQUEST = "OUT_OF_MEMORY", "PREEMPTED", "USER_REQUEST"
ASKING_SIGNALS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
"""Signals by which people and schedulers end programs; a process that others end has crashed."""
_KILLING_SIGNALS = (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM))


def told_ending(payload: bytes, *, last_sequence: int, time_unix_ns: int) -> Ending:
    """Returns the end that a FINISH record tells of; `time_unix_ns` stands in where it has no time."""
    content: dict[str, Any] = json.loads(payload)
    code = content.get("exit_code")
    exception = content.get("exception")
    return Ending(
        cause=str(content.get("cause") or PROCESS_EXITED),
        exit_code=int(code) if code is not None else None,
        evidence=str(content.get("evidence") or ""),
        time_unix_ns=int(content.get("time_unix_ns") or time_unix_ns),
        last_sequence=last_sequence,
        exception=_texts(exception) if isinstance(exception, Mapping) else None,
        is_of_kernel=content.get("is_of_kernel") is True,
    )


def real_ending(
    end: ProcessEnd, *, last_sequence: int, stop_evidence: str = "", preemption_notice: str = ""
) -> Ending:
    """Returns the end that the system tells of.

    `stop_evidence` says that the process was stopped on request, and how; `preemption_notice` that it was announced
    that its machine will be taken away. Neither explains a crash.
    """
    number, code = end.signal, end.exit_code
    is_asked = number in ASKING_SIGNALS
    if end.is_out_of_memory:
        cause = OUT_OF_MEMORY
    elif stop_evidence and (is_asked or number is None or number == signal.SIGKILL):
        cause = USER_REQUEST
    elif preemption_notice and (
        number in (signal.SIGTERM, signal.SIGKILL) or (number is None and code is None)
    ):
        cause = PREEMPTED
    elif number is not None:
        cause = SIGNAL if is_asked else PROCESS_VANISHED
    else:
        cause = PROCESS_VANISHED if code is None else PROCESS_EXITED
    because = stop_evidence if cause == USER_REQUEST else ""
    because = preemption_notice if cause == PREEMPTED else because
    return Ending(
        cause=cause,
        exit_code=code if number is None else 128 + number,
        evidence=f"{end.evidence}; {because}" if because else end.evidence,
        time_unix_ns=end.time_unix_ns,
        last_sequence=last_sequence,
    )


def is_contradicted(told: Ending, end: ProcessEnd) -> bool:
    """Returns whether the system's word replaces the process's own.

    It told before it had ended. What it said by finish(), or of an exception or a signal, stands. So does what a Jupyter
    kernel said at its shutdown when it was killed after that: who shuts a kernel down waits for it a few seconds only.
    """
    if told.cause != PROCESS_EXITED or (end.exit_code is None and end.signal is None):
        return False
    if told.is_of_kernel and end.signal in _KILLING_SIGNALS and not end.is_out_of_memory:
        return False
    return end.signal is not None or end.exit_code != told.exit_code


def correction(told: Ending, end: ProcessEnd) -> Ending:
    """Returns the end that replaces the one that the process told of."""
    real = real_ending(end, last_sequence=told.last_sequence)
    evidence = f"{real.evidence}; it had told of code {told.exit_code} before"
    return dataclasses.replace(real, evidence=evidence, is_correction=True)


def is_by_terminate(ending: Ending) -> bool:
    """Returns whether a SIGTERM ended the process, and nothing says why it came."""
    return ending.cause == SIGNAL and ending.exit_code == 128 + signal.SIGTERM


def preempted(ending: Ending, disruption: str) -> Ending:
    """Returns the end as it is if its pod was taken away; "" if it was not."""
    if not disruption:
        return ending
    evidence = f"{ending.evidence}; {disruption}"
    return dataclasses.replace(ending, cause=PREEMPTED, evidence=evidence)


def kept_end(end: ProcessEnd) -> bytes:
    """Returns what process.json holds: for an agent that comes when nobody can ask the system any more."""
    return json.dumps({"version": 1, **dataclasses.asdict(end)}, ensure_ascii=False).encode()


def read_end(fields: Mapping[str, Any]) -> ProcessEnd | None:
    """Returns the end that process.json holds; None if it holds none."""
    try:
        code, number = fields["exit_code"], fields["signal"]
        return ProcessEnd(
            exit_code=None if code is None else int(code),
            signal=None if number is None else int(number),
            is_out_of_memory=bool(fields["is_out_of_memory"]),
            evidence=str(fields["evidence"]),
            time_unix_ns=int(fields["time_unix_ns"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in fields.items()}


def vanished_ending(
    start: Mapping[str, Any], *, last_sequence: int, time_unix_ns: int, removed_folder: str
) -> Ending:
    """Returns the end of a process that is gone without a word; `removed_folder`: that of its run, if it is gone, too."""
    host = start.get("host") or {}
    evidence = f"process {host.get('pid', '?')} on {host.get('hostname', '?')} is gone"
    if removed_folder:
        evidence = f"the run's folder {removed_folder} was removed"
    evidence += f"; last record {last_sequence}"
    return Ending(PROCESS_VANISHED, None, evidence, time_unix_ns, last_sequence)
