"""What this process is in a distributed job, as its launcher says: torchrun, Slurm, MPI, an indexed job of Kubernetes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any

from runyard.process_identity import start_ticks_of, surroundings

RANK_MAX = 1 << 24


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a process; None and "" where its launcher does not say. See metadata.v1.WriterIdentity."""

    rank: int | None = None
    local_rank: int | None = None
    world_size: int = 0
    node: str = ""
    gpus: tuple[str, ...] = ()
    source: str = ""
    is_primary: bool = False
    job: str = ""
    """What tells this job from all others, and is the same in all its processes and restarts; "" if nothing does."""
    launch: str = ""
    """What the processes that were started together share, and no others; another after a restart; "" if nothing tells."""

    def as_identity(self) -> dict[str, Any]:
        """Returns the fields of WriterIdentity that are known."""
        fields = dataclasses.asdict(self)
        del fields["job"]
        fields["gpus"] = list(self.gpus)
        return (
            {name: value for name, value in fields.items() if value not in (None, "", 0, [], False)}
            | ({"rank": self.rank} if self.rank is not None else {})
            | ({"local_rank": self.local_rank} if self.local_rank is not None else {})
        )

    @property
    def label(self) -> str:
        """Returns the label of the writer: rank17; "" where there is no rank."""
        return "" if self.rank is None else f"rank{self.rank}"


def find_place(environ: Mapping[str, str]) -> Place:
    """Returns the place that the environment tells of; the first launcher that names a rank has the say."""
    gpus = _gpus(environ)
    for read in (_torchrun, _slurm, _mpi, _kubernetes):
        place = read(environ)
        if place is not None:
            launch = place.launch and hashlib.sha256(place.launch.encode()).hexdigest()[:16]
            return dataclasses.replace(place, gpus=gpus, is_primary=place.rank == 0, launch=launch)
    return Place(gpus=gpus)


def shared_run_id(place: Place) -> str:
    """Returns the id under which all processes of the job meet; "" if its launcher names no job."""
    if not place.job:
        return ""
    return f"job-{hashlib.sha256(place.job.encode()).hexdigest()[:12]}"


def _torchrun(environ: Mapping[str, str]) -> Place | None:
    rank = _number(environ, "RANK")
    if rank is None or _number(environ, "WORLD_SIZE") is None:
        return None
    run_id = environ.get("TORCHELASTIC_RUN_ID", "")
    parts = (run_id, environ.get("MASTER_ADDR", ""), environ.get("MASTER_PORT", ""))
    job = "" if run_id in ("", "none") else "torchrun:" + ":".join(parts)
    is_one_node = environ.get("LOCAL_WORLD_SIZE") == environ.get("WORLD_SIZE")
    launcher = job or (_parent() if is_one_node else "")
    restart = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Place(
        rank=rank,
        local_rank=_number(environ, "LOCAL_RANK"),
        world_size=_number(environ, "WORLD_SIZE") or 0,
        node=environ.get("SLURMD_NODENAME") or environ.get("NODE_NAME", ""),
        source="torchrun",
        job=job,
        launch=launcher and f"{launcher}:{restart}",
    )


def _slurm(environ: Mapping[str, str]) -> Place | None:
    rank = _number(environ, "SLURM_PROCID")
    job_id = environ.get("SLURM_JOB_ID", "")
    if rank is None or not job_id:
        return None
    parts = (environ.get("SLURM_CLUSTER_NAME", ""), job_id, environ.get("SLURM_STEP_ID", ""))
    job = "slurm:" + ":".join(parts)
    return Place(
        rank=rank,
        local_rank=_number(environ, "SLURM_LOCALID"),
        world_size=_number(environ, "SLURM_NTASKS") or 0,
        node=environ.get("SLURMD_NODENAME", ""),
        source="slurm",
        job=job,
        launch=f"{job}:{environ.get('SLURM_RESTART_COUNT', '0')}",
    )


def _mpi(environ: Mapping[str, str]) -> Place | None:
    for rank_name, local_name, size_name, job_name in (
        (
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_LOCAL_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "PMIX_NAMESPACE",
        ),
        ("PMIX_RANK", "PMIX_LOCAL_RANK", "PMIX_SIZE", "PMIX_NAMESPACE"),
        ("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE", "PMI_ID"),
        ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_SIZE", ""),
    ):
        rank = _number(environ, rank_name)
        if rank is not None:
            namespace = environ.get(job_name, "") if job_name == "PMIX_NAMESPACE" else ""
            job = namespace and f"mpi:{namespace}"
            return Place(
                rank=rank,
                local_rank=_number(environ, local_name),
                world_size=_number(environ, size_name) or 0,
                source="mpi",
                job=job,
                launch=job,
            )
    return None


def _kubernetes(environ: Mapping[str, str]) -> Place | None:
    rank = _number(environ, "JOB_COMPLETION_INDEX")
    if rank is None:
        return None
    # The pod's name is JOB-INDEX-RANDOM; a job that is made anew under its name has other pods, and no id here tells it.
    pod = environ.get("HOSTNAME", "")
    found = re.fullmatch(rf"(.+)-{rank}(?:-[a-z0-9]{{5}})?", pod)
    uid = environ.get("JOB_UID", "")
    job = f"kubernetes:{found[1]}:{uid}" if found and uid else ""
    return Place(
        rank=rank,
        node=environ.get("NODE_NAME", ""),
        source="kubernetes",
        job=job,
        # A pod that is restarted has its index again: it takes over, whatever the launch.
        launch=job,
    )


def _parent() -> str:
    """Returns what tells our parent, the launcher of all ranks of one node, from every other process; "" if nothing does."""
    pid = os.getppid()
    ticks, here = start_ticks_of(pid), surroundings()
    return f"{here['boot_id']}:{pid}:{ticks}" if here and ticks is not None else ""


def _gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        text = environ.get(name, "")
        if text and text != "-1":
            return tuple(part.strip()[:64] for part in text.split(",") if part.strip())[:64]
    return ()


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "") if name else ""
    if not text.isascii() or not text.isdigit():
        return None
    number = int(text)
    return number if number <= RANK_MAX else None
