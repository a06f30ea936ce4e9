"""The command line shows what a run's machines did: with units, as JSON, of some writers, and as samples come."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
from google.protobuf import message

from runyard import cli, cli_system
from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.query.v1 import query_pb2
from tests.unit.sdk.answering import Yard, run_message

NS_PER_S = 10**9
START_S = 1_760_000_000


def stats(
    name: str, unit: str, last: float, *, time_s: int = START_S
) -> query_pb2.SystemMetricStats:
    return query_pb2.SystemMetricStats(
        name=name,
        writers=[1, 2],
        first_time_unix_ns=START_S * NS_PER_S,
        last_time_unix_ns=time_s * NS_PER_S,
        last=last,
        low=1.0,
        high=99.0,
        mean=50.25,
        unit=unit,
        section=query_pb2.SYSTEM_SECTION_CPU,
    )


def one_after_another(yard: Yard, method: str, replies: Sequence[message.Message]) -> None:
    contents = iter([reply.SerializeToString() for reply in replies])
    yard.answers[method] = lambda path, body: (200, "application/proto", next(contents))


@pytest.fixture
def sampled(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A server whose run has two metrics and two writers."""
    monkeypatch.setenv("RUNYARD_BASE_URL", yard.url)
    writers = [
        metadata_pb2.RunWriter(writer=1, label="rank 0", attempt=1),
        metadata_pb2.RunWriter(writer=2, label="rank 1", attempt=1),
    ]
    yard.reply("ListRunWriters", metadata_pb2.ListRunWritersResponse(writers=writers))
    yard.reply(
        "ListSystemMetrics",
        query_pb2.ListSystemMetricsResponse(
            metrics=[
                stats("system/cpu", "%", 12.5),
                stats("system/proc.memory.rssMB", "MB", 1536.0),
            ]
        ),
    )
    return yard


def test_a_table_with_units(sampled: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    """Each metric has a row with the latest value, mean and range; --grep leaves out others."""
    assert cli.main(["system", "e/p/r1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["METRIC", "LATEST", "MEAN", "MIN", "MAX"]
    assert lines[1].split() == ["system/cpu", "12.5", "%", "50.2", "%", "1", "%", "99", "%"]
    assert "1.5 GiB" in lines[2]
    assert lines[3].startswith("last sample 2025-10-09T08:53:20.000Z")
    assert cli.main(["system", "e/p/r1", "-g", "PROC."]) == 0
    assert "system/cpu" not in capsys.readouterr().out
    assert cli.main(["system", "e/p/r1", "-g", "gpu"]) == 0
    assert capsys.readouterr().out == "no system metric fits\n"


def test_json(sampled: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as a list; what is no number is null."""
    sampled.reply(
        "ListSystemMetrics",
        query_pb2.ListSystemMetricsResponse(metrics=[stats("system/cpu", "%", math.nan)]),
    )
    assert cli.main(["system", "e/p/r1", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["name"], one["unit"], one["section"]) == ("system/cpu", "%", "cpu")
    assert (one["last"], one["mean"], one["max"]) == (None, 50.25, 99.0)


def test_nothing_was_sampled(sampled: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    """It says why there may be none."""
    sampled.reply("ListSystemMetrics", query_pb2.ListSystemMetricsResponse())
    assert cli.main(["system", "e/p/r1"]) == 0
    assert "system_interval_s" in capsys.readouterr().out
    assert cli.main(["system", "e/p/r1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_of_one_writer(sampled: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    """Buckets of that writer's samples are put together; an unknown label is an error that names the known ones."""
    series = query_pb2.SystemSeries(
        metric="system/cpu",
        width_ms=8,
        times_unix_ns=[START_S * NS_PER_S, (START_S + 1) * NS_PER_S],
        lows=[1.0, 5.0],
        highs=[3.0, 7.0],
        means=[2.0, 6.0],
        lasts=[3.0, 5.0],
        counts=[1, 3],
    )
    sampled.reply("QuerySystemMetrics", query_pb2.QuerySystemMetricsResponse(series=[series]))
    assert cli.main(["system", "e/p/r1", "-w", "rank 1", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["last"], one["mean"], one["min"], one["max"]) == (5.0, 5.0, 1.0, 7.0)
    assert one["writers"] == [2]
    assert cli.main(["system", "e/p/r1", "-w", "rank 7"]) == 1
    assert "rank 0, rank 1" in capsys.readouterr().err


def test_samples_are_followed_until_the_run_ends(
    sampled: Yard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table for each new sample; none where nothing came; the last one after the end was told."""
    monkeypatch.setattr(cli_system, "FOLLOW_INTERVAL_S", 0.0)
    running, finished = metadata_pb2.RUN_STATE_RUNNING, metadata_pb2.RUN_STATE_FINISHED
    runs = [run_message(state=state) for state in (running, running, finished)]
    samples = [stats("system/cpu", "%", 1.0, time_s=START_S + s) for s in (0, 0, 10)]
    one_after_another(sampled, "GetRun", [metadata_pb2.GetRunResponse(run=one) for one in runs])
    one_after_another(
        sampled,
        "ListSystemMetrics",
        [query_pb2.ListSystemMetricsResponse(metrics=[one]) for one in samples],
    )
    assert cli.main(["system", "e/p/r1", "--follow", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["time"][17:19] for line in lines] == ["20", "30"]
    assert lines[0]["metrics"][0]["name"] == "system/cpu"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (93.456, "%", "93.5 %"),
        (0.123, "%", "0.12 %"),
        (61, "°C", "61 °C"),
        (2048, "bytes/s", "2.0 KiB/s"),
        (3, "GB", "3.0 GiB"),
        (1234567.0, "", "1,234,567"),
        (math.nan, "W", "nan"),
    ],
)
def test_values_have_units(value: float, unit: str, text: str) -> None:
    """Sizes are told in binary units, the rest with as many digits as one reads."""
    assert cli_system.value_text(value, unit) == text
