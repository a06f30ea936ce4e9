"""What the training process says of its own end: exceptions, preemptions, stops, Ctrl-D, alerts."""

from __future__ import annotations

import datetime
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard import exception_text
from runyard import journal_format as form
from runyard.errors import InvalidArgument
from runyard.exit_hooks import End, ExitHooks
from runyard.journal_reader import JournalReader
from runyard.run_folder import RunFolder
from runyard.stop_listener import StopListener
from runyard.terminal import Terminal

SCRIPT = "import os, signal, sys, runyard\nrun = runyard.init(project='p')\n"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs of these tests stay in a folder of their own."""
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    runyard.teardown()


def contents(tmp_path: Path, kind: int) -> list[Any]:
    (folder,) = (tmp_path / "journals").glob("run-*")
    frames = JournalReader.open(folder).frames()
    return [frame.content for frame in frames if frame.kind == kind]


def finish_of(tmp_path: Path, body: str, **environment: str) -> dict[str, Any]:
    """Runs a script and returns what its FINISH says."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + body],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    finishes = contents(tmp_path, form.FINISH)
    assert len(finishes) == 1, done.stderr
    finish: dict[str, Any] = finishes[0]
    return finish


CHAIN = """
def load():
    raise KeyError("weights")
try:
    load()
except KeyError as error:
    raise RuntimeError("no model") from error
"""
GROUP = "raise ExceptionGroup('both', [ValueError('left'), TypeError('right')])"


@pytest.mark.parametrize(
    ("body", "kind", "message", "parts"),
    [
        (CHAIN, "RuntimeError", "no model", ["KeyError: 'weights'", "direct cause", "in load"]),
        (GROUP, "ExceptionGroup", "both (2 sub-exceptions)", ["ValueError: left", "TypeError: right"]),
        ("with run:\n  1 / 0", "ZeroDivisionError", "division by zero", ["Traceback"]),
        ("import json; json.loads('{')", "json.decoder.JSONDecodeError", "Expecting property", ["raw_decode"]),
        ("class E(Exception):\n  def __str__(self): raise OSError\nraise E", "E", "str() raised OSError", ["E"]),
        ("raise ValueError('\\udcff')", "ValueError", "?", ["ValueError"]),
    ],
)  # fmt: skip
def test_an_exception_is_kept_whole(
    tmp_path: Path, body: str, kind: str, message: str, parts: list[str]
) -> None:
    """Type, message and traceback, with causes and groups in full."""
    if "ExceptionGroup" in body and sys.version_info < (3, 11):
        pytest.skip(f"Python {sys.version.split()[0]} has no exception groups; 3.11 has")
    finish = finish_of(tmp_path, body)
    assert (finish["cause"], finish["exit_code"]) == ("UNHANDLED_EXCEPTION", 1)
    exception = finish["exception"]
    assert exception["type"] == kind and message in exception["message"]
    assert all(part in exception["traceback"] for part in parts), exception["traceback"]


def test_a_long_traceback_keeps_its_end() -> None:
    """The end, which names the exception, stays; the length is the contract's, a cut stands at a line."""
    try:
        raise ValueError("\n".join(f"line {number}" for number in range(5000)))
    except ValueError as error:
        fields = exception_text.exception_fields(type(error), error, error.__traceback__)
    assert len(fields["traceback"]) <= 16_000 and len(fields["message"]) == 4096
    assert fields["traceback"].startswith(exception_text.CUT + "line ")
    assert fields["traceback"].endswith("line 4999\n")


TERM = "os.kill(os.getpid(), signal.SIGTERM)"
SLURM = {"SLURM_JOB_ID": "412"}


@pytest.mark.parametrize(
    ("body", "environment", "cause", "exit_code", "evidence"),
    [
        (TERM, {}, "SIGNAL", 143, "SIGTERM"),
        ("os.kill(os.getpid(), signal.SIGHUP)", {}, "SIGNAL", 129, "SIGHUP"),
        (TERM, SLURM, "PREEMPTED", 143, "job 412"),
        (f"os.kill(os.getpid(), signal.SIGCONT)\n{TERM}", SLURM, "PREEMPTED", 143, "job 412"),
        ("os.kill(os.getpid(), signal.SIGHUP)", SLURM, "SIGNAL", 129, "SIGHUP"),
        (TERM, {**SLURM, "RUNYARD_PREEMPTION": "off"}, "SIGNAL", 143, "SIGTERM"),
        (TERM, {"RUNYARD_PREEMPTION": "sigterm"}, "PREEMPTED", 143, "RUNYARD_PREEMPTION"),
        (TERM, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "SIGNAL", 143, "SIGTERM"),
        (f"run.mark_preempting('spot')\n{TERM}", {}, "PREEMPTED", 143, "mark_preempting(): spot"),
        ("runyard.mark_preempting()\nsys.exit(85)", {}, "PREEMPTED", 85, "exit code 85"),
        ("run.mark_preempting()\nsys.exit(0)", {}, "PROCESS_EXITED", 0, ""),
        ("run.mark_preempting()\nrun.finish()", {}, "FINISH_CALLED", 0, ""),
        ("run.mark_preempting()\n1 / 0", {}, "UNHANDLED_EXCEPTION", 1, "ZeroDivisionError"),
        ("run.mark_preempting()\nos.kill(os.getpid(), signal.SIGINT)", {}, "SIGNAL", 130, "SIGINT"),
    ],
)
def test_a_preemption_needs_evidence(
    tmp_path: Path,
    body: str,
    environment: dict[str, str],
    cause: str,
    exit_code: int,
    evidence: str,
) -> None:
    """SIGTERM after a notice, or in a job of Slurm, is a preemption; a kill, a code 0 and an exception are not."""
    finish = finish_of(tmp_path, body, **environment)
    assert (finish["cause"], finish["exit_code"]) == (cause, exit_code)
    assert evidence in finish["evidence"]
    notices = [c["preemption_notice"] for c in contents(tmp_path, form.CHANGE) if c]
    assert len(notices) == int("preempting" in body or cause == "PREEMPTED")


def test_a_pair_of_signals_is_not_lost(tmp_path: Path) -> None:
    """SIGCONT and SIGTERM at once, as Slurm sends them, end a script that waits: each of many times."""
    # A thread says so when the main thread waits: a signal in the very moment in which Python begins to does not wake it.
    body = (
        f"{SCRIPT}import threading, time\n"
        "threading.Timer(0.3, lambda: print('up', flush=True)).start()\ntime.sleep(30)"
    )
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", body], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **SLURM},
        )  # fmt: skip
        try:
            assert process.stdout is not None and process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()
            process.communicate()


def test_a_setting_that_cannot_be_is_refused() -> None:
    """The modes of preemption are named."""
    with pytest.raises(InvalidArgument, match="auto, sigterm, off"):
        runyard.init(settings=runyard.Settings(preemption="never"))


@pytest.mark.parametrize(
    ("arguments", "typed", "cause", "exit_code"),
    [
        (["-i", "-c", SCRIPT], b"\x04", "USER_REQUEST", 0),
        (["-i", "-c", SCRIPT], b"1 / 0\n\x04", "USER_REQUEST", 0),
        (["-i", "-c", SCRIPT], b"exit()\n", "PROCESS_EXITED", 0),
        (["-i", "-c", SCRIPT], b"exit(4)\n", "PROCESS_EXITED", 4),
        (["-c", SCRIPT + "input()"], b"\x04", "USER_REQUEST", 1),
        (["-c", SCRIPT + "raise EOFError"], b"\x04", "UNHANDLED_EXCEPTION", 1),
    ],
)
def test_ctrl_d_is_a_stop_by_the_user(
    tmp_path: Path, arguments: list[str], typed: bytes, cause: str, exit_code: int
) -> None:
    """Leaving the prompt, or an input(), by Ctrl-D stops the run; exit() ends it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "PYTHON_BASIC_REPL": "1"},
    )  # fmt: skip
    os.close(theirs)
    try:
        shown, ready = b"", b">>> " if arguments[0] == "-i" else b"sends it"
        while ready not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, typed)
        try:
            while os.read(ours, 4096):
                pass
        except OSError:  # how a terminal says that nobody is there any more
            pass
        process.wait(30)
    finally:
        process.kill()
        os.close(ours)
    (finish,) = contents(tmp_path, form.FINISH)
    assert (finish["cause"], finish["exit_code"]) == (cause, exit_code), shown
    assert cause != "USER_REQUEST" or "Ctrl-D" in finish["evidence"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"title": ""}, "title is empty"),
        ({"title": 5}, "type int"),
        ({"title": "t" * 257}, "257 characters, at most 256"),
        ({"title": "t", "text": "x" * 4097}, "4097 characters, at most 4096"),
        ({"title": "t", "level": "loud"}, "INFO, WARN, ERROR"),
        ({"title": "t", "wait_duration": -1}, "wait_duration -1"),
        ({"title": "t", "wait_duration": float("nan")}, "wait_duration nan"),
    ],
)
def test_alerts_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    """Bad arguments are refused with the value and the limit, and nothing is recorded."""
    run = runyard.init()
    with pytest.raises(InvalidArgument, match=message):
        run.alert(**arguments)


def test_alerts_are_recorded(tmp_path: Path) -> None:
    """Levels by name or enum, durations as seconds or timedelta, as in wandb."""
    run = runyard.init()
    run.alert("Loss rises", "to 3", level=runyard.AlertLevel.WARN, wait_duration=5)
    runyard.alert(title="down", level="error", wait_duration=datetime.timedelta(minutes=2))
    run.finish()
    alerts = [change["alert"] for change in contents(tmp_path, form.CHANGE)]
    assert [(a["title"], a["text"], a["level"], a["wait_duration_s"]) for a in alerts] == [
        ("Loss rises", "to 3", "WARN", 5.0),
        ("down", "", "ERROR", 120.0),
    ]


class Told:
    """A listener on a folder of its own, and what it recorded."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = RunFolder.create(tmp_path, "r", 0)
        self.records: list[Any] = []
        self.hooks = ExitHooks(lambda: None, lambda: True)
        terminal = Terminal(is_silent=True, is_quiet=True)
        self.listener = StopListener(self.folder, terminal, self.hooks, self.records.append)

    def ask(self, number: int = 1) -> None:
        fields = {"requested_by": "nico", "reason": "enough", "request_time_unix_ns": number}
        (self.folder.path / "stop.json").write_text(json.dumps(fields))

    def look_elsewhere(self) -> threading.Thread:
        """Looks as the journal's thread does."""
        thread = threading.Thread(target=self.listener.look)
        thread.start()
        return thread

    @property
    def hows(self) -> list[str]:
        return [record["how"] for record in self.records]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    one = Told(tmp_path)
    yield one
    one.folder.release()
    one.hooks.uninstall()


def wait_to_be_interrupted() -> None:
    threading.Event().wait(20)
    raise AssertionError("nobody interrupted the main thread")


def test_a_stop_interrupts_a_script_that_asks_for_nothing_else(told: Told) -> None:
    """The main thread gets a KeyboardInterrupt out of whatever it waits for, once per request."""
    told.listener.look()
    assert told.records == []
    told.ask()
    for number in (1, 2):
        told.ask(number)
        with pytest.raises(KeyboardInterrupt):
            told.look_elsewhere()
            wait_to_be_interrupted()
        told.listener.look()
        assert told.hows == ["interrupt"] * number


def test_a_stop_interrupts_where_sigint_is_ignored(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell without job control starts background jobs with SIGINT ignored; the stop reaches them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    told.hooks.install()
    try:
        told.ask()
        with pytest.raises(KeyboardInterrupt):
            told.look_elsewhere()
            wait_to_be_interrupted()
    finally:
        told.hooks.uninstall()
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_a_callback_is_called_instead(told: Told) -> None:
    """In a thread of its own, once per request; one that comes late is called at once."""
    calls: list[str] = []
    called = threading.Event()

    def callback() -> None:
        calls.append(threading.current_thread().name)
        called.set()

    told.listener.on_stop(callback)
    told.ask()
    told.listener.look()
    told.listener.look()
    assert called.wait(10) and told.hows == ["callback"]
    late = threading.Event()
    told.listener.on_stop(late.set)
    assert late.wait(10)
    assert calls == ["runyard-stop"]


def test_a_callback_that_fails_is_not_trusted(told: Told) -> None:
    """The main thread is interrupted, as if there were no callback."""

    def fail() -> None:
        raise RuntimeError("no disk")

    told.listener.on_stop(fail)
    told.ask()
    with pytest.raises(KeyboardInterrupt):
        told.look_elsewhere()
        wait_to_be_interrupted()


def test_polling_is_enough(told: Told) -> None:
    """A script that has read should_stop once is not interrupted."""
    assert not told.listener.should_stop
    told.ask()
    told.look_elsewhere().join()
    assert told.listener.should_stop and told.hows == ["polling"]


@pytest.mark.parametrize(
    "end",
    [
        End(0, "FINISH_CALLED"),
        End(3, "PROCESS_EXITED"),
        End(130, "SIGNAL", "SIGINT", signal=2),
        End(1, "UNHANDLED_EXCEPTION", "ValueError: x", exception={"type": "ValueError"}),
    ],
)
def test_who_was_told_was_stopped(told: Told, end: End) -> None:
    """Whatever a script does once it was told, its run was stopped by the user; its exception is kept."""
    assert told.listener.decided(end) is end
    _ = told.listener.should_stop
    told.ask()
    told.listener.look()
    decided = told.listener.decided(end)
    assert (decided.cause, decided.exit_code) == ("USER_REQUEST", end.exit_code)
    assert decided.exception == end.exception
    assert decided.evidence.startswith("nico asked for it (enough)")
    assert end.evidence in decided.evidence


def test_a_signal_that_comes_before_the_look_counts_as_the_stop(told: Told) -> None:
    """The agent's SIGTERM after the grace time may find a script that never looked."""
    told.ask()
    assert told.listener.decided(End(143, "SIGNAL", "SIGTERM", signal=15)).cause == "USER_REQUEST"
    assert told.listener.decided(End(0, "FINISH_CALLED")).cause == "FINISH_CALLED"


def test_the_journals_thread_looks_within_half_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop reaches the script by itself."""
    run = runyard.init()
    (folder,) = (tmp_path / "journals").glob("run-*")
    monkeypatch.setattr(run._stop, "_folder", RunFolder(folder))  # as of a run that is sent
    run._journal.on_tick = run.tick
    called = threading.Event()
    run.on_stop(called.set)
    fields = {"requested_by": "nico", "request_time_unix_ns": 1}
    start_s = time.monotonic()
    (folder / "stop.json").write_text(json.dumps(fields))
    assert called.wait(10) and time.monotonic() - start_s < 0.75
    run.finish()
    assert run.state == "killed"
    (finish,) = contents(tmp_path, form.FINISH)
    assert finish["cause"] == "USER_REQUEST" and "callback" in finish["evidence"]
    (record,) = contents(tmp_path, form.STOP_TOLD)
    assert (record["how"], record["request_time_unix_ns"]) == ("callback", 1)
