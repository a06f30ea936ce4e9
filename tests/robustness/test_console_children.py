"""Children of a training process that begin runs of their own: each line is kept in one run, and shown once."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.console_journal import kept
from tests.integration.readback import wait_until
from tests.robustness.test_console import TIMEOUT_S, environment, keeper_of

SCRIPT = """
import multiprocessing, os, subprocess, sys
import runyard

def begin(name):
    return runyard.init(project="console", id=name, mode="offline", settings={"silent": True})

def child(name="child", below=()):
    print(name, "before")
    os.system("echo " + name + " shell before")
    run = begin(name)
    print(name, "within")
    print(name, "stderr", file=sys.stderr)
    os.system("echo " + name + " shell within")
    for one in below:
        if one == "vanish":
            sys.stdout.flush()
            os._exit(0)
        spawn(one)
    run.finish()
    print(name, "after")

def spawn(way, name="child", below=()):
    if way == "fork":
        pid = os.fork()
        if pid == 0:
            child(name, below)
            sys.stdout.flush()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    elif way == "program":
        environ = {"RUNYARD_DIR": os.environ["RUNYARD_DIR"], "PATH": os.environ["PATH"]}
        subprocess.run([sys.executable, __file__, name], env=environ, check=True)
    else:
        process = multiprocessing.get_context(way).Process(target=child, args=(name, below))
        process.start()
        process.join()
        assert process.exitcode == 0

if __name__ == "__main__":
    if len(sys.argv) > 2:
        run = begin("parent")
        print("parent within")
        if sys.argv[2] == "wait":
            sys.stdin.readline()
        if sys.argv[2] == "finish":
            run.finish()
        spawn(sys.argv[1], "child", sys.argv[3:])
        print("parent again")
        run.finish()
        print("parent after")
    else:
        child(sys.argv[1])
"""
OF_CHILD = ["child within", "child shell within", "child stderr"]
OF_PARENT = ["parent within", "child before", "child shell before", "child after", "parent again"]
WAYS = ("fork", "multiprocessing fork", "spawn", "forkserver", "program")


def begin(folder: Path, *arguments: str, out: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Starts the script; its stdout and stderr go to one place."""
    script = folder / "train.py"
    script.write_text(SCRIPT)
    words = [one.removeprefix("multiprocessing ") for one in arguments]
    if arguments[0] == "multiprocessing fork":
        script.write_text(SCRIPT.replace('if way == "fork"', 'if way == "os.fork"'))
    return subprocess.Popen(
        [sys.executable, str(script), *words],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=subprocess.STDOUT,
    )


def lines_of(folder: Path, name: str) -> list[str]:
    """Returns what the run of this name has kept."""
    (console,) = (folder / "runs").glob(f"run-*-{name}/console")
    lines, ends = kept(console)
    assert len(ends) == 1
    return [text for _, text in lines.values()]


def check_once(folder: Path, shown: bytes, *, parent: list[str], child: list[str]) -> None:
    """Each line is in the log of one run, and was shown once."""
    assert Counter(parent) == Counter(lines_of(folder, "parent"))
    assert Counter(child) == Counter(lines_of(folder, "child"))
    assert Counter([*parent, *child, "parent after"]) == Counter(shown.decode().splitlines())


@pytest.mark.parametrize("way", WAYS)
def test_what_a_child_prints_within_its_run_is_its_own(tmp_path: Path, way: str) -> None:
    """Lines of a child's run are not its parent's; what it prints before and after its run is."""
    process = begin(tmp_path, way, "go")
    shown, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, shown
    check_once(tmp_path, shown, parent=OF_PARENT, child=OF_CHILD)


@pytest.mark.parametrize("way", ["fork", "program"])
def test_children_on_a_terminal(tmp_path: Path, way: str) -> None:
    """The same where the script runs on a terminal."""
    ours, theirs = pty.openpty()
    process = begin(tmp_path, way, "go", out=theirs)
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], TIMEOUT_S)[0]:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # nobody has the other end any more
            break
    os.close(ours)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, shown
    check_once(tmp_path, shown, parent=OF_PARENT, child=OF_CHILD)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_a_child_of_a_run_that_has_ended(tmp_path: Path, way: str) -> None:
    """A child that inherits nothing but what its parent printed to prints there, and keeps its own lines."""
    process = begin(tmp_path, way, "finish")
    shown, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, shown
    assert lines_of(tmp_path, "parent") == ["parent within"]
    assert Counter(OF_CHILD) == Counter(lines_of(tmp_path, "child"))
    assert Counter([*OF_PARENT, *OF_CHILD, "parent after"]) == Counter(shown.decode().splitlines())


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_a_child_that_ends_without_a_word(tmp_path: Path, way: str) -> None:
    """A child that leaves past finish(), as those of multiprocessing do: its last lines are its own, and shown once."""
    process = begin(tmp_path, way, "go", "vanish")
    shown, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, shown
    parent = [line for line in OF_PARENT if line != "child after"]
    check_once(tmp_path, shown, parent=parent, child=OF_CHILD)


def test_a_child_of_a_child(tmp_path: Path) -> None:
    """A run within a run within a run: what the innermost prints goes to the terminal at once, and is kept there alone."""
    process = begin(tmp_path, "fork", "go", "program")
    shown, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, shown
    lines = {}
    for console in (tmp_path / "runs").glob("run-*/console"):
        lines[console.parent.name] = Counter(text for _, text in kept(console)[0].values())
    innermost = Counter(OF_CHILD)
    outside = Counter(["child before", "child shell before", "child after"])
    expected = [Counter(OF_PARENT), innermost + outside, innermost]
    assert sorted(lines.values(), key=str) == sorted(expected, key=str)
    assert sum(expected, Counter(["parent after"])) == Counter(shown.decode().splitlines())


def test_a_child_meets_a_keeper_that_was_killed(tmp_path: Path) -> None:
    """Where the parent's keeper has just died, the child's waits for the next one: nothing is kept twice."""
    process = begin(tmp_path, "program", "wait")

    def has_kept() -> bool:
        segments = (tmp_path / "runs").glob("run-*/console/*.seg")
        return any(kept(segment.parent)[0] for segment in segments)

    wait_until(has_kept, 30, "the first line to be kept")
    keeper = keeper_of(process)
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)
    shown, _ = process.communicate(b"go\n", timeout=TIMEOUT_S)
    assert process.returncode == 0, shown
    check_once(tmp_path, shown, parent=OF_PARENT, child=OF_CHILD)
