"""The console of real processes: all that is printed is kept and shown, and nothing that happens to it breaks training."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from runyard.console.lines import NOTE, STDERR, STDOUT
from tests.console_journal import kept
from tests.integration.readback import wait_until
from tests.integration.yard import ORIGIN_OFF

TIMEOUT_S = 60
HEAD = """
import ctypes, faulthandler, logging, os, signal, subprocess, sys, threading, time
import runyard
run = runyard.init(project="console", mode="offline", settings={"silent": True})
"""
TAIL = """
run.finish()
"""


@dataclass(frozen=True)
class Ended:
    """What became of a script."""

    code: int
    out: bytes
    err: bytes
    lines: dict[int, tuple[int, str]]

    def texts(self, *streams: int) -> list[str]:
        wanted = streams or (STDOUT, STDERR, NOTE)
        return [text for _, (stream, text) in sorted(self.lines.items()) if stream in wanted]


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, **ORIGIN_OFF, "RUNYARD_DIR": str(folder / "runs"), **more}


def begin(folder: Path, body: str, **more: str) -> subprocess.Popen[bytes]:
    """Starts a script of this body, without an end of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + body],
        cwd=folder,
        env=environment(folder, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def console_of(folder: Path) -> Path:
    return next((folder / "runs").glob("run-*")) / "console"


def ended(folder: Path, process: subprocess.Popen[bytes]) -> Ended:
    """Waits for the script, and for its keeper, which holds the other ends of its pipes until it has passed on all."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    lines, ends = kept(console_of(folder))
    assert len(ends) == 1
    assert ends[0]["line_count"] == len(lines)
    assert sorted(lines) == list(range(1, len(lines) + 1))
    return Ended(process.returncode, out, err, lines)


WAYS = {
    "python": ('print("here")', STDOUT, "here"),
    "stderr": ('print("here", file=sys.stderr)', STDERR, "here"),
    "logging": ('logging.basicConfig(); logging.warning("here")', STDERR, "WARNING:root:here"),
    "descriptor": ('os.write(1, b"here\\n")', STDOUT, "here"),
    "c library": ('ctypes.CDLL(None).puts(b"here")', STDOUT, "here"),
    "child": ('subprocess.run(["sh", "-c", "echo here"])', STDOUT, "here"),
    "grandchild": ('subprocess.run(["sh", "-c", "sh -c \'echo here >&2\' & wait"])', STDERR, "here"),
    "thread": ('t = threading.Thread(target=print, args=("here",)); t.start(); t.join()', STDOUT, "here"),
    "forked child": ('pid = os.fork()\nif pid == 0:\n    print("here"); sys.stdout.flush(); os._exit(0)\nos.waitpid(pid, 0)', STDOUT, "here"),
    "without a newline": ('print("here", end="")', STDOUT, "here"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_to_print_are_kept_and_shown(tmp_path: Path, way: str) -> None:
    """What Python, C, children and forks print is kept as one line of its stream, and is shown as it was."""
    body, stream, text = WAYS[way]
    done = ended(tmp_path, begin(tmp_path, body + TAIL))
    assert done.code == 0, done.err
    assert {1: (stream, text)} == done.lines
    shown = done.out if stream == STDOUT else done.err
    assert shown.decode().rstrip("\n") == text


ENDS = {
    "kill -9": ('print("last words"); os.kill(os.getpid(), 9)', -9, STDOUT, "last words"),
    "os._exit": ('print("last words"); os._exit(3)', 3, STDOUT, "last words"),
    "abort": ('os.write(2, b"terminate called\\n"); os.abort()', -6, STDERR, "terminate called"),
    "segfault": ("faulthandler.enable(); ctypes.string_at(0)", -11, STDERR, "Fatal Python error: Segmentation fault"),
    "exception": ("raise ValueError('too hot')", 1, STDERR, "ValueError: too hot"),
    "sys.exit": ('print("last words"); sys.exit("no more")', 1, STDERR, "no more"),
    "SIGTERM": ('print("last words"); os.kill(os.getpid(), signal.SIGTERM)', -15, STDOUT, "last words"),
    "SIGINT": ('print("last words"); os.kill(os.getpid(), signal.SIGINT); time.sleep(9)', -2, STDERR, "KeyboardInterrupt"),
    "another program": ('os.execvp("sh", ["sh", "-c", "echo last words"])', 0, STDOUT, "last words"),
}  # fmt: skip


@pytest.mark.parametrize("way", ENDS)
def test_last_words_are_kept_and_shown(tmp_path: Path, way: str) -> None:
    """However the process ends, what it printed before is kept, and shown where it would have been without us."""
    body, code, stream, text = ENDS[way]
    done = ended(tmp_path, begin(tmp_path, 'print("first")\n' + body))
    assert code == done.code
    assert "first" in done.texts(STDOUT)
    assert text in done.texts(stream)
    shown = done.out if stream == STDOUT else done.err
    assert text in shown.decode().splitlines()


def test_a_bar_is_one_line_and_shown_as_it_was(tmp_path: Path) -> None:
    """A progress bar is kept as one line in its last state; its bytes are passed on untouched."""
    bar = "".join(
        f"\\r{percent:3}%|\\x1b[32m{'#' * (percent // 10)}\\x1b[0m" for percent in range(101)
    )
    body = f'sys.stderr.write("{bar}\\n"); print("done")'
    done = ended(tmp_path, begin(tmp_path, body + TAIL))
    assert done.texts(STDERR) == [f"100%|\x1b[32m{'#' * 10}\x1b[0m"]
    assert done.err.count(b"\r") == 101


def test_a_terminal_stays_a_terminal(tmp_path: Path) -> None:
    """Where stdout is a terminal, programs find one, of the same size, and its bytes arrive untouched."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    body = """
size = os.get_terminal_size(1)
print("tty", os.isatty(1), os.isatty(2), size.columns, size.lines)
subprocess.run([sys.executable, "-c", "import sys; print('child', sys.stdout.isatty())"])
sys.stdout.write("\\rbar\\r\\n")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + body + TAIL],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], TIMEOUT_S)[0]:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        shown += data
    os.close(ours)
    assert process.wait(TIMEOUT_S) == 0
    lines, _ = kept(console_of(tmp_path))
    expected = ["tty True True 77 33", "child True", "bar"]
    assert expected == [text for _, text in lines.values()]
    assert shown == b"tty True True 77 33\r\nchild True\r\n\rbar\r\r\n"


def test_a_closed_terminal_ends_nothing(tmp_path: Path) -> None:
    """When whoever read stdout and stderr is gone, the script goes on, and all is kept."""
    body = 'print("first")\nsys.stdin.read()\nfor number in range(20_000): print("line", number)\nprint("late", file=sys.stderr)'
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + body + TAIL],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stderr and process.stdin
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.close()
    assert process.wait(TIMEOUT_S) == 0
    lines, _ = kept(console_of(tmp_path))
    texts = [text for _, text in sorted(lines.values(), key=str)]
    assert len(texts) == 20_002
    assert {"first", "line 19999", "late"} <= set(texts)


def test_a_pipe_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """Where nobody reads what is printed, it is not shown after a while, all of it is kept, and the script ends."""
    body = 'for number in range(100_000): print("a line of some length, number", number)'
    process = begin(tmp_path, body + TAIL)
    try:
        assert process.wait(TIMEOUT_S) == 0
        lines, _ = kept(console_of(tmp_path))
        assert len(lines) == 100_000
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)


def test_code_that_gives_way_to_nobody_is_read(tmp_path: Path) -> None:
    """Megabytes that C code prints while it holds the interpreter do not lock up."""
    body = r"""
text = b"x" * 99 + b"\n"
text *= 30_000
held = ctypes.PyDLL(None)  # calls keep the interpreter's lock
held.write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
held.write.restype = ctypes.c_ssize_t
assert held.write(1, text, len(text)) == len(text)
"""
    done = ended(tmp_path, begin(tmp_path, body + TAIL))
    assert done.code == 0, done.err
    assert len(done.lines) == 30_000
    assert len(done.out) == 3_000_000


def keeper_of(process: subprocess.Popen[bytes]) -> int | None:
    """Returns the pid of the process's keeper."""
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "console.keeper"], capture_output=True, text=True
    )
    return int(found.stdout.split()[-1]) if found.stdout else None


def test_a_killed_keeper_is_replaced(tmp_path: Path) -> None:
    """When the keeper dies, whoever prints is not told of a broken pipe, and another one goes on."""
    body = """
for number in range(3_000):
    print("line", number)
    time.sleep(0.001)
"""
    process = begin(tmp_path, body + TAIL)
    killed: list[int] = []

    def kill_next() -> bool:
        pid = keeper_of(process)
        if (
            pid is not None
            and pid not in killed
            and (console_of(tmp_path) / "keeper.lock").exists()
        ):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        return len(killed) == 2

    wait_until(kill_next, 30, "two keepers to be killed")
    done = ended(tmp_path, process)
    assert done.code == 0, done.err
    numbers = [
        int(text.split()[-1]) for text in done.texts(STDOUT) if re.fullmatch(r"line \d+", text)
    ]
    assert numbers == sorted(set(numbers))
    # What a keeper had in its hands when it was killed is gone; it hands on within a moment.
    assert len(numbers) > 2_800
    assert numbers[-1] == 2_999


def test_a_flood_is_bounded_and_counted(tmp_path: Path) -> None:
    """Hundreds of megabytes as fast as they come: the script ends, memory stays bounded, what is not kept is counted and named."""
    body = """
text = ("x" * 99 + "\\n") * 1_000
for _ in range(4_000): sys.stdout.write(text)
sys.stderr.write("ready"); sys.stderr.flush()
sys.stdin.read()
"""
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + body + TAIL],
            cwd=tmp_path,
            env=environment(tmp_path, RUNYARD_CONSOLE_BYTES_PER_S_MAX="1 MiB"),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
        )
        assert process.stderr and process.stdin
        assert process.stderr.read(5) == b"ready"
        pid = keeper_of(process)
        status = Path(f"/proc/{pid}/status").read_text()
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
        process.stderr.close()
    peak_kb = int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
    assert peak_kb < 80_000
    assert (tmp_path / "out").stat().st_size == 400_000_000
    lines, ends = kept(console_of(tmp_path))
    notes = [text for stream, text in lines.values() if stream == NOTE]
    assert notes and "are not kept here" in notes[0]
    plain = sum(stream == STDOUT for stream, _ in lines.values())
    assert plain + ends[0]["lines_dropped"] == pytest.approx(4_000_000, abs=20)


def test_python_alone_where_asked(tmp_path: Path) -> None:
    """With console="wrap" what Python prints is kept, what children print is shown only."""
    body = 'print("here"); print("there", file=sys.stderr); subprocess.run(["echo", "child"])'
    done = ended(tmp_path, begin(tmp_path, body + TAIL, RUNYARD_CONSOLE="wrap"))
    assert done.lines == {1: (STDOUT, "here"), 2: (STDERR, "there")}
    assert sorted(done.out.split()) == [b"child", b"here"]


def test_nothing_is_kept_where_that_is_asked(tmp_path: Path) -> None:
    """With console="off" nothing is taken."""
    process = begin(tmp_path, 'print("here")' + TAIL, RUNYARD_CONSOLE="off")
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert out == b"here\n"
    assert not console_of(tmp_path).exists()


def test_each_run_of_a_process_has_its_own_lines(tmp_path: Path) -> None:
    """What is printed between and after runs is nobody's; each run has what was printed while it was open."""
    body = """
print("one")
run.finish()
print("between")
with runyard.init(project="console", mode="offline", settings={"silent": True}):
    print("two")
print("after")
"""
    process = begin(tmp_path, body)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (0, b"one\nbetween\ntwo\nafter\n"), err
    texts = [
        [text for _, text in kept(folder)[0].values()]
        for folder in sorted(
            (tmp_path / "runs").glob("run-*/console"), key=lambda f: f.stat().st_mtime
        )
    ]
    assert sorted(texts) == [["one"], ["two"]]


def test_no_keeper_is_left_of_a_run_that_has_ended(tmp_path: Path) -> None:
    """A process that has run after run, as a sweep, is followed by one keeper at a time, and by no dead one."""
    body = """
run.finish()
for number in range(5):
    runyard.init(project="console", mode="offline", settings={"silent": True}).finish()
os.write(1, subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "stat=,args="], capture_output=True).stdout)
"""
    out, err = begin(tmp_path, body).communicate(timeout=TIMEOUT_S)
    children = [line.split(None, 1) for line in out.decode().splitlines()]
    assert not [one for one in children if one[0].startswith("Z")], (out, err)
    samplers = [one for one in children if "offline_sampling" in one[1]]
    # ps itself, and at most one keeper that is just ending; one process samples for all runs.
    assert len(children) - len(samplers) <= 2, (out, err)
    assert len(samplers) <= 1, (out, err)


def test_children_that_live_on_are_shown(tmp_path: Path) -> None:
    """A child that goes on after the run has ended prints to where it always did; nobody waits for it."""
    body = """
subprocess.Popen(["sh", "-c", "read word < wait; echo later"])
print("first")
"""
    os.mkfifo(tmp_path / "wait")
    started_s = time.monotonic()
    process = begin(tmp_path, body + TAIL)
    assert process.wait(TIMEOUT_S) == 0
    assert time.monotonic() - started_s < TIMEOUT_S / 2
    (tmp_path / "wait").write_text("go\n")
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert out == b"first\nlater\n"
    assert kept(console_of(tmp_path))[0] == {1: (STDOUT, "first")}
