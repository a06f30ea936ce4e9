"""Run documents cross the wire and come back the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.run import (
    Cut,
    ForkPoint,
    HistoryPart,
    Host,
    LiveRun,
    MetricDefinition,
    RunDocument,
    RunException,
    RunKey,
    RunState,
    StopStage,
    StopStatus,
    TransitionCause,
)
from runyard_server.rpc import message_values, run_messages
from runyard_server.storage.life_json import life_to_json, with_life

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
TIMES = st.integers(0, 2**62)
U32 = st.integers(0, 2**32 - 1)

HOSTS = st.builds(
    Host,
    **dict.fromkeys(
        (
            "hostname", "username", "os", "python_version", "python_executable", "command",
            "working_directory", "client_version", "extra_json",
        ),
        TEXT,
    ),
    pid=st.integers(0, 2**31),
    cpu_count=U32,
)  # fmt: skip
DEFINITIONS = st.builds(
    MetricDefinition,
    name=TEXT,
    step_metric=TEXT,
    summaries=st.lists(TEXT, max_size=3).map(tuple),
    goal=TEXT,
    is_hidden=st.booleans(),
)
STEPS = st.integers(-(2**63), 2**63 - 1)
KEYS = st.integers(0, 2**64 - 1).map(RunKey)
STOPS = st.builds(
    StopStatus,
    stage=st.sampled_from(StopStage),
    requested_by=TEXT,
    reason=TEXT,
    request_time_unix_ns=TIMES,
    grace_s=st.integers(0, 86_400).map(float),
    may_kill=st.booleans(),
    acknowledge_time_unix_ns=st.none() | TIMES,
)
PARTS = st.builds(
    HistoryPart,
    run_key=KEYS,
    last_step=st.none() | STEPS,
    writer_max=U32,
    cuts=st.lists(st.builds(Cut, writer_max=U32, last_step=STEPS), max_size=3).map(tuple),
)
LIVES = {
    "exception": st.none() | st.builds(RunException, TEXT, TEXT, TEXT, TEXT),
    "stop": st.none() | STOPS,
    "stalled_since_unix_ns": st.none() | TIMES,
    "fork": st.none() | st.builds(ForkPoint, TEXT, KEYS, STEPS),
    "history_parts": st.lists(PARTS, max_size=3).map(tuple),
    "preemption_notice": TEXT,
}
DOCUMENTS = st.builds(
    RunDocument,
    run_key=st.integers(0, 2**64 - 1).map(RunKey),
    **dict.fromkeys(
        ("entity", "project", "run_id", "display_name", "notes", "group", "job_type"), TEXT
    ),
    state=st.sampled_from(RunState),
    config_json=st.just('{"lr":0.1}'),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    create_time_unix_ns=TIMES,
    update_time_unix_ns=TIMES,
    **dict.fromkeys(
        ("start_time_unix_ns", "end_time_unix_ns", "heartbeat_time_unix_ns"), st.none() | TIMES
    ),
    exit_code=st.none() | st.integers(-(2**31), 2**31 - 1),
    host=HOSTS,
    metric_definitions=st.lists(DEFINITIONS, max_size=3).map(tuple),
    attempt_count=U32,
    writer_count=U32,
    is_deleted=st.just(False),
    version=st.just(0),
    **LIVES,
)


@given(DOCUMENTS)
def test_round_trip(document: RunDocument) -> None:
    """Every field of a document survives the wire, times to the nanosecond."""
    wire = run_messages.run_to_message(document).SerializeToString()
    assert run_messages.run_from_message(pb.Run.FromString(wire)) == document


@given(DOCUMENTS)
def test_the_life_of_a_run_survives_storing(document: RunDocument) -> None:
    """What the stores keep as one text comes back the same."""
    fields = {**dict.fromkeys(LIVES), "history_parts": (), "preemption_notice": ""}
    assert with_life(replace(document, **fields), life_to_json(document)) == document


def test_config_can_be_left_out() -> None:
    """Lists leave the config out; such a run reads as an empty config."""
    document = RunDocument(RunKey(1), "e", "p", "r", "n", RunState.RUNNING, config_json='{"a":1}')
    message = run_messages.run_to_message(document, with_config=False)
    assert message.config_json == ""
    assert run_messages.run_from_message(message).config_json == "{}"


@given(st.sampled_from(RunState), st.none() | st.floats(0.001, 1e6))
def test_live_run_round_trip(state: RunState, timeout_s: float | None) -> None:
    """A live run keeps its timeout, or its absence."""
    run = LiveRun(RunKey(7), "e/p/r", state, 2, timeout_s)
    back = run_messages.live_run_from_message(run_messages.live_run_to_message(run))
    assert back.crash_timeout_s == (
        None if timeout_s is None else pytest.approx(timeout_s, abs=1e-9)
    )
    assert (back.run_key, back.path, back.state) == (7, "e/p/r", state)


@pytest.mark.parametrize("number", [0, 99])
def test_unknown_numbers_are_refused_by_name(number: int) -> None:
    """UNSPECIFIED and values of a later contract get an error that names the field."""
    with pytest.raises(InvalidArgument, match=f"state is {number}"):
        message_values.state_from_number(number, field="state")
    with pytest.raises(InvalidArgument, match=f"cause is {number}"):
        message_values.cause_from_number(number, field="cause")


def test_every_state_and_cause_is_in_the_contract() -> None:
    """The domain's words and the contract's enums name the same things."""
    assert {f"RUN_STATE_{s.name}" for s in RunState} == set(pb.RunState.keys()) - {
        "RUN_STATE_UNSPECIFIED"
    }
    assert {f"TRANSITION_CAUSE_{c.name}" for c in TransitionCause} == set(
        pb.TransitionCause.keys()
    ) - {"TRANSITION_CAUSE_UNSPECIFIED"}


def test_times_beyond_the_year_9999_are_moved_to_its_end() -> None:
    """A broken clock on a training machine cannot make a run unreadable."""
    far = message_values.timestamp_from_unix_ns(2**63 * 1000)
    assert far.ToJsonString().startswith("9999-12-31T23:59:59")
