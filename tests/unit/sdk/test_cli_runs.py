"""The command line: runs listed and shown, journals, versions."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from google.protobuf import timestamp_pb2

import runyard
from runyard import cli
from runyard_protos.files.v1 import files_pb2
from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.monitor.v1 import monitor_pb2
from runyard_protos.query.v1 import query_pb2
from tests.unit.sdk.answering import Yard, run_message


def test_the_command_line_lists_runs(
    yard: Yard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs ls prints a table, or JSON; errors go to stderr, or as JSON; exit codes tell."""
    monkeypatch.setenv("RUNYARD_BASE_URL", yard.url)
    row = query_pb2.RunRow(run=run_message(), summary_json="{}")
    yard.reply("QueryRuns", query_pb2.QueryRunsResponse(runs=[row], total_count=2))
    assert cli.main(["runs", "ls", "e/p"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["r1", "n", "running", "e/p/r1"] and "+1 ..." in out
    assert cli.main(["runs", "ls", "e/p", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["path"] == "e/p/r1"
    yard.fail("QueryRuns", 404, {"code": "not_found", "message": "no project e/p", "details": []})
    assert cli.main(["runs", "ls", "e/p"]) == 1
    assert capsys.readouterr().err == "runyard: no project e/p\n"
    assert cli.main(["runs", "ls", "e/p", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "NotFound"


def test_the_command_line_tells_how_far_writers_are(
    yard: Yard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent and lagging ones are marked; of a run that has ended the monitor is not asked, and an end that nobody told is said."""
    monkeypatch.setenv("RUNYARD_BASE_URL", yard.url)
    running = metadata_pb2.RUN_STATE_RUNNING
    writers = [
        metadata_pb2.RunWriter(writer=1, label="a", attempt=1, state=running),
        metadata_pb2.RunWriter(writer=2, label="b", attempt=1, state=running),
    ]
    beat = timestamp_pb2.Timestamp(seconds=int(time.time()) - 210)
    lives = [
        monitor_pb2.WriterLiveness(writer=1, last_step=120),
        monitor_pb2.WriterLiveness(
            writer=2, last_step=7, last_beat_time=beat, is_straggler=True, is_silent=True
        ),
    ]
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    yard.reply("ListRunWriters", metadata_pb2.ListRunWritersResponse(writers=writers))
    yard.reply(
        "ListWriterLiveness",
        monitor_pb2.ListWriterLivenessResponse(writers=lives, median_step=100, straggler_steps=50),
    )
    assert cli.main(["runs", "writers", "e/p/r1"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[1].startswith("a 1 running 120 0 1970-")
    assert lines[2].startswith("b 1 running, silent 7 93, lagging 3 min ago 1970-")
    assert lines[3] == "median step 100; lagging from 50 steps behind"
    yard.fail("ListWriterLiveness", 503, {"code": "unavailable", "message": "away", "details": []})
    assert cli.main(["runs", "writers", "e/p/r1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [one["liveness"] for one in json.loads(out)] == [None, None]
    assert err == "runyard: steps and heartbeats are not known now: away\n"
    ended = run_message(state=metadata_pb2.RUN_STATE_CRASHED)
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=ended))
    assert cli.main(["runs", "writers", "e/p/r1"]) == 0
    out, err = capsys.readouterr()
    assert out.count("no end told") == 2 and not err and "median" not in out


def test_the_command_line_shows_a_run(
    yard: Yard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transitions and files as lines for people, all pages of them; in JSON as they are."""
    monkeypatch.setenv("RUNYARD_BASE_URL", yard.url)
    states = [0, metadata_pb2.RUN_STATE_RUNNING, metadata_pb2.RUN_STATE_FAILED]
    causes = [
        (metadata_pb2.TRANSITION_CAUSE_STARTED, "", "rank0"),
        (metadata_pb2.TRANSITION_CAUSE_UNHANDLED_EXCEPTION, "ValueError: too\nhot" + "!" * 500, ""),
    ]
    changes = [
        metadata_pb2.RunTransition(
            **{"from": before}, to=after, cause=cause, evidence=evidence, actor=actor, attempt=1,  # type: ignore[arg-type]  # "from" is a word of Python's
            record_time=timestamp_pb2.Timestamp(seconds=86_400),
        )
        for before, after, (cause, evidence, actor) in zip(states, states[1:], causes, strict=False)
    ]  # fmt: skip

    def answer(path: str, body: bytes) -> tuple[int, str, bytes]:
        token = metadata_pb2.ListRunTransitionsRequest.FromString(body).page_token
        reply = metadata_pb2.ListRunTransitionsResponse(
            transitions=changes[1:] if token else changes[:1], next_page_token="" if token else "1"
        )
        return 200, "application/proto", reply.SerializeToString()

    yard.answers["ListRunTransitions"] = answer
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    yard.reply("GetSummary", query_pb2.GetSummaryResponse(summary_json='{"loss":0.5}'))
    yard.reply("GetReceipt", query_pb2.GetReceiptResponse())
    files = [files_pb2.File(name="a.ckpt", size_bytes=2048), files_pb2.File(name="b", size_bytes=1)]
    yard.reply("ListFiles", files_pb2.ListFilesResponse(files=files))
    assert cli.main(["runs", "show", "e/p/r1"]) == 0
    out = capsys.readouterr().out
    told = [" ".join(line.split()[2:]) for line in out.splitlines() if line.startswith("  1970-")]
    assert told[0] == "running rank0 started"
    assert told[1].startswith("running -> failed unhandled exception; ValueError: too hot!!!")
    assert told[1].endswith(" … (whole with --json)") and len(told[1]) < 300
    assert out.endswith("files:\n  a.ckpt  2.0 KiB\n  b       1 B\n") and "{" not in out.partition("transitions:")[2]  # fmt: skip
    assert "summary:\n  loss: 0.5\n" in out and "\ntags: t\n" in out
    assert cli.main(["runs", "show", "e/p/r1", "--json"]) == 0
    exact = json.loads(capsys.readouterr().out)
    assert [one["to"] for one in exact["transitions"]] == ["running", "failed"]
    assert exact["transitions"][1]["evidence"] == causes[1][1]
    assert exact["files"][0] == {"name": "a.ckpt", "size_bytes": 2048}


def test_the_command_line_shows_journals(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Journal show prints one record a line and says where a damaged journal stops."""
    with runyard.init(mode="offline", dir=tmp_path, settings={"silent": True}) as run:
        run.log({"loss": float("nan")})
    assert cli.main(["journal", "show", "--json", str(next(tmp_path.glob("run-*")))]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == ["START", "SCHEMA", "ROW", "FINISH"]
    assert lines[2]["values"] == {"loss": {"$float": "NaN"}}
    segment = next(tmp_path.rglob("*.seg"))
    content = bytearray(segment.read_bytes())
    content[-20] ^= 1
    segment.write_bytes(content)
    assert cli.main(["journal", "show", str(segment)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3 and "00000001.seg: a frame's checksum is wrong" in err
    assert cli.main(["journal", "show", str(tmp_path / "none")]) == 1


def test_version_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is the distribution's; a wrong command is a usage error."""
    import importlib.metadata

    assert cli.main(["version", "--json"]) == 0
    version = json.loads(capsys.readouterr().out)["version"]
    assert version == runyard.__version__ == importlib.metadata.version("runyard")
    with pytest.raises(SystemExit) as caught:
        cli.main(["nonsense"])
    assert caught.value.code == 2
    assert cli.main(["sync", "/nonexistent/folder"]) == 1


def test_both_ways_of_asking_for_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`runyard --version` prints what `runyard version` prints."""
    assert cli.main(["version"]) == 0
    told = capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, told)
