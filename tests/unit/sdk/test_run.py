"""Runs as scripts use them: init, exits of every kind, forks, the names of the package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard import journal_format as form
from runyard.errors import InvalidArgument, NotOffered, UsageError
from runyard.journal_reader import Frame, JournalReader


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs of these tests stay in a folder of their own."""
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    runyard.teardown()


def frames(tmp_path: Path, index: int = 0) -> list[Frame]:
    folders = sorted((tmp_path / "journals").glob("run-*"))
    return list(JournalReader.open(folders[index]).frames())


def contents(found: list[Frame], kind: int) -> list[Any]:
    return [frame.content for frame in found if frame.kind == kind]


def test_a_run_writes_its_story(tmp_path: Path) -> None:
    """START, rows, changes and FINISH stand in the journal in the order of the calls."""
    with runyard.init(
        entity="nico", project="p", name="n", notes="o", tags=["a", "a", "b"], group="g", job_type="train",
        config={"lr": 0.1},
    ) as run:  # fmt: skip
        run.log({"loss": 1.0})
        run.config.epochs = 3
        run.summary["best"] = 0.5
        run.define_metric(
            "val/*", step_metric="epoch", summary="min,last", goal="minimize", hidden=True
        )
        run.name, run.notes, run.tags = "m", "q", ("c",)
        runyard.log({"loss": 0.5})
        assert (run.state, run.step, run.path) == ("running", 2, f"nico/p/{run.id}")
    found = frames(tmp_path)
    start = contents(found, form.START)[0]
    assert (
        start["mode"] == "offline"
        and start["config"] == {"lr": 0.1}
        and start["tags"] == ["a", "b"]
    )
    assert (start["entity"], start["project"], start["run_id"], start["is_id_given"]) == (
        "nico", "p", run.id, False,
    )  # fmt: skip
    assert len(start["request_id"]) == 32 and start["host"]["pid"] == os.getpid()
    assert contents(found, form.CHANGE) == [
        {"config_set": {"epochs": 3}},
        {"summary_set": {"best": 0.5}},
        {"metric_definition": {"name": "val/*", "step_metric": "epoch", "summaries": ["min", "last"],
                               "goal": "minimize", "is_hidden": True}},
        {"display_name": "m"}, {"notes": "q"}, {"tags": ["c"]},
    ]  # fmt: skip
    finish = contents(found, form.FINISH)[0]
    assert (finish["exit_code"], finish["cause"]) == (0, "FINISH_CALLED")
    assert found[-1].kind == form.FINISH
    assert [f.kind for f in found[:3]] == [form.START, form.SCHEMA, form.ROW]


def test_the_folder(tmp_path: Path) -> None:
    """The folder is named by UTC time and id; a second run of that second and id gets a number."""
    first = runyard.init(id="same", settings={"silent": True})
    second = runyard.init(id="same", reinit="create_new")
    assert runyard.run is second
    second.finish()
    assert runyard.run is first
    first.finish()
    assert runyard.run is None
    names = sorted(path.name for path in (tmp_path / "journals").iterdir() if path.is_dir())
    assert all(name.startswith("run-2") and "-same" in name for name in names) and len(names) == 2
    assert (tmp_path / "journals" / names[0] / "logs/debug.log").exists()


def test_the_end_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sparklines, summary, how to send an offline run, where the logs are."""
    run = runyard.init(project="p")
    for value in range(8):
        run.log({"loss": 7.0 - value, "_hidden": 1.0})
    run.summary["note"] = "hello"
    run.finish()
    err = capsys.readouterr().err
    for line in (
        "Tracking run with runyard version",
        "runyard: loss █▇▆▅▄▃▂▁",
        "runyard: Run summary:\nrunyard: loss 0\nrunyard: note hello",
        "runyard sync ./journals/run-",
        "/logs",
    ):
        assert line in err, err
    assert "_hidden" not in err


def test_quiet_and_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Quiet drops tables, silent drops everything."""
    monkeypatch.setenv("RUNYARD_QUIET", "1")
    with runyard.init() as run:
        run.log({"loss": 1.0})
    err = capsys.readouterr().err
    assert "Run history" not in err and "runyard sync" in err
    monkeypatch.setenv("RUNYARD_SILENT", "1")
    with runyard.init() as run:
        run.log({"loss": 1.0})
        run.write_traces([])
    assert capsys.readouterr() == ("", "")


def test_disabled_keeps_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A disabled run takes every call, shows last values, and writes and prints nothing."""
    with runyard.init(mode="disabled", config={"a": 1}) as run:
        run.log({"loss": 1.0})
        run.summary["x"] = 2
        run.save("none.txt")
        assert (run.summary["loss"], run.config.a, run.url) == (1.0, 1, None)
        with pytest.raises(TypeError):
            run.log({"loss": "text"})
    assert capsys.readouterr().err.count("\n") <= 1
    assert not (tmp_path / "journals").exists()


def test_init_returns_the_active_run(capsys: pytest.CaptureFixture[str]) -> None:
    """As in wandb: a second init gives the active run back, unless reinit says otherwise."""
    first = runyard.init()
    assert runyard.init() is first
    second = runyard.init(reinit=True)
    assert second is not first and first.state == "finished" and runyard.run is second
    with pytest.raises(InvalidArgument, match="reinit"):
        runyard.init(reinit="sometimes")


def test_package_names_before_init() -> None:
    """Before init() the names of the current run say what to do."""
    assert runyard.run is None
    for use in (
        lambda: runyard.log({"a": 1}),
        lambda: runyard.config.x,
        lambda: runyard.summary.update(a=1),
        lambda: runyard.save("x"),
        lambda: runyard.define_metric("x"),
        lambda: runyard.watch(None),
    ):
        with pytest.raises(UsageError, match=r"call runyard.init\(\) before"):
            use()
    runyard.finish()
    assert runyard.login(key="x") is True
    assert runyard.setup() is None


def test_package_names_follow_the_current_run() -> None:
    """runyard.config, .summary and .log are the current run's."""
    run = runyard.init()
    runyard.config.lr = 3
    runyard.log({"a": 1.0})
    runyard.summary["b"] = 2
    assert (run.config["lr"], run.summary["a"], run.summary["b"]) == (3, 1.0, 2)
    runyard.finish()
    with pytest.raises(UsageError):
        _ = runyard.config.lr


def test_an_ordinary_wandb_script_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments and calls that do no harm are taken with a note each."""
    import runyard as wandb

    run = wandb.init(
        project="p", save_code=False, sync_tensorboard=True, monitor_gym=True, anonymous="allow", force=True,
        magic=True, allow_val_change=True, settings=wandb.Settings(start_method="thread"), resume="allow",
    )  # fmt: skip
    wandb.write_traces([])
    wandb.write_traces([])
    wandb.alert(title="t", text="x")
    run.mark_preempting()
    wandb.define_metric("acc", summary="max")
    wandb.config.update({"a": 1}, allow_val_change=True)
    wandb.log({"a": 1}, commit=True)
    wandb.finish()
    err = capsys.readouterr().err
    changes = contents(frames(tmp_path), form.CHANGE)
    assert {"title": "t", "text": "x", "level": "INFO", "wait_duration_s": 60.0} in [
        change.get("alert") for change in changes
    ]
    assert "mark_preempting()" in [change.get("preemption_notice") for change in changes]
    for word in ("monitor_gym", "start_method", "write_traces()"):
        assert err.count(f"NOTE {word}") + err.count(f"({word}") + err.count(f"'{word}'") == 1, (
            word,
            err,
        )


def test_what_would_lose_something_is_refused() -> None:
    """3D objects and links say that they come later."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        runyard.init(colour="red")
    with pytest.raises(NotOffered, match=r"runyard.Object3D is not offered"):
        runyard.Object3D("x.glb")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = runyard.nonsense
    run = runyard.init()
    with pytest.raises(AttributeError, match=r"run.link_artifact is not offered"):
        run.link_artifact("x")


def test_config_keys_are_picked(tmp_path: Path) -> None:
    """config_include_keys and config_exclude_keys pick keys."""
    values = {"a": 1, "b": 2, "c": 3}
    assert runyard.init(config=values, config_exclude_keys=["b"]).config == {"a": 1, "c": 3}
    assert runyard.init(config=values, config_include_keys=["b"], reinit=True).config == {"b": 2}
    with pytest.raises(UsageError, match="not both"):
        runyard.init(
            config=values, config_include_keys=["b"], config_exclude_keys=["a"], reinit=True
        )


def test_a_finished_run_refuses_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """After finish(), log() is an error, a change of config a note, a second finish() nothing."""
    run = runyard.init()
    run.finish()
    run.finish()
    with pytest.raises(UsageError, match="finished"):
        run.log({"a": 1.0})
    run.config.a = 1
    assert "NOTE changes made in a finished run" in capsys.readouterr().err


def test_save_names_files_as_wandb_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Relative paths keep their folders, absolute ones their last part, globs every match; `now` copies."""
    (tmp_path / "out/sub").mkdir(parents=True)
    for name in ("out/a.txt", "out/b.txt", "out/sub/c.txt"):
        (tmp_path / name).write_text(name)
    run = runyard.init()
    run.save("out/*.txt")
    run.save(str(tmp_path / "out/sub/c.txt"), policy="end")
    run.save(tmp_path / "out/sub/c.txt", base_path=tmp_path / "out", policy="now")
    run.save("out", policy="end")
    assert run.save("nothing-*.pt") == []
    with pytest.raises(InvalidArgument, match="policy 'soon'"):
        run.save("out/a.txt", policy="soon")
    with pytest.raises(InvalidArgument, match="outside"):
        run.save("out/a.txt", base_path="out/sub")
    run.finish()
    files = contents(frames(tmp_path), form.FILE)
    assert [(f["name"], f["policy"]) for f in files] == [
        ("out/a.txt", "live"), ("out/b.txt", "live"), ("c.txt", "end"), ("sub/c.txt", "now"),
        ("out/a.txt", "end"), ("out/b.txt", "end"), ("out/sub/c.txt", "end"),
    ]  # fmt: skip
    assert files[3]["path"].startswith(str(tmp_path / "journals")) and files[3]["size_bytes"] == 13
    assert Path(files[3]["path"]).read_text() == "out/sub/c.txt"
    assert "no file matches 'nothing-*.pt'" in capsys.readouterr().err


SCRIPT = "import runyard, sys, os, signal, threading\nrun = runyard.init(project='p')\nrun.log({'a': 1.0})\n"


def run_script(
    tmp_path: Path, body: str, **kwargs: Any
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + body],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, **kwargs,
    )  # fmt: skip
    finish = contents(frames(tmp_path), form.FINISH)
    assert len(finish) == 1, done.stderr
    return done, finish[0]


@pytest.mark.parametrize(
    ("body", "returncode", "exit_code", "cause", "evidence"),
    [
        ("", 0, 0, "PROCESS_EXITED", ""),
        ("sys.exit()", 0, 0, "PROCESS_EXITED", ""),
        ("sys.exit(3)", 3, 3, "PROCESS_EXITED", ""),
        ("exit(4)", 4, 4, "PROCESS_EXITED", ""),
        ("sys.exit('no data')", 1, 1, "PROCESS_EXITED", "no data"),
        ("1 / 0", 1, 1, "UNHANDLED_EXCEPTION", "ZeroDivisionError"),
        ("raise KeyboardInterrupt", -2, 130, "SIGNAL", "SIGINT"),
        ("os.kill(os.getpid(), signal.SIGTERM)", -15, 143, "SIGNAL", "SIGTERM"),
        ("run.finish(7)", 0, 7, "FINISH_CALLED", ""),
        ("try:\n  sys.exit(5)\nexcept SystemExit:\n  run.finish()", 0, 0, "FINISH_CALLED", ""),
        ("with run:\n  raise ValueError('bad')", 1, 1, "UNHANDLED_EXCEPTION", "ValueError: bad"),
        ("threading.Thread(target=lambda: 1 / 0).start()", 0, 0, "PROCESS_EXITED", ""),
        ("signal.signal(signal.SIGTERM, lambda *a: sys.exit(9))\nos.kill(os.getpid(), signal.SIGTERM)", 9, 9,
         "PROCESS_EXITED", ""),
    ],
)  # fmt: skip
def test_the_end_of_the_process_is_the_end_of_the_run(
    tmp_path: Path, body: str, returncode: int, exit_code: int, cause: str, evidence: str
) -> None:
    """However the script ends, the run ends with its exit code and cause, and the process ends as it would have."""
    done, finish = run_script(tmp_path, body)
    assert done.returncode == returncode, done.stderr
    assert (finish["exit_code"], finish["cause"]) == (exit_code, cause)
    assert evidence in finish["evidence"]


def test_the_exception_is_still_printed(tmp_path: Path) -> None:
    """The traceback of an unhandled exception appears as ever."""
    done, _ = run_script(tmp_path, "raise ValueError('visible')")
    assert "Traceback" in done.stderr and "ValueError: visible" in done.stderr


def test_rows_survive_kill_9(tmp_path: Path) -> None:
    """What log() returned from is there after SIGKILL, in order and whole."""
    body = "for i in range(1000):\n  run.log({'b': float(i)})\nprint('logged', flush=True)\nos.kill(os.getpid(), 9)"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + body],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    rows = [f for f in frames(tmp_path) if f.kind == form.ROW]
    assert [f.values[0] for f in rows[1:]] == [float(i) for i in range(1000)]
    assert not contents(frames(tmp_path), form.FINISH)


def test_a_forked_child_leaves_the_run_alone(tmp_path: Path) -> None:
    """A forked child neither writes into the run nor ends it; it says so once, and may start a run of its own."""
    body = """
pid = os.fork()
if pid == 0:
    run.log({'a': 2.0}); run.log({'a': 2.0}); run.config.x = 1; run.finish()
    own = runyard.init(project='child'); own.log({'c': 1.0}); own.finish()
    sys.exit(3)
os.waitpid(pid, 0)
run.log({'a': 3.0})
"""
    done, finish = run_script(tmp_path, body)
    assert done.returncode == 0 and finish["exit_code"] == 0, done.stderr
    assert done.stderr.count("forked child of the process") == 1
    by_project = {}
    for index in range(2):
        found = frames(tmp_path, index)
        rows = [f.values[0] for f in found if f.kind == form.ROW]
        by_project[contents(found, form.START)[0]["project"]] = rows
    assert by_project == {"p": [1.0, 3.0], "child": [1.0]}


def test_the_lock_is_held_while_the_process_lives(tmp_path: Path) -> None:
    """writer.lock is locked while the script runs, also across a forked child that lives on, and free afterwards."""
    import fcntl

    def is_locked() -> bool:
        path = next((tmp_path / "journals").glob("run-*/writer.lock"))
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    body = SCRIPT + (
        "import time, subprocess\nif os.fork() == 0:\n  time.sleep(30); os._exit(0)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'], close_fds=False)\n"
        "print('up', flush=True)\nsys.stdin.readline()\nos.kill(os.getpid(), 9)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", body], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert is_locked()
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(timeout=30)
        assert not is_locked()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def test_import_loads_next_to_nothing() -> None:
    """`import runyard` imports no grpc, protobuf, numpy or network module, and takes few milliseconds."""
    code = (
        "import sys, time; before = set(sys.modules); start = time.perf_counter(); import runyard; "
        "took = time.perf_counter() - start; import json; "
        "print(json.dumps([sorted(set(sys.modules) - before), took]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded, took_s = json.loads(done.stdout)
    heavy = {
        "grpc",
        "google",
        "numpy",
        "http",
        "urllib",
        "ssl",
        "asyncio",
        "subprocess",
        "runyard_protos",
    }
    assert not heavy & {name.partition(".")[0] for name in loaded}
    assert took_s < 0.05


def test_logging_imports_no_client_library() -> None:
    """A whole offline run needs the standard library only."""
    code = (
        SCRIPT
        + "run.finish()\nprint([m for m in ('grpc', 'google.protobuf', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_sync_happens_within_half_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is synced by the background thread without any further call."""
    synced: list[int] = []
    monkeypatch.setattr("runyard.journal._fdatasync", synced.append)
    run = runyard.init()
    run.log({"a": 1.0})
    deadline_s = time.monotonic() + 5.0
    while not synced and time.monotonic() < deadline_s:
        time.sleep(0.01)  # the thread's clock is the real one
    assert synced
