"""Many processes write one run; a run goes back, and others branch off: what the scripts logged against what is read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from tests.integration.readback import Readback, bits, readback
from tests.integration.yard import Yard

pytestmark = pytest.mark.parametrize("yard", ["all"], indirect=True)
WRITERS = int(os.environ.get("RUNYARD_TEST_WRITERS", "8"))
"""How many processes write one run."""
STEPS = 50
DEPTH = 10
RANK = f"""
import os, runyard
rank = int(os.environ["RANK"])
run = runyard.init(entity="nico", project="ranks", id="many")
print("up", flush=True)
input()
for step in range({STEPS}):
    seldom = {{"eval": step / 64}} if rank == 0 and step % 10 == 9 else {{}}
    run.log({{"loss": rank + step / 128, **seldom}})
assert run.writer == f"rank{{rank}}", run.writer
"""
BRANCHES = f"""
import runyard
where = dict(entity="nico", project="branches")
run = runyard.init(id="base", config={{"lr": 1, "depth": -1}}, **where)
for step in range(100):
    run.log({{"loss": float(step)}})
run.finish()
run = runyard.init(resume_from="base?_step=49", **where)
assert run.step == 50, run.step
for step in range(20):
    run.log({{"loss": 1000.0 + step}})
run.finish()
parent = "base"
for depth in range({DEPTH}):
    run = runyard.init(id=f"fork{{depth}}", fork_from=f"{{parent}}?_step={{55 + depth}}", config={{"depth": depth}}, **where)
    assert run.step == 56 + depth, (depth, run.step)
    for step in range(5):
        run.log({{"loss": 10_000.0 * (depth + 1) + step}})
    run.finish()
    parent = f"fork{{depth}}"
"""
READ = f"""
import runyard
run = runyard.Api().run("nico/ranks/many")
rows = list(run.scan_history(keys=["loss"], writer="rank3"))
assert [(row["_step"], row["loss"]) for row in rows] == [(n, 3 + n / 128) for n in range({STEPS})], rows
labels = {{one.writer: one.label for one in run.writers()}}
rows = list(run.scan_history(keys=["loss"], page_size=7))
assert sorted((labels[row["_writer"]], row["_step"], row["loss"]) for row in rows) == sorted(
    (f"rank{{rank}}", n, rank + n / 128) for rank in range({WRITERS}) for n in range({STEPS})
), rows
rows = list(run.scan_history(keys=["loss", "eval"], page_size=7))
assert [(labels[row["_writer"]], row["_step"], row["loss"], row["eval"]) for row in rows] == [
    ("rank0", n, n / 128, n / 64) for n in range(9, {STEPS}, 10)
], rows
assert len(list(run.scan_history(keys=["loss", "eval"], require="any"))) == {WRITERS * STEPS}
try:
    list(run.scan_history(writer="rank-none"))
except runyard.errors.NotFound as error:
    assert "rank-none" in str(error)
else:
    raise AssertionError("a writer that is not there")
"""
READ_ALL = """
import runyard
run = runyard.Api().run("nico/branches/base")
assert len(list(run.scan_history(keys=["loss"]))) == 70
# What was superseded and what took its place share their steps.
rows = list(run.scan_history(keys=["loss"], attempts="all"))
assert {99.0, 49.0, 1019.0} <= {row["loss"] for row in rows}, rows
assert [(row["_writer"], row["loss"]) for row in rows if row["_step"] == 60] == [(1, 60.0), (2, 1010.0)], rows
assert [row["loss"] for row in run.scan_history(keys=["loss"], writer=2)] == [1000.0 + n for n in range(20)]
"""


def test_many_processes_write_one_run(yard: Yard, tmp_path: Path) -> None:
    processes = [
        start(yard, tmp_path, RANK, RANK=str(rank), WORLD_SIZE=str(WRITERS), RUNYARD_SHARED="1")
        for rank in range(WRITERS)
    ]
    for process in processes:  # As ranks do: nobody goes on before all are there.
        await_word(process, "up")
    for process in processes:
        finish(process)
    finish(start(yard, tmp_path, READ))
    with readback(yard.grpc) as reader:
        run = reader.run("nico/ranks/many")
        assert pb.RunState.Name(run.state) == "RUN_STATE_FINISHED"
        receipt = reader.receipt(run.path)
        assert {writer.label for writer in receipt.writers} == {f"rank{n}" for n in range(WRITERS)}
        assert sorted(reader.history(run.path)["loss"]) == sorted(
            (step, bits(rank + step / 128)) for rank in range(WRITERS) for step in range(STEPS)
        )


def test_a_rank_that_comes_late_is_of_the_same_attempt(yard: Yard, tmp_path: Path) -> None:
    """It begins when the other has ended, with its own step 0; the next launch of the job is a new attempt."""
    script = RANK.replace('"many"', '"late"')
    for attempt in range(2):
        for rank in ("0", "1"):
            restart = {"TORCHELASTIC_RUN_ID": "j", "TORCHELASTIC_RESTART_COUNT": str(attempt)}
            finish(start(yard, tmp_path, script, RANK=rank, WORLD_SIZE="2", **restart))
    with readback(yard.grpc) as reader:
        run = reader.run("nico/ranks/late")
        assert (pb.RunState.Name(run.state), run.attempt_count) == ("RUN_STATE_FINISHED", 2)
        assert sorted(reader.history(run.path)["loss"]) == sorted(
            (attempt * STEPS + step, bits(rank + step / 128))
            for attempt in range(2)
            for rank in range(2)
            for step in range(STEPS)
        )


def test_a_run_goes_back_and_others_branch_off(yard: Yard, tmp_path: Path) -> None:
    finish(start(yard, tmp_path, BRANCHES))
    finish(start(yard, tmp_path, READ_ALL))
    expected = [float(step) for step in range(50)] + [1000.0 + step for step in range(20)]
    with readback(yard.grpc) as reader:
        assert_values(reader, "nico/branches/base", expected)
        assert reader.run("nico/branches/base").attempt_count == 2
        for depth in range(DEPTH):
            own = [10_000.0 * (depth + 1) + step for step in range(5)]
            expected = expected[: 56 + depth] + own
            assert_values(reader, f"nico/branches/fork{depth}", expected)


def start(yard: Yard, folder: Path, script: str, **more: str) -> subprocess.Popen[str]:
    """Starts the script as a process of its own."""
    environment = yard.environment(folder / "journals", **more)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        cwd=folder,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def await_word(process: subprocess.Popen[str], word: str) -> None:
    """Waits for the line in what the script prints."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(f"the script ended before it printed {word}")


def finish(process: subprocess.Popen[str]) -> None:
    """Waits for the end of the script, which is a good one."""
    output, _ = process.communicate("go on\n", timeout=600)
    assert process.returncode == 0, output


def assert_values(reader: Readback, path: str, values: list[float]) -> None:
    """The run's history is these values, at steps 0, 1, 2 …, to the bit."""
    found = reader.history(path)["loss"]
    assert found == [(step, bits(value)) for step, value in enumerate(values)], path
