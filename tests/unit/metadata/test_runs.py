"""Ends, verdicts, changes and edits of runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from runyard_server.domain.run import Host, MetricDefinition, RunKey, RunState, TransitionCause
from runyard_server.domain.writers import WriterIdentity
from runyard_server.metadata.requests import (
    RecordTransition,
    RunChange,
    RunEdit,
    RunLimits,
    cut_evidence,
)
from tests.unit.metadata.desk import Desk

FINISH, EXITED = TransitionCause.FINISH_CALLED, TransitionCause.PROCESS_EXITED
RAISED, SIGNAL = TransitionCause.UNHANDLED_EXCEPTION, TransitionCause.SIGNAL
VANISHED = TransitionCause.PROCESS_VANISHED


@pytest.mark.parametrize(
    ("cause", "exit_code", "state"),
    [
        (FINISH, None, RunState.FINISHED),
        (FINISH, 0, RunState.FINISHED),
        (FINISH, 1, RunState.FAILED),
        (EXITED, 0, RunState.FINISHED),
        (EXITED, 2, RunState.FAILED),
        (EXITED, None, RunState.CRASHED),
        (RAISED, None, RunState.FAILED),
        (RAISED, 1, RunState.FAILED),
        (SIGNAL, 130, RunState.KILLED),
        (VANISHED, None, RunState.CRASHED),
        (TransitionCause.USER_REQUEST, 0, RunState.KILLED),
    ],
)
async def test_the_end_follows_from_cause_and_code(
    cause: TransitionCause, exit_code: int | None, state: RunState
) -> None:
    """The cause decides, then the exit code; the end has its own time and is in the history."""
    desk = Desk()
    started = await desk.start()
    ended = await desk.finish(started, cause, exit_code, end_time_unix_ns=77)
    assert (state, exit_code, 77) == (ended.state, ended.exit_code, ended.end_time_unix_ns)
    step = (await desk.history(started))[-1]
    assert (RunState.RUNNING, state, cause) == (step.from_state, step.to_state, step.cause)
    assert (step.evidence, step.actor, step.attempt) == ("evidence", "writer 1 (main)", 1)
    project = await desk.service.get_project("local/p")
    assert (project.run_count, project.live_run_count) == (1, 0)


async def test_a_repeated_finish_changes_nothing() -> None:
    """FinishRun is safe to repeat, also with other contents."""
    desk = Desk()
    started = await desk.start()
    ended = await desk.finish(started, exit_code=0)
    assert ended == await desk.finish(started, RAISED, 1)
    assert len(await desk.history(started)) == 2


@pytest.mark.parametrize(
    "cause",
    [
        TransitionCause.STARTED,
        TransitionCause.HEARTBEAT_LOST,
        TransitionCause.HEARTBEAT_RETURNED,
        TransitionCause.RESUMED,
    ],
)
async def test_causes_that_end_no_writer_are_refused(cause: TransitionCause) -> None:
    """Only ends are ends."""
    desk = Desk()
    started = await desk.start()
    with pytest.raises(InvalidArgument):
        await desk.finish(started, cause)


async def test_a_run_ends_with_its_last_writer_and_its_worst_end() -> None:
    """Severity is failed > crashed > killed > finished; the run ends when its last writer does."""
    order = [(FINISH, 0), (SIGNAL, 130), (VANISHED, None), (RAISED, 1)]
    states = [RunState.FINISHED, RunState.KILLED, RunState.CRASHED, RunState.FAILED]
    for worst in range(4):
        desk = Desk()
        ranks = [await desk.start("x", writer_label=f"rank{n}") for n in range(4)]
        for rank, started in enumerate(ranks):
            cause, exit_code = order[min(rank, worst)]
            document = await desk.finish(started, cause, exit_code)
            expected = states[worst] if rank == 3 else RunState.RUNNING
            assert expected is document.state


async def test_a_restart_heals_the_end_of_the_process_it_replaces() -> None:
    """A vanished process whose successor finishes well does not make the run crashed, whichever word comes first."""
    for is_word_late in (False, True):
        desk = Desk()
        first = await desk.start("x")
        second = await desk.start("x")
        assert second.writer.attempt == 2
        assert TransitionCause.RESUMED is (await desk.history(first))[-1].cause
        ends = [(first, VANISHED, None), (second, FINISH, 0)]
        for started, cause, exit_code in reversed(ends) if is_word_late else ends:
            document = await desk.finish(started, cause, exit_code)
        assert RunState.FINISHED is document.state


async def test_a_failure_before_the_restart_is_healed_too() -> None:
    """An end before the successor's start is healed; one after it, side by side, counts."""
    for is_side_by_side, state in ((False, RunState.FINISHED), (True, RunState.FAILED)):
        desk = Desk()
        first = await desk.start("x")
        end_time = desk.clock.unix_ns + (10**12 if is_side_by_side else 0)
        second = await desk.start("x")
        await desk.finish(first, RAISED, 1, end_time_unix_ns=end_time)
        assert state is (await desk.finish(second, exit_code=0)).state


async def test_silence_of_a_replaced_process_does_not_crash_the_run() -> None:
    """The node of the first process died without a word: when silence is the verdict, the successor's end counts."""
    desk = Desk()
    await desk.start("x")
    second = await desk.start("x")
    document = await desk.finish(second, exit_code=0)
    assert RunState.RUNNING is document.state
    assert await desk.crash(document)
    document = await desk.read(second)
    assert (document.state, document.exit_code) == (RunState.FINISHED, 0)


async def test_a_verdict_has_the_time_of_the_last_beat() -> None:
    """The end of a crashed run is the last beat; a late beat reverses the verdict and clears the end."""
    desk = Desk()
    started = await desk.start()
    assert await desk.crash(started.run, end=1234)
    crashed = await desk.read(started)
    assert (crashed.state, crashed.end_time_unix_ns) == (RunState.CRASHED, 1234)
    assert await desk.revive(crashed)
    alive = await desk.read(started)
    assert (alive.state, alive.end_time_unix_ns) == (RunState.RUNNING, None)
    causes = [step.cause for step in await desk.history(started)]
    assert causes[1:] == [TransitionCause.HEARTBEAT_LOST, TransitionCause.HEARTBEAT_RETURNED]
    assert not await desk.revive(alive)


async def test_a_run_whose_writers_all_ended_is_not_revived() -> None:
    """A beat cannot wake what its own agent said is gone."""
    desk = Desk()
    started = await desk.start()
    ended = await desk.finish(started, VANISHED)
    assert RunState.CRASHED is ended.state
    assert not await desk.revive(ended)


async def test_the_truth_arrives_after_the_verdict() -> None:
    """A finish that was delayed by an outage replaces the verdict."""
    desk = Desk()
    started = await desk.start()
    await desk.crash(started.run)
    ended = await desk.finish(started, exit_code=0)
    assert (ended.state, ended.exit_code) == (RunState.FINISHED, 0)


async def test_a_verdict_on_an_older_attempt_is_passed_over() -> None:
    """A resumed run is not crashed for the silence of the attempt before."""
    desk = Desk()
    started = await desk.start("x")
    await desk.finish(started, exit_code=1)
    resumed = await desk.start("x")
    assert not await desk.crash(started.run)
    assert RunState.RUNNING is (await desk.read(resumed)).state


async def test_an_impossible_transition_is_refused() -> None:
    """TRANSITION_NOT_ALLOWED names run, from and to."""
    desk = Desk()
    started = await desk.start()
    ask = RecordTransition(
        run_key=started.run.run_key,
        from_state=RunState.RUNNING,
        to_state=RunState.FINISHED,
        cause=TransitionCause.HEARTBEAT_LOST,
        evidence="",
        actor="x",
        attempt_count=1,
    )
    with pytest.raises(FailedPrecondition) as caught:
        await desk.service.record_transition(ask)
    assert caught.value.reason == "TRANSITION_NOT_ALLOWED"
    assert (
        caught.value.metadata["from"],
        caught.value.metadata["to"],
    ) == ("running", "finished")


async def test_changes_apply_once_in_order() -> None:
    """A change of a (writer, sequence) that was applied is passed over; nested objects replace."""
    desk = Desk()
    started = await desk.start(config_json='{"a":{"x":1,"y":2},"gone":1}')
    key = started.run.run_key
    first = RunChange(3, config_set_json='{"a":{"z":3}}', config_removed_keys=("gone", "never"))
    second = RunChange(
        5,
        config_set_json='{"n":18446744073709551615,"f":{"$float":"NaN"}}',
        metric_definition=MetricDefinition("loss", goal="minimize"),
        tags=("t",),
        notes="",
        display_name="new",
    )
    assert await desk.service.apply_changes(key, 1, [first]) == 3
    assert await desk.service.apply_changes(key, 1, [first, second]) == 5
    before = await desk.read(started)
    late = replace(first, config_set_json='{"a":"old"}')
    assert await desk.service.apply_changes(key, 1, [late]) == 5
    assert before == await desk.read(started)
    expected = {"a": {"z": 3}, "n": 2**64 - 1, "f": {"$float": "NaN"}}
    assert expected == json.loads(before.config_json)
    assert (before.tags, before.notes, before.display_name) == (("t",), "", "new")
    assert (MetricDefinition("loss", goal="minimize"),) == before.metric_definitions


async def test_writers_count_their_own_sequences() -> None:
    """Sequences are compared per writer."""
    desk = Desk()
    first = await desk.start("x", writer_label="a")
    await desk.start("x", writer_label="b")
    key = first.run.run_key
    assert await desk.service.apply_changes(key, 1, [RunChange(9, notes="one")]) == 9
    assert await desk.service.apply_changes(key, 2, [RunChange(2, notes="two")]) == 2
    assert (await desk.read(first)).notes == "two"


async def test_a_metric_definition_replaces_its_namesake() -> None:
    """Definitions are kept in the order defined, one a name."""
    desk = Desk()
    started = await desk.start()
    changes = [
        RunChange(1, metric_definition=MetricDefinition("a")),
        RunChange(2, metric_definition=MetricDefinition("b")),
        RunChange(3, metric_definition=MetricDefinition("a", is_hidden=True)),
    ]
    await desk.service.apply_changes(started.run.run_key, 1, changes)
    expected = (MetricDefinition("a", is_hidden=True), MetricDefinition("b"))
    assert expected == (await desk.read(started)).metric_definitions


@pytest.mark.parametrize(
    "changes",
    [
        [RunChange(0)],
        [RunChange(2), RunChange(2)],
        [RunChange(n) for n in range(1, 1002)],
        [RunChange(1, config_set_json="{")],
        [RunChange(1, display_name="")],
        [RunChange(1, metric_definition=MetricDefinition(""))],
        [RunChange(1, metric_definition=MetricDefinition("a", summaries=("median",)))],
        [RunChange(1, metric_definition=MetricDefinition("a", goal="best"))],
    ],
)
async def test_bad_changes_are_refused_whole(changes: list[RunChange]) -> None:
    """A bad change is refused with a reason; the request leaves nothing."""
    desk = Desk()
    started = await desk.start()
    with pytest.raises(DomainError):
        await desk.service.apply_changes(started.run.run_key, 1, changes)
    assert started.run == await desk.read(started)


async def test_unknown_writers_and_runs_are_told_apart() -> None:
    """An unknown run is RUN_NOT_FOUND, an unknown writer of a known run FIELD_INVALID."""
    desk = Desk()
    started = await desk.start()
    with pytest.raises(NotFound):
        await desk.service.apply_changes(RunKey(5), 1, [RunChange(1)])
    with pytest.raises(InvalidArgument) as caught:
        await desk.service.apply_changes(started.run.run_key, 2, [RunChange(1)])
    assert caught.value.metadata["field"] == "writer"


async def test_an_edit_changes_what_it_names() -> None:
    """UpdateRun changes the fields named and no others; a repeat changes nothing."""
    desk = Desk()
    started = await desk.start(notes="keep", config_json='{"a":1}')
    edit = RunEdit(display_name="n", tags=("x", "x"), group="g", config_json='{"b":2}')
    edited = await desk.service.edit_run(started.run.path, edit)
    assert (
        edited.display_name,
        edited.tags,
        edited.group,
        edited.notes,
    ) == ("n", ("x",), "g", "keep")
    assert edited.config_json == '{"b":2}'
    assert edited == await desk.service.edit_run(started.run.path, edit)


async def test_history_comes_in_pages() -> None:
    """Pages follow each other without gap or repeat; a token of another list is refused."""
    desk = Desk()
    started = await desk.start("x")
    for _ in range(4):
        await desk.finish(started)
        started = await desk.start("x")
    token, causes = "", []
    while True:
        page, token = await desk.service.list_transitions(
            "local/p/x", page_size=2, page_token=token
        )
        causes += [step.cause for step in page]
        if not token:
            break
        with pytest.raises(InvalidArgument) as caught:
            await desk.service.list_live_runs(page_size=1, page_token=token)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"
    assert [TransitionCause.STARTED, *[FINISH, TransitionCause.RESUMED] * 4] == causes


async def test_projects_and_live_runs_come_in_pages() -> None:
    """Lists are cut at the page size and go on where they were cut."""
    desk = Desk()
    for name in ("a", "b", "c"):
        await desk.start(project=name)
    names, token = [], ""
    for _ in range(3):
        page, token = await desk.service.list_projects("local", page_size=1, page_token=token)
        names += [project.name for project in page]
    assert (names, token) == (["c", "b", "a"], "")
    live, token = await desk.service.list_live_runs(page_size=2, page_token="")
    rest, end = await desk.service.list_live_runs(page_size=2, page_token=token)
    assert (len(live), len(rest), end) == (2, 1, "")


@given(st.text(max_size=200), st.integers(70, 400))
def test_cut_evidence_keeps_its_limit(text: str, limit: int) -> None:
    """Evidence is cut in the middle, never longer than its limit, and whole if it fits."""
    kept = cut_evidence(text, RunLimits(evidence_bytes_max=limit))
    assert len(kept.encode()) <= limit
    if len(text.encode()) + 2 * text.count("\0") <= limit:
        assert text.replace("\0", "\ufffd") == kept


async def test_facts_of_the_host_are_set_once_beside_those_of_the_start() -> None:
    """What was found out later joins what the start told; a repeat, and a resumed attempt's predecessor, change nothing."""
    desk = Desk()
    host = Host(hostname="h", extra_json='{"program":"a.py","git":{"branch":"main"}}')
    first = await desk.start("x", host=host)
    key = first.run.run_key
    told = RunChange(2, host_facts_json='{"git":{"commit":"c"},"gpu":{"count":8}}')
    for _ in range(2):
        assert await desk.service.apply_changes(key, 1, [told]) == 2
    expected = {"program": "a.py", "git": {"commit": "c"}, "gpu": {"count": 8}}
    document = await desk.read(first)
    assert (document.host.hostname, json.loads(document.host.extra_json)) == ("h", expected)
    await desk.finish(first)
    await desk.start("x", host=Host(hostname="i", extra_json='{"program":"b.py"}'))
    late = RunChange(3, host_facts_json='{"gpu":{"count":1}}')
    assert await desk.service.apply_changes(key, 1, [late]) == 3
    now = RunChange(2, host_facts_json='{"gpu":{"count":2}}')
    assert await desk.service.apply_changes(key, 2, [now]) == 2
    document = await desk.read(first)
    assert json.loads(document.host.extra_json) == {"program": "b.py", "gpu": {"count": 2}}


async def test_of_many_ranks_the_first_tells_of_the_host() -> None:
    """Facts come from the writer that began the attempt, and from rank 0 where that joined later; others are passed over."""
    desk = Desk()
    first = await desk.start("x", identity=WriterIdentity(rank=1, world_size=3))
    for rank in (2, 0):
        await desk.start("x", identity=WriterIdentity(rank=rank, world_size=3))
    for writer, found in ((1, {"n": 1}), (2, {"n": 1}), (3, {"n": 3})):
        change = RunChange(2, host_facts_json=json.dumps({"n": writer}))
        assert await desk.service.apply_changes(first.run.run_key, writer, [change]) == 2
        assert found == json.loads((await desk.read(first)).host.extra_json)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "FIELD_INVALID"),
        ('{"a":NaN}', "FIELD_INVALID"),
        ('{"a":"' + "x" * 2**20 + '"}', "FIELD_TOO_LARGE"),
    ],
)
async def test_facts_that_cannot_be_kept_are_refused(text: str, reason: str) -> None:
    """Facts that are no object, or too large, are refused, and leave the host as it was."""
    desk = Desk()
    started = await desk.start(host=Host(hostname="h"))
    call = desk.service.apply_changes(started.run.run_key, 1, [RunChange(2, host_facts_json=text)])
    with pytest.raises(InvalidArgument) as caught:
        await call
    assert caught.value.reason == reason
    assert (await desk.read(started)).host == Host(hostname="h")
