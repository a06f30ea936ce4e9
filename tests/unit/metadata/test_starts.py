"""Starting, resuming and joining runs."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from runyard_server.domain.errors import (
    AlreadyExists,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from runyard_server.domain.run import Host, RunState, TransitionCause, run_key_time_unix_ms
from runyard_server.metadata.requests import ResumeMode, RunLimits, StartRun
from runyard_server.metadata.service import MetadataConfig
from runyard_server.metadata.words import ADJECTIVES, NOUNS, make_display_name
from tests.unit.metadata.desk import Desk


async def test_a_first_start_makes_everything() -> None:
    """Entity, project, run and writer are made; the run is running, with its first transition."""
    desk = Desk()
    started = await desk.start(config_json='{"lr": 0.1}', tags=("b", "a", "b"))
    run, writer = started.run, started.writer
    assert re.fullmatch("[a-z0-9]{8}", run.run_id)
    assert re.fullmatch("[a-z]+-[a-z]+-1", run.display_name)
    assert (run.entity, run.project, run.state) == ("local", "p", RunState.RUNNING)
    assert (run.config_json, run.tags) == ('{"lr":0.1}', ("b", "a"))
    assert (writer.writer, writer.attempt, writer.is_resumed) == (1, 1, False)
    assert desk.clock.unix_ns // 1_000_000 == run_key_time_unix_ms(run.run_key)
    [first] = await desk.history(started)
    assert (first.from_state, first.to_state) == (None, RunState.RUNNING)
    assert TransitionCause.STARTED is first.cause
    project = await desk.service.get_project("local/p")
    assert (project.run_count, project.live_run_count) == (1, 1)


async def test_names_count_the_runs_of_the_project() -> None:
    """N of adjective-noun-N counts in the project, named or not."""
    desk = Desk()
    numbers = []
    for name in ("", "mine", "", ""):
        started = await desk.start(display_name=name)
        numbers.append(started.run.display_name.rpartition("-")[2])
    other = await desk.start(project="other")
    assert numbers == ["1", "mine", "3", "4"]
    assert other.run.display_name.endswith("-1")


async def test_a_repeat_gets_the_first_answer() -> None:
    """A repeated request_id starts nothing, with and without an id."""
    desk = Desk()
    for run_id in ("", "mine"):
        ask = StartRun(request_id=desk.request_id(), project="p", run_id=run_id)
        first = await desk.service.start_run(ask)
        assert first == await desk.service.start_run(ask)
    project = await desk.service.get_project("local/p")
    assert project.run_count == 2


async def test_a_request_id_belongs_to_one_request() -> None:
    """The same request_id for another run is refused."""
    desk = Desk()
    ask = StartRun(request_id=desk.request_id(), project="p", run_id="a")
    await desk.service.start_run(ask)
    for other in (replace(ask, run_id="b"), replace(ask, project="q")):
        with pytest.raises(InvalidArgument) as caught:
            await desk.service.start_run(other)
        assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_resume_modes() -> None:
    """ALLOW starts or resumes, NEVER refuses what exists, MUST refuses what does not."""
    desk = Desk()
    with pytest.raises(NotFound) as caught:
        await desk.start("x", resume=ResumeMode.MUST)
    assert caught.value.reason == "RUN_NOT_FOUND"
    await desk.start("x", resume=ResumeMode.NEVER)
    with pytest.raises(AlreadyExists) as exists:
        await desk.start("x", resume=ResumeMode.NEVER)
    assert exists.value.reason == "RUN_ALREADY_EXISTS"
    resumed = await desk.start("x", resume=ResumeMode.MUST)
    assert resumed.writer.is_resumed
    with pytest.raises(InvalidArgument):
        await desk.start("", resume=ResumeMode.MUST)


async def test_a_refused_start_leaves_no_project() -> None:
    """Entity and project are made with the run, or not at all."""
    desk = Desk()
    with pytest.raises(NotFound):
        await desk.start("x", project="empty", resume=ResumeMode.MUST)
    with pytest.raises(NotFound):
        await desk.service.get_project("local/empty")


async def test_a_deleted_run_is_never_resumed() -> None:
    """Its id can never be used again."""
    desk = Desk()
    started = await desk.start("x")
    gone = replace(started.run, is_deleted=True, version=2)
    await desk.runs.transact(lambda tx: tx.save_run(gone))
    for resume in ResumeMode:
        with pytest.raises(FailedPrecondition) as caught:
            await desk.start("x", resume=resume)
        assert caught.value.reason == "RUN_DELETED"


async def test_an_ended_run_goes_on_as_a_new_attempt() -> None:
    """A resumed run goes back to running, with a transition; its end is forgotten, its start kept."""
    desk = Desk()
    started = await desk.start("x", config_json='{"a":1,"b":{"c":1}}', tags=("t",), notes="n")
    ended = await desk.finish(started, exit_code=3)
    assert RunState.FAILED is ended.state
    resumed = await desk.start(
        "x", config_json='{"b":{"d":2}}', tags=("u",), host=Host(hostname="other")
    )
    run = resumed.run
    assert (resumed.writer.attempt, resumed.writer.writer, run.attempt_count) == (2, 2, 2)
    assert (run.state, run.end_time_unix_ns, run.exit_code) == (RunState.RUNNING, None, None)
    assert (run.config_json, run.tags, run.notes) == ('{"a":1,"b":{"d":2}}', ("t", "u"), "n")
    assert (started.run.start_time_unix_ns, "other") == (run.start_time_unix_ns, run.host.hostname)
    causes = [step.cause for step in await desk.history(started)]
    assert causes == [
        TransitionCause.STARTED,
        TransitionCause.FINISH_CALLED,
        TransitionCause.RESUMED,
    ]
    done = await desk.finish(resumed, exit_code=0)
    assert (done.state, done.exit_code) == (RunState.FINISHED, 0)


async def test_ranks_join_a_live_run() -> None:
    """A writer of another label joins the attempt that runs; the state does not change."""
    desk = Desk()
    first = await desk.start("x", writer_label="rank0", host=Host(hostname="h0"))
    second = await desk.start("x", writer_label="rank1", host=Host(hostname="h1"))
    assert (
        second.writer.writer,
        second.writer.attempt,
        second.writer.is_resumed,
    ) == (2, 1, True)
    assert (
        second.run.writer_count,
        second.run.attempt_count,
        second.run.host.hostname,
    ) == (2, 1, "h0")
    assert len(await desk.history(first)) == 1


async def test_too_many_writers_are_refused() -> None:
    """A run has a limit of writers."""
    desk = Desk(MetadataConfig(limits=RunLimits(writer_count_max=2)))
    for label in ("a", "b"):
        await desk.start("x", writer_label=label)
    with pytest.raises(ResourceExhausted):
        await desk.start("x", writer_label="c")


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"run_id": "a/b"}, "FIELD_INVALID"),
        ({"run_id": "x" * 65}, "FIELD_INVALID"),
        ({"run_id": " x"}, "FIELD_INVALID"),
        ({"project": "a#b"}, "FIELD_INVALID"),
        ({"entity": ""}, "FIELD_INVALID"),
        ({"request_id": "short"}, "FIELD_INVALID"),
        ({"display_name": "x" * 257}, "FIELD_TOO_LARGE"),
        ({"display_name": "a\nb"}, "FIELD_INVALID"),
        ({"notes": "x" * (256 * 1024 + 1)}, "FIELD_TOO_LARGE"),
        ({"notes": "a\0b"}, "FIELD_INVALID"),
        ({"tags": ("",)}, "FIELD_INVALID"),
        ({"tags": tuple(f"t{n}" for n in range(257))}, "FIELD_TOO_LARGE"),
        ({"config_json": "[1]"}, "FIELD_INVALID"),
        ({"config_json": '{"a":NaN}'}, "FIELD_INVALID"),
        ({"config_json": '{"a":1' + "0" * 20 + "}"}, "FIELD_INVALID"),
        ({"config_json": '{"a":"' + "x" * 5_000_000 + '"}'}, "FIELD_TOO_LARGE"),
        ({"host": Host(extra_json="nope")}, "FIELD_INVALID"),
        ({"host": Host(command="x" * 1024 * 1024 + "x")}, "FIELD_TOO_LARGE"),
    ],
)
async def test_bad_starts_are_refused(wish: dict[str, object], reason: str) -> None:
    """What no run may hold is refused with a reason, the field, and leaves nothing."""
    desk = Desk()
    with pytest.raises(DomainError) as caught:
        await desk.start(**wish)  # type: ignore[arg-type]  # members of StartRun
    assert reason == caught.value.reason
    assert caught.value.metadata["field"]
    projects, _ = await desk.service.list_projects("", page_size=0, page_token="")
    assert projects == []


async def test_times_of_odd_clocks_are_moved_into_range() -> None:
    """A training machine's clock may say anything; the start is kept within what the store holds."""
    desk = Desk()
    early = await desk.start(start_time_unix_ns=-5)
    late = await desk.start(start_time_unix_ns=2**70)
    assert (early.run.start_time_unix_ns, late.run.start_time_unix_ns) == (0, 2**63 - 1)


def test_words_are_many_and_plain() -> None:
    """A few hundred of each, lower case, no word twice; every combination is reached."""
    for words in (ADJECTIVES, NOUNS):
        assert len(words) > 250
        assert len(set(words)) == len(words)
        assert all(re.fullmatch("[a-z]+", word) for word in words)
    last = len(ADJECTIVES) * len(NOUNS) - 1
    assert f"{ADJECTIVES[-1]}-{NOUNS[-1]}-7" == make_display_name(7, last)
