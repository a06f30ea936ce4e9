"""Records of `logging` in a run's log: without being printed, each once, and none of it troubles the script."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runyard
from runyard.integration.logging import RunyardHandler
from tests.console_journal import kept
from tests.integration.yard import clean_environment

TIMEOUT_S = 60
SCRIPT = """
import logging, os, sys, threading
import runyard
from runyard.integration.logging import RunyardHandler
run = runyard.init(mode="offline", dir="journals")
quiet = logging.getLogger("quiet")
quiet.addHandler(RunyardHandler())
quiet.setLevel("INFO")
quiet.propagate = False
loud = logging.getLogger("loud")
loud.addHandler(RunyardHandler())
loud.addHandler(logging.StreamHandler())
print("10%", end="", flush=True)
sys.stderr.write("a bar |##")
sys.stderr.flush()
quiet.info("kept, not %s", "printed")
quiet.debug("below the level")
loud.warning("printed once")
quiet.error("the secret is %s", os.environ["SOME_TOKEN"])
quiet.info("long %s", "x" * 40_000)
threads = [threading.Thread(target=lambda i=i: [quiet.info("thread %d line %d", i, j) for j in range(200)]) for i in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
try:
    1 / 0
except ZeroDivisionError:
    quiet.exception("it failed")
pid = os.fork()
if pid == 0:
    logging.getLogger("quiet").handlers[0]._given_run = run
    quiet.info("from a forked child")
    os._exit(0)
os.waitpid(pid, 0)
sys.stderr.write("|\\n")
"""


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("RUNYARD_CONSOLE", "off")
    monkeypatch.chdir(tmp_path)
    yield
    runyard.teardown()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger that prints nothing."""
    made = logging.getLogger("quiet")
    made.propagate = False
    made.setLevel(logging.INFO)
    yield made
    made.handlers.clear()


def lines(run: runyard.Run) -> list[str]:
    found, _ = kept(Path(run.dir).parent / "console")
    return [text for stream, text in found.values() if stream == 2]


def test_records_are_kept_and_not_printed(tmp_path: Path) -> None:
    """Beside a console that is taken, lines come whole, once, without credentials, and not in the middle of a bar."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=clean_environment({"SOME_TOKEN": "hunter2hunter2"}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("journals/run-*")
    found, ends = kept(folder / "console")
    texts = [text for stream, text in found.values() if stream == 2]
    assert [text for text in texts if text.endswith(" INFO quiet: kept, not printed")]
    assert "kept, not printed" not in done.stderr + done.stdout
    assert not [text for text in texts if "below the level" in text]
    assert texts.count("printed once") == 0 and done.stderr.count("printed once") == 1
    assert [text for text in texts if text.endswith("printed once")] == ["a bar |##printed once"]
    assert [text for text in texts if "the secret is [redacted SOME_TOKEN]" in text]
    assert sum(text.count("x") for text in texts if "xxxx" in text) == 40_000
    for thread in range(4):
        of_thread = [text.rpartition(" ")[2] for text in texts if f" thread {thread} line " in text]
        assert of_thread == [str(line) for line in range(200)]
    assert [text for text in texts if text.endswith("ZeroDivisionError: division by zero")]
    assert [text for text in texts if text.endswith("from a forked child")]
    assert len(ends) == 1


def test_records_are_kept_without_a_console(logger: logging.Logger) -> None:
    """With the console off the handler's lines are kept, whether another handler prints them or not."""
    with runyard.init() as run:
        logger.addHandler(RunyardHandler(level=logging.WARNING))
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.info("too low")
        logger.warning("first")
        print("printed")
        logger.error("last")
    assert [line.partition(" quiet: ")[2] for line in lines(run)] == ["first", "last"]
    logger.error("after the end")
    assert len(lines(run)) == 2


def test_each_run_has_its_own(logger: logging.Logger) -> None:
    """A handler with a run writes into that one; one without, into the run that is current."""
    with runyard.init() as first, runyard.init(reinit="create_new") as second:
        logger.addHandler(RunyardHandler(first))
        logger.addHandler(RunyardHandler())
        logger.warning("both")
    assert len(lines(first)) == len(lines(second)) == 1


def test_the_script_is_never_troubled(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a run, in a disabled one, and with a format that does not fit, logging goes on."""
    handler = RunyardHandler()
    logger.addHandler(handler)
    logger.warning("to nobody")
    with runyard.init(mode="disabled"):
        logger.warning("nothing is kept")
    with runyard.init() as run:
        wrong = logging.LogRecord("quiet", 30, "x.py", 1, "%d", ("not a number",), None)
        handler.handle(wrong)
        logger.warning("lone surrogate \ud800")
    assert [line.partition(" quiet: ")[2] for line in lines(run)] == ["lone surrogate ?"]
    assert "Logging error" in capsys.readouterr().err
