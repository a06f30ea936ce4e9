"""A stop from request to end, with real processes: each way a script may take it, and those that do not."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import runyard
from tests.integration.readback import readback, wait_until
from tests.integration.test_ends import HEAD, TOLD_WITHIN_S, await_end, training
from tests.integration.yard import CallError, Yard

PROGRAM = Path(sys.executable).parent / "runyard"
pytestmark = pytest.mark.parametrize("yard", ["all"], indirect=True)
SAVED = "run.log({'loss': 0.25})\nrun.summary['saved'] = 1\nopen('last.ckpt', 'w').write('weights')\nrun.save('last.ckpt')\n"
WAIT = "print('up', flush=True)\ntime.sleep(60)\n"
IGNORES = (
    "signal.signal(signal.SIGINT, lambda *_: None)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
)
# Holds the interpreter's lock, so that no thread of it runs: as a library that computes without letting go.
HELD = "import itertools\nprint('up', flush=True)\nsum(itertools.repeat(1, 10**13))\n"


@dataclass(frozen=True)
class Case:
    """What a script does about a stop, how it is asked, and what must come of it."""

    body: str
    steps: str
    exit_code: int
    evidence: str
    options: tuple[str, ...] = ()
    head: str = HEAD
    is_saved: bool = False


TOLD = "requested stopping acknowledged draining killed"
CASES = {
    "default": Case(WAIT, TOLD, 130, "KeyboardInterrupt"),
    "default, handled": Case(
        f"try:\n  {WAIT.replace(chr(10), '; ')}\nexcept KeyboardInterrupt:\n  pass\n{SAVED}",
        TOLD, 0, "told by interrupt", is_saved=True,
    ),
    "sigint ignored": Case(
        WAIT, TOLD, 130, "KeyboardInterrupt",
        head="import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + HEAD,
    ),
    "callback": Case(
        "asked = threading.Event()\nrun.on_stop(asked.set)\nprint('up', flush=True)\n"
        f"asked.wait(60)\n{SAVED}sys.exit(3)",
        TOLD, 3, "told by callback", is_saved=True,
    ),
    "callback leaves": Case(
        "run.on_stop(lambda: os._exit(4))\n" + WAIT, TOLD, 4, "exited with code 4"
    ),
    "polling": Case(
        "print('up', flush=True) if not run.should_stop else None\n"
        f"while not run.should_stop:\n  time.sleep(0.01)\n{SAVED}run.finish()",
        TOLD, 0, "told by polling", is_saved=True,
    ),
    "deaf, SIGTERM heard": Case(
        "signal.signal(signal.SIGINT, lambda *_: None)\n" + WAIT + WAIT, f"{TOLD[:-7]} forced killed", 143,
        "SIGTERM", ("--grace", "1s"),
    ),
    "deaf, killed": Case(
        IGNORES + WAIT + "while True:\n  time.sleep(60)", f"{TOLD[:-7]} forced forced killed", 137, "SIGKILL",
        ("--grace", "1s", "--kill"),
    ),
    "holds the interpreter, killed": Case(
        HELD, "requested stopping acknowledged forced forced killed", 137, "SIGKILL", ("--grace", "1s", "--kill"),
    ),
}  # fmt: skip


def stop(yard: Yard, path: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs `runyard stop` and waits for it."""
    return subprocess.run(
        [PROGRAM, "stop", path, *options], env=yard.environment(Path("/nowhere")), capture_output=True,
        text=True, timeout=90, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_stop_takes_its_course(yard: Yard, name: str, tmp_path: Path) -> None:
    """Every step is printed in its order; what the script logs and saves in the grace time is kept."""
    case = CASES[name]
    run_id = "stop-" + re.sub(r"\W+", "-", name)
    with (
        training(yard, tmp_path, case.head + case.body, run_id) as one,
        readback(yard.grpc) as reader,
    ):
        one.wait_for("up")
        done = stop(yard, one.path, "--wait", "--reason", "enough", *case.options)
        assert done.returncode == 0, done.stdout + done.stderr
        one.wait_for_end(20)
        steps = [line.split()[1] for line in done.stdout.splitlines()]
        assert " ".join(steps) == case.steps, done.stdout
        assert "enough" in done.stdout
        end = await_end(reader, one.path, "KILLED", "USER_REQUEST", TOLD_WITHIN_S)
        assert case.evidence in end.evidence and "asked for it" in end.evidence
        run = reader.run(one.path)
        assert run.exit_code == case.exit_code
        points = reader.history(one.path)["loss"]
        assert len(points) == 1 + case.is_saved
        files = yard.call("files.v1.FilesService/ListFiles", {"runPath": one.path}).get("files", [])
        assert [file["name"] for file in files] == ["last.ckpt"] * case.is_saved


def test_nothing_is_killed_that_must_not_be(yard: Yard, tmp_path: Path) -> None:
    """Without --kill a script that ignores everything goes on, as stopping; a further request may kill it."""
    body = (
        IGNORES
        + "print('up', flush=True)\nwhile True:\n  run.log({'loss': 1.0})\n  time.sleep(0.1)\n"
    )
    with training(yard, tmp_path, HEAD + body, "deaf") as one, readback(yard.grpc) as reader:
        one.wait_for("up")
        done = stop(yard, one.path, "--grace", "0")
        assert done.returncode == 0 and f"{one.path}: " in done.stdout, done.stderr
        log = next((tmp_path / "runyard").glob("agent.log"))
        wait_until(lambda: reader.run(one.path).stop.stage == 4, 20, "SIGTERM")
        assert reader.state(one.path) == "STOPPING"
        before = one.process.poll()
        last = reader.receipt(one.path).last_step
        wait_until(lambda: reader.receipt(one.path).last_step > last + 20, 30, "later points")
        assert before is None and one.process.poll() is None, log.read_text()
        done = stop(yard, one.path, "--kill", "--wait", "--json")
        assert '"state": "killed"' in done.stdout, done.stdout + done.stderr
        one.wait_for_end(5)


def test_a_stop_from_python(yard: Yard, tmp_path: Path) -> None:
    """It returns at once with how far it has come; a second one, that may kill, when the run has ended; a third is refused."""
    body = IGNORES + "print('up', flush=True)\nwhile True:\n  time.sleep(60)\n"
    with training(yard, tmp_path, HEAD + body, "python") as one, runyard.Api(yard.base_url) as api:
        one.wait_for("up")
        run = api.run(one.path)
        asked = run.stop("enough", grace_s=3600)
        assert asked.is_live and asked.stage == "requested", asked
        late = run.stop(grace_s=3600, wait_s=0.01)
        assert late.is_live and one.process.poll() is None, late
        ended = run.stop("now", grace_s=0, kill=True, wait_s=60)
        assert (ended.state, ended.stage, ended.exit_code) == ("killed", "killed", 137), ended
        one.wait_for_end(5)
        reasons = [e.evidence.split("\n")[0] for e in run.events() if e.kind == "stop_requested"]
        assert reasons == ["enough", "3600 s to wind up, then SIGTERM", "now"]
        with pytest.raises(runyard.errors.FailedPrecondition, match="is killed: there is nothing"):
            run.stop()
        assert run.state == "running" and run.reload().state == "killed"


def test_what_cannot_be_stopped(yard: Yard, tmp_path: Path) -> None:
    """A run that has ended, and one that never was, are refused by name."""
    with training(yard, tmp_path, HEAD, "ended") as one, readback(yard.grpc) as reader:
        one.wait_for_end()
        reader.wait_for_state(one.path, "FINISHED", timeout_s=5)
    for path, message in (
        (one.path, "is finished: there is nothing to stop"),
        ("nico/ends/never", "never"),
    ):
        done = stop(yard, path)
        assert done.returncode == 1 and message in done.stderr, done.stderr
    with pytest.raises(CallError) as refused:
        yard.call("metadata.v1.MetadataService/RequestStop", {"runPath": one.path})
    assert refused.value.status == 400


@pytest.mark.parametrize("text", ["soon", "-1", "2d", "25h"])
def test_a_grace_time_that_cannot_be(yard: Yard, text: str) -> None:
    """The value and what is allowed are named."""
    done = stop(yard, "a/b/c", f"--grace={text}")
    assert done.returncode == 2 and text in done.stderr and "5m" in done.stderr
