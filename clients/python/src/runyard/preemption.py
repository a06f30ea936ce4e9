"""Knows whether the end of a process was announced: by the script, or by the system that runs its machine."""

from __future__ import annotations

import dataclasses
import signal

from runyard.exit_hooks import PREEMPTED, PROCESS_EXITED, SIGNAL, End
from runyard.settings import slurm_job

MARKED = "mark_preempting()"


def notice_of(end: End, mode: str) -> str:
    """Returns what announced the end that a SIGTERM brings; "" if nothing did.

    In a job of Slurm it is Slurm that sends it: when it preempts the job, when the job's time is up, and for scancel,
    which looks the same from within. (The SIGCONT that Slurm sends with it would tell it from a person's kill, but who
    handles both may lose both: the kernel can hand them to a thread that does not wake Python's main thread.) In a pod
    of Kubernetes every deletion begins with the same SIGTERM, so that it tells nothing of the reason: there it counts in
    mode "sigterm".
    """
    if end.signal != signal.SIGTERM or mode == "off":
        return ""
    if mode == "sigterm":
        return "SIGTERM, which is set to announce a preemption (RUNYARD_PREEMPTION)"
    job = slurm_job()
    return f"SIGTERM in job {job} of Slurm" if job else ""


def decided(end: End, notice: str) -> End:
    """Returns the end as it is in the light of a notice.

    The SIGTERM that follows is the preemption, and so is a code other than 0 by which the script gives way. Neither
    finish(), nor code 0, nor an exception becomes one.
    """
    is_giving_way = end.cause == PROCESS_EXITED and end.exit_code != 0
    is_taken = end.cause == SIGNAL and end.signal == signal.SIGTERM
    if not notice or not (is_giving_way or is_taken):
        return end
    evidence = f"{end.evidence or f'exit code {end.exit_code}'} after {notice}"
    return dataclasses.replace(end, cause=PREEMPTED, evidence=evidence)
