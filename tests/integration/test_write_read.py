"""One story, told in both shapes: log, see, finish, receipt; online, offline, and with the server late."""

from __future__ import annotations

import hashlib
import json
import math
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import runyard
from tests.integration import scripts
from tests.integration.readback import bits, readback, wait_until
from tests.integration.yard import CallError, Yard

PROGRAM = Path(sys.executable).parent / "runyard"
SYNC_TIMEOUT_S = 90


def epochs_history() -> dict[str, list[tuple[int, bytes]]]:
    """Returns what the script EPOCHS logs with its seed."""
    chance = random.Random(7)
    offset = chance.random() / 5
    history: dict[str, list[tuple[int, bytes]]] = {"accuracy": [], "loss": []}
    for epoch in range(10):
        accuracy = 1 - 2**-epoch - chance.random() / (epoch + 1) - offset
        history["accuracy"].append((epoch, bits(accuracy)))
        loss = 2**-epoch + chance.random() / (epoch + 1) + offset
        history["loss"].append((epoch, bits(loss)))
    return history


SHORTEST_HISTORY = {"accuracy": [(0, bits(0.9))], "loss": [(0, bits(0.1))]}
STORIES = [
    pytest.param(scripts.SHORTEST, SHORTEST_HISTORY, id="shortest"),
    pytest.param(scripts.EPOCHS, epochs_history(), id="epochs"),
]
History = dict[str, list[tuple[int, bytes]]]


def assert_story(yard: Yard, path: str, expected: History) -> None:
    """The run is finished, and holds exactly the expected points, with a whole receipt."""
    with readback(yard.grpc) as reader:
        reader.wait_for_state(path, "FINISHED", timeout_s=20)
        assert expected == reader.history(path)
        reader.assert_receipt_is_whole(path, points=sum(map(len, expected.values())))


def run_id_of(request: pytest.FixtureRequest) -> str:
    """Returns an id of its own for each test."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]


@pytest.mark.parametrize(("script", "expected"), STORIES)
def test_online(
    yard: Yard, script: str, expected: History, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A script that logs and ends shows its history and a whole receipt, without calling finish()."""
    run_id = run_id_of(request)
    environment = yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id)
    code, output = scripts.run(script, tmp_path, environment)
    assert code == 0, output
    assert f"/nico/awesome-project/runs/{run_id}" in output
    assert "durable" in output
    assert_story(yard, f"nico/awesome-project/{run_id}", expected)


@pytest.mark.parametrize(("script", "expected"), STORIES)
def test_offline_then_sync(
    yard: Yard, script: str, expected: History, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An offline run sends nothing until `runyard sync`, and everything then; a second sync changes nothing."""
    run_id = run_id_of(request)
    path = f"nico/awesome-project/{run_id}"
    environment = yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id)
    code, output = scripts.run(script, tmp_path, {**environment, "RUNYARD_MODE": "offline"})
    assert code == 0, output
    assert "sync" in output
    with pytest.raises(CallError) as refused:
        yard.call("metadata.v1.MetadataService/GetRun", {"path": path})
    assert refused.value.status == 404
    for _ in range(2):
        synced = subprocess.run(
            [PROGRAM, "sync", tmp_path / "runyard"],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SYNC_TIMEOUT_S,
        )
        assert synced.returncode == 0, synced.stdout + synced.stderr
        assert_story(yard, path, expected)


def test_sync_sends_several_runs_of_one_folder(yard: Yard, tmp_path: Path) -> None:
    """All offline runs beneath one folder are sent by one sync, which does not wait for itself."""
    journals = tmp_path / "runyard"
    ids = [f"several{number}-{yard.shape}" for number in range(3)]
    for run_id in ids:
        environment = yard.environment(journals, RUNYARD_RUN_ID=run_id, RUNYARD_MODE="offline")
        code, output = scripts.run(scripts.SHORTEST, tmp_path, environment)
        assert code == 0, output
    synced = subprocess.run(
        [PROGRAM, "sync", journals],
        env=yard.environment(journals),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SYNC_TIMEOUT_S,
    )
    assert synced.returncode == 0, synced.stdout + synced.stderr
    for run_id in ids:
        assert_story(yard, f"nico/awesome-project/{run_id}", SHORTEST_HISTORY)


def test_server_starts_after_the_script(tmp_path: Path) -> None:
    """With no server yet, init() says so and training goes on; what was logged arrives when the server is there."""
    late = Yard(tmp_path / "yard")
    environment = late.environment(tmp_path / "runyard", RUNYARD_RUN_ID="latelate")
    script = tmp_path / "train.py"
    script.write_text(scripts.EPOCHS)
    process = scripts.start(script, environment)
    try:
        folders = tmp_path / "runyard"
        wait_until(lambda: any(folders.glob("run-*/journal/*.seg")), 20, "the journal")
        with late:
            code, output = scripts.finish(process)
            assert code == 0, output
            assert_story(late, "nico/awesome-project/latelate", epochs_history())
    finally:
        process.kill()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


@pytest.mark.parametrize(
    ("ending", "code", "state"),
    [
        ("import sys; sys.exit(3)", 3, "FAILED"),
        ("raise ValueError('too hot')", 1, "FAILED"),
        ("run.finish()", 0, "FINISHED"),
        ("run.finish(exit_code=2)", 0, "FAILED"),
    ],
)
def test_the_end_is_told_as_it_was(
    yard: Yard, ending: str, code: int, state: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The run's state and exit code say how the script ended; what it logged before is kept."""
    run_id = run_id_of(request)
    environment = yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id)
    actual, output = scripts.run(scripts.SHORTEST + ending + "\n", tmp_path, environment)
    assert code == actual, output
    path = f"nico/awesome-project/{run_id}"
    with readback(yard.grpc) as reader:
        reader.wait_for_state(path, state, timeout_s=20)
        assert reader.run(path).exit_code == (2 if "exit_code=2" in ending else code)
        assert reader.history(path) == SHORTEST_HISTORY


TORN = """
import runyard
run = runyard.init(entity="nico", project="kinds")
for step in range(5000):
    row = {"loss": 1 / (step + 3)}
    if step % 700 == 699 or step in (0, 4001):
        row["val/loss"] = float("nan") if step == 4001 else -step / 3
    run.log(row)
run.log({"late": 1.0})
"""


def test_rows_that_have_all_keys(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As W&B does: rows in which each of the keys has a value, to the bit, however pages are cut; any of them if asked."""
    run_id = run_id_of(request)
    environment = yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id)
    code, output = scripts.run(TORN, tmp_path, environment)
    assert code == 0, output
    steps = [0, 699, 1399, 2099, 2799, 3499, 4001, 4199, 4899]
    expected = [
        (step, bits(1 / (step + 3)), bits(math.nan if step == 4001 else -step / 3))
        for step in steps
    ]
    keys = ["loss", "val/loss"]

    def told(rows: Iterable[dict[str, Any]]) -> list[tuple[int, bytes, bytes]]:
        return [(row["_step"], bits(row["loss"]), bits(row["val/loss"])) for row in rows]

    with runyard.Api(yard.base_url) as api:
        run = api.run(f"nico/kinds/{run_id}")
        for page_size in (1, 699, 700, 701, 10_000):
            assert told(run.scan_history(keys, page_size)) == expected, page_size
        assert told(run.scan_history(keys, 100, min_step=699, max_step=4199)) == expected[1:7]
        assert told(run.history(keys)) == told(run.history(keys, samples=9)) == expected
        assert len(told(run.history(keys, samples=4))) in (2, 3, 4)
        assert list(run.scan_history([*keys, "late"])) == run.history([*keys, "late"]) == []
        assert list(run.scan_history([*keys, "never"])) == run.history([*keys, "never"]) == []
        some = list(run.scan_history(keys, 700, require="any"))
        assert [row["_step"] for row in some] == list(range(5000))
        assert sum("val/loss" in row for row in some) == len(steps)
        assert len(list(run.scan_history())) == len(list(run.scan_history("_step"))) == 5001


def test_histories_of_many_metrics(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """However many metrics there are, history() has them all."""
    run_id = run_id_of(request)
    environment = yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id)
    script = "import runyard\nrun = runyard.init(entity='nico', project='kinds')\nrun.log({f'm{n}': n for n in range(1200)})\n"
    code, output = scripts.run(script, tmp_path, environment)
    assert code == 0, output
    with runyard.Api(yard.base_url) as api:
        [row] = api.run(f"nico/kinds/{run_id}").history()
    assert {f"m{n}": float(n) for n in range(1200)}.items() <= row.items()


EVERYTHING = """
import math, runyard
run = runyard.init(entity="nico", project="kinds", config={"deep": {"lr": 0.1}, "big": 2**63 - 1})
run.config["added"] = [1, None, float("nan")]
run.define_metric("loss", summary="min")
values = [float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308]
for step, value in enumerate(values):
    run.log({"odd": value, "group": {"inner": step}, "loss": 10 - step})
run.log({"loss": 99.0}, step=2)
run.summary["best"] = {"epoch": 4}
with open("notes.txt", "w") as file:
    file.write("kept")
run.save("notes.txt", policy="now")
"""


def test_everything_a_run_holds_comes_back(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Config, summary, odd values, late steps and files come back as they were given, over HTTP in JSON too."""
    run_id = run_id_of(request)
    environment = yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id)
    code, output = scripts.run(EVERYTHING, tmp_path, environment)
    assert code == 0, output
    path = f"nico/kinds/{run_id}"
    with readback(yard.grpc) as reader:
        reader.wait_for_state(path, "FINISHED", timeout_s=20)
        history = reader.history(path)
    odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
    assert [(step, bits(value)) for step, value in enumerate(odd)] == history["odd"]
    assert [(step, bits(float(step))) for step in range(6)] == history["group.inner"]
    loss = [10.0, 9.0, 99.0, 7.0, 6.0, 5.0]
    assert [(step, bits(value)) for step, value in enumerate(loss)] == history["loss"]

    run = yard.call("metadata.v1.MetadataService/GetRun", {"path": path})["run"]
    config = json.loads(run["configJson"])
    assert config["deep"] == {"lr": 0.1}
    assert config["big"] == 2**63 - 1
    assert config["added"] == [1, None, {"$float": "NaN"}]

    reply = yard.call("query.v1.QueryService/GetSummary", {"runPath": path})
    summary = json.loads(reply["summaryJson"])
    assert summary["loss.min"] == 5.0, summary
    assert summary["best.epoch"] == 4

    series = yard.call("query.v1.QueryService/QuerySeries", {"run_path": path, "metrics": ["odd"]})
    assert series["series"][0]["values"][:3] == ["NaN", "Infinity", "-Infinity"]

    rows = yard.call(
        "query.v1.QueryService/QueryRuns", {"projectPath": "nico/kinds", "configKeys": ["deep.lr"]}
    )
    assert path in [row["run"]["path"] for row in rows["runs"]]

    listed = yard.call("files.v1.FilesService/ListFiles", {"runPath": path})
    assert [file["name"] for file in listed["files"]] == ["notes.txt"]
    file = yard.call("files.v1.FilesService/GetFile", {"runPath": path, "name": "notes.txt"})
    with urllib.request.urlopen(file["downloadUrl"], timeout=20) as reply:
        assert reply.read() == b"kept"


def test_the_edge_tells_where_it_is_and_how_it_does(yard: Yard) -> None:
    """The address book names the gRPC listener, /ready answers, /metrics can be scraped."""
    status, body = yard.get("/.well-known/runyard")
    assert (200, yard.grpc) == (status, json.loads(body)["grpc"])
    assert yard.get("/ready")[0] == 200
    status, body = yard.get("/metrics")
    assert status == 200
    assert b"# TYPE" in body


@pytest.mark.parametrize(
    ("method", "request_", "status", "reason"),
    [
        ("metadata.v1.MetadataService/GetRun", {"path": "nico/none/nothing"}, 404, "RUN_NOT_FOUND"),
        ("metadata.v1.MetadataService/GetRun", {"path": "nonsense"}, 400, "FIELD_INVALID"),
        ("query.v1.QueryService/QuerySeries", {"runPath": "a/b/c"}, 400, "FIELD_INVALID"),
        ("metadata.v1.MetadataService/StartRun", {"requestId": "short"}, 400, "FIELD_INVALID"),
    ],
)
def test_refusals_name_their_reason(
    yard: Yard, method: str, request_: dict[str, object], status: int, reason: str
) -> None:
    """A wrong request is refused with a status, a reason that programs can read, and a message that people can."""
    with pytest.raises(CallError) as refused:
        yard.call(method, request_)
    assert status == refused.value.status
    assert refused.value.body["message"]
    reasons = [detail.get("debug", {}).get("reason") for detail in refused.value.body["details"]]
    assert reason in reasons, refused.value.body


def test_an_unknown_method_is_not_found(yard: Yard) -> None:
    """A method that no contract has is answered as such, not as a page."""
    with pytest.raises(CallError) as refused:
        yard.call("query.v1.QueryService/Nonsense")
    assert refused.value.status in (404, 501)


RESUMED = """
import os, runyard
again = os.environ.get("AGAIN")
run = runyard.init(entity="nico", project="awesome-project", resume="allow",
                   config={"lr": 0.2} if again else {"lr": 0.1, "n": 2**53 + 1})
print("HELD", dict(run.config), sorted(run.summary.items()))
if not again:
    run.log({"loss": 0.5})
    run.summary["best"] = float("inf")
"""


def test_a_resumed_run_gets_back_what_it_held(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """After a resume run.config and run.summary hold the earlier attempt's values; init's own config wins."""
    environment = yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id_of(request))
    code, output = scripts.run(RESUMED, tmp_path, environment)
    assert code == 0 and "HELD {'lr': 0.1, 'n': 9007199254740993} []" in output, output
    code, output = scripts.run(RESUMED, tmp_path, {**environment, "AGAIN": "1"})
    assert code == 0 and "'n': 9007199254740993" in output and "'lr': 0.2" in output, output
    assert "[('best', inf), ('loss', 0.5)]" in output, output
