"""The command line and Python tell what happened to a run, who wrote it, and how often it was begun."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

import runyard
from tests.integration import scripts
from tests.integration.yard import BIN, Yard

pytestmark = pytest.mark.parametrize("yard", ["all"], indirect=True)
LIVES = """
import runyard
where = dict(entity="nico", project="lives")
run = runyard.init(id="two", writer="trainer", **where)
for step in range(10):
    run.log({"loss": 1.0})
run.alert("loss is NaN", "at step 7", level="WARN")
run.finish(exit_code=3)
run = runyard.init(resume_from="two?_step=4", writer="trainer", **where)
run.log({"loss": 2.0})
run.finish()
"""


def cli(yard: Yard, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs `runyard runs …`."""
    environment = yard.environment(Path("/nowhere"))
    command = [BIN / "runyard", "runs", *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_life_of_a_run_is_told(yard: Yard, tmp_path: Path) -> None:
    """States in order with cause and who, the alert, both attempts, both writers; as a table and as JSON."""
    code, output = scripts.run(LIVES, tmp_path, yard.environment(tmp_path / "journals"))
    assert code == 0, output
    path = "nico/lives/two"

    events = json.loads(cli(yard, "events", path, "--json").stdout)
    steps = [(e["from_state"], e["to_state"]) for e in events if e["kind"] == "transition"]
    assert steps == [
        ("", "running"), ("running", "failed"), ("failed", "running"), ("running", "finished"),
    ]  # fmt: skip
    table = cli(yard, "events", path).stdout
    assert "running -> failed" in table and "warn; loss is NaN: at step 7" in table
    assert "rewound" in table and "to step 4" in table

    shown = cli(yard, "show", path).stdout
    lines = [one for one in table.splitlines()[1:] if one.split()[2] not in ("alert", "rewound")]
    told = [" ".join(line.split()) for line in shown.partition("transitions:\n")[2].splitlines()]
    assert told == [" ".join(line.split()) for line in lines], shown
    exact = json.loads(cli(yard, "show", path, "--json").stdout)["transitions"]
    assert [(one["from"], one["to"], one["attempt"]) for one in exact] == [
        ("unspecified", "running", 1), ("running", "failed", 1), ("failed", "running", 2), ("running", "finished", 2),
    ]  # fmt: skip

    attempts = json.loads(cli(yard, "attempts", path, "--json").stdout)
    assert [(a["kind"], a["state"], a["rewound_to_step"]) for a in attempts] == [
        ("start", "failed", None), ("rewind", "finished", 4),
    ]  # fmt: skip
    writers = json.loads(cli(yard, "writers", path, "--json").stdout)
    assert [(w["label"], w["attempt"], w["exit_code"], w["is_current"]) for w in writers] == [
        ("trainer", 1, 3, False), ("trainer", 2, 0, True),
    ]  # fmt: skip
    assert [one.pop("liveness") for one in writers] == [None, None]
    with runyard.Api(yard.base_url) as api:
        run = api.run(path)
        for told, listed in (
            (events, run.events()),
            (attempts, run.attempts()),
            (writers, run.writers()),
        ):
            assert told == json.loads(json.dumps([dataclasses.asdict(one) for one in listed]))
        assert {one.writer for one in run.writers()} == {
            one.writer for one in run.receipt().writers
        }
    for what in ("attempts", "writers"):
        lines = cli(yard, what, path).stdout.splitlines()
        assert len(lines) == 3 and "failed" in lines[1] and "finished" in lines[2], lines


@pytest.mark.parametrize("what", ["events", "attempts", "writers"])
def test_a_run_that_is_not_there_is_an_error(yard: Yard, what: str) -> None:
    """Named, with exit code 1; so is a path that is none."""
    done = cli(yard, what, "nico/lives/nobody")
    assert done.returncode == 1 and "nico/lives/nobody" in done.stderr, done
    done = cli(yard, what, "a/b/c/d")
    assert done.returncode == 1 and "is no path of a run" in done.stderr, done
