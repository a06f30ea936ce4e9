"""What init() decides before it writes: the id, where steps go on, and what this process is in a distributed job."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard import last_runs, ranks
from runyard.errors import InvalidArgument, UsageError
from runyard.run_branch import BranchPoint, read_branch_point
from runyard.run_plan import RunPlan, plan_run
from runyard.settings import ResolvedSettings

TORCH = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "TORCHELASTIC_RUN_ID": "abc",
    "MASTER_PORT": "1",
}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "6",
    "SLURM_JOB_ID": "77",
    "SLURMD_NODENAME": "n2",
}


def plan(tmp_path: Path, environ: dict[str, str] | None = None, **given: Any) -> RunPlan:
    wishes = {name: given.pop(name, None) for name in ("resume_from", "fork_from")}
    settings = ResolvedSettings(dir=str(tmp_path), **given)
    return plan_run(settings, environ=environ or {}, **wishes)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (TORCH, (3, 1, 8, "torchrun", "rank3")),
        (SLURM, (5, 0, 6, "slurm", "rank5")),
        (TORCH | SLURM, (3, 1, 8, "torchrun", "rank3")),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, (0, None, 2, "mpi", "rank0")),
        ({"PMI_RANK": "4", "PMI_SIZE": "9"}, (4, None, 9, "mpi", "rank4")),
        ({"JOB_COMPLETION_INDEX": "2", "NODE_NAME": "k"}, (2, None, 0, "kubernetes", "rank2")),
        ({"RANK": "1"}, (None, None, 0, "", "")),
        ({"RANK": "x", "WORLD_SIZE": "2"}, (None, None, 0, "", "")),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, (None, None, 0, "", "")),
        ({"SLURM_JOB_ID": "7"}, (None, None, 0, "", "")),
        ({}, (None, None, 0, "", "")),
    ],
)
def test_launchers_tell_the_rank(environ: dict[str, str], expected: tuple[Any, ...]) -> None:
    """Rank, local rank, number of ranks and launcher; what is no number is not believed."""
    place = ranks.find_place(environ)
    assert expected == (place.rank, place.local_rank, place.world_size, place.source, place.label)
    assert place.is_primary == (place.rank == 0)


def test_ranks_that_were_started_together_share_a_launch() -> None:
    """All ranks of one start have the same, another start and a restart another; nothing is said where nothing tells."""

    def launch(environ: dict[str, str], **more: str) -> str:
        return ranks.find_place(environ | more).launch

    for environ, rank, restart in (
        (TORCH, "RANK", {"TORCHELASTIC_RESTART_COUNT": "1"}),
        (SLURM, "SLURM_PROCID", {"SLURM_RESTART_COUNT": "1"}),
        (SLURM, "SLURM_PROCID", {"SLURM_JOB_ID": "8"}),
    ):
        assert launch(environ) == launch(environ, **{rank: "2"}) != launch(environ, **restart)
        assert len(launch(environ)) == 16
    here = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
    assert launch(here) == launch(here, RANK="1") != ""
    assert launch(here, WORLD_SIZE="4") == ""
    assert launch({"PMI_RANK": "4", "PMI_SIZE": "9"}) == launch({}) == ""


def test_gpus_are_told() -> None:
    """The GPUs that a process may use, as it names them."""
    assert ranks.find_place({"CUDA_VISIBLE_DEVICES": "0, GPU-1"}).gpus == ("0", "GPU-1")
    assert ranks.find_place({"CUDA_VISIBLE_DEVICES": "-1"}).gpus == ()


def test_ranks_of_one_job_meet_in_one_run_where_asked(tmp_path: Path) -> None:
    """With `shared`, processes of one job get one id and those of another job another; without a job it is an error."""
    one = plan(tmp_path, TORCH, shared=True)
    same = plan(tmp_path, TORCH | {"RANK": "7"}, shared=True)
    other = plan(tmp_path, TORCH | {"MASTER_PORT": "2"}, shared=True)
    assert one.run_id == same.run_id != other.run_id
    assert (one.settings.writer_label, same.settings.writer_label) == ("rank3", "rank7")
    assert plan(tmp_path, SLURM, shared=True).run_id.startswith("job-")
    assert plan(tmp_path, TORCH, shared=True, run_id="mine").run_id == "mine"
    for environ in ({}, TORCH | {"TORCHELASTIC_RUN_ID": "none"}):
        with pytest.raises(UsageError, match="same id="):
            plan(tmp_path, environ, shared=True)


def test_ranks_without_an_id_are_told_how_to_share(tmp_path: Path) -> None:
    """Each rank is a run of its own, and is told so; not with an id, and not outside of a job."""
    assert "each rank is a run of its own" in plan(tmp_path, TORCH).notes[0][1]
    assert plan(tmp_path, TORCH, run_id="x").notes == ()
    assert plan(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("text", "branch"),
    [
        ("abc?_step=7", BranchPoint("abc", 7)),
        ("e/p/abc?_step=-3", BranchPoint("e/p/abc", -3)),
        (" a b?_step=0 ", BranchPoint("a b", 0)),
    ],
)
def test_a_branch_point_is_read(text: str, branch: BranchPoint) -> None:
    """RUN?_step=N, RUN being an id or a path."""
    assert branch == read_branch_point(text, argument="fork_from")


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        "abc?_step=",
        "abc?_step=x",
        "?_step=1",
        "p/abc?_step=1",
        "abc?step=1",
        "a?_step=99999999999999999999",
        7,
    ],
)
def test_what_is_no_branch_point_is_refused_with_the_form(text: Any) -> None:
    """The error names the argument, the value and the form."""
    with pytest.raises(InvalidArgument, match=r"RUN\?_step=N"):
        read_branch_point(text, argument="fork_from")


def test_a_rewind_continues_the_run_after_the_step(tmp_path: Path) -> None:
    """The id is that of the origin, the run must exist, and steps go on after the one to go back to."""
    found = plan(tmp_path, resume_from="e/p/abc?_step=10")
    assert (
        found.run_id,
        found.settings.entity,
        found.settings.project,
        found.settings.resume,
        found.rewind_to_step,
        found.next_step,
    ) == ("abc", "e", "p", "must", 10, 11)
    assert found.start_fields == {"rewind_to_step": 10}


def test_a_fork_is_a_new_run_of_the_same_project(tmp_path: Path) -> None:
    """The parent's path is completed by the new run's own owner and project."""
    found = plan(tmp_path, fork_from="abc?_step=10", entity="e", project="p")
    assert found.run_id != "abc"
    assert found.start_fields == {"fork": {"run_path": "e/p/abc", "step": 10}}
    assert found.next_step == 11


@pytest.mark.parametrize(
    ("wishes", "problem"),
    [
        ({"resume_from": "a?_step=1", "fork_from": "a?_step=1"}, "not both"),
        ({"resume_from": "a?_step=1", "run_id": "b"}, "two runs"),
        ({"resume_from": "a?_step=1", "resume": "never"}, "continues a run"),
        ({"resume_from": "e/p/a?_step=1", "project": "q"}, "in project 'p'"),
        ({"fork_from": "a?_step=1", "run_id": "a"}, "fork of itself"),
        ({"fork_from": "a?_step=1", "resume": "must"}, "starts a new run"),
    ],
)
def test_wishes_that_contradict_each_other_are_refused(
    tmp_path: Path, wishes: dict[str, Any], problem: str
) -> None:
    """Each with what is wrong."""
    with pytest.raises(UsageError, match=problem):
        plan(tmp_path, **wishes)


def test_auto_continues_what_did_not_end_well(tmp_path: Path) -> None:
    """The last run of the project and writer here, unless it finished; a given id is resumed as by "allow"."""
    settings = ResolvedSettings(dir=str(tmp_path), project="p", resume="auto")
    assert plan(tmp_path, project="p", resume="auto").settings.resume == ""
    last_runs.note_started(tmp_path, settings, run_id="first")
    found = plan(tmp_path, project="p", resume="auto")
    assert (found.run_id, found.settings.resume) == ("first", "allow")
    assert plan(tmp_path, project="q", resume="auto").run_id != "first"
    assert plan(tmp_path, TORCH, project="p", resume="auto").run_id != "first"
    assert plan(tmp_path, project="p", resume="auto", run_id="given").run_id == "given"


def test_a_run_says_in_its_folder_how_far_it_came(tmp_path: Path) -> None:
    """A later run of that id counts on from there without a server; the last run here ended well, so auto starts anew."""
    folder = tmp_path / "journals"
    run = runyard.init(
        project="p", id="x", dir=str(folder), mode="offline", settings={"silent": True}
    )
    for _ in range(5):
        run.log({"a": 1.0})
    run.finish()
    again = runyard.init(
        project="p", id="x", dir=str(folder), mode="offline", settings={"silent": True}
    )
    assert again.step == 5
    again.log({"a": 1.0})
    again.finish()
    assert plan(folder, project="p", resume="auto").run_id != "x"
    assert plan(folder, run_id="x").next_step_here() == 6
    assert plan(folder, run_id="x", resume="never").next_step_here() is None
    assert plan(folder, run_id="y").next_step_here() is None


def test_ranks_of_one_job_do_not_count_on_from_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server a rank counts on from its own steps of before, not from those of one that began a moment earlier."""
    for name, value in (TORCH | {"RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    run = runyard.init(
        project="p", id="x", dir=str(tmp_path), mode="offline", settings={"silent": True}
    )
    run.log({"a": 1.0}, step=6)
    other_launch = TORCH | {"TORCHELASTIC_RUN_ID": "later"}
    assert plan(tmp_path, TORCH, run_id="x").next_step_here() is None
    assert plan(tmp_path, other_launch, run_id="x").next_step_here() is None
    assert plan(tmp_path, TORCH | {"RANK": "0"}, run_id="x").next_step_here() == 7
    run.finish()
    assert plan(tmp_path, TORCH, run_id="x").next_step_here() is None
    assert plan(tmp_path, other_launch, run_id="x").next_step_here() == 7


def test_a_killed_runs_journal_says_how_far_it_came(tmp_path: Path) -> None:
    """Without a word at the end the rows of the journal tell."""
    run = runyard.init(
        project="p", id="x", dir=str(tmp_path), mode="offline", settings={"silent": True}
    )
    run.log({"a": 1.0}, step=41)
    run.log({"a": 1.0}, step=7)
    assert last_runs.last_local_step(tmp_path, "x") == 41
    run.finish()


def test_the_identity_is_in_the_start_record() -> None:
    """Known fields only; rank 0 is told."""
    place = ranks.find_place(TORCH | {"RANK": "0"})
    assert place.as_identity() == {
        "rank": 0,
        "local_rank": 1,
        "world_size": 8,
        "source": "torchrun",
        "is_primary": True,
        "launch": place.launch,
    }
    assert dataclasses.replace(place, rank=None, is_primary=False).as_identity().get("rank") is None
