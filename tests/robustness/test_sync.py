"""`runyard sync` with real processes: repeated, killed, side by side, watching, and from a folder that it cannot write."""

from __future__ import annotations

import functools
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.readback import Readback, bits, readback, wait_until
from tests.integration.yard import Yard
from tests.robustness.traffic import kill_agent

KILLS = 10
ROWS, LONG_ROWS = 60_000, 400_000
TIMEOUT_S = 90
# Logs ROWS rows of two metrics, a file and a summary; as fast as it can, or with a line on stdin for each further row.
SCRIPT = """
import sys, runyard
run_id, rows, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
run = runyard.init(project="sync", id=run_id, mode=mode)
for step in range(rows):
    run.log({"a": step * 0.5, "b": -float(step)})
run.summary["best"] = rows
with open(run_id + ".bin", "wb") as file:
    file.write(run_id.encode() * 1000)
run.save(run_id + ".bin", policy="end")
print("logged", flush=True)
for line in sys.stdin:
    run.log({"a": rows * 0.5, "b": -float(rows)})
    rows += 1
run.finish()
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A server in one process."""
    with Yard(tmp_path_factory.mktemp("yard-sync")) as running:
        yield running


@pytest.fixture
def reader(yard: Yard) -> Iterator[Readback]:
    with readback(yard.grpc) as stubs:
        yield stubs


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "runs"
    kill_agent(tmp_path / "runs")


class Site:
    """Runs scripts and the command over one root."""

    def __init__(self, yard: Yard, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.environment = yard.environment(root, RUNYARD_QUIET="1", XDG_CONFIG_HOME=str(folder))

    def script(self, run_id: str, *, rows: int, mode: str = "offline") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, run_id, str(rows), mode],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def train(self, run_id: str, *, rows: int, mode: str = "offline") -> None:
        """Runs a script to its end."""
        process = self.script(run_id, rows=rows, mode=mode)
        _, told = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, told

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "runyard", "sync", *arguments, str(self.root)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sync(self, *, code: int = 0) -> list[dict[str, Any]]:
        """Runs the command to its end; returns what it says of each run."""
        process = self.command("--json")
        out, told = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == code, (out, told)
        found: list[dict[str, Any]] = json.loads(out)
        return found

    def status(self) -> list[dict[str, Any]]:
        process = self.command("--status", "--json")
        out, told = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, told
        found: list[dict[str, Any]] = json.loads(out)
        return found


@pytest.fixture
def site(yard: Yard, tmp_path: Path, root: Path) -> Site:
    return Site(yard, tmp_path, root)


def assert_stored(reader: Readback, run_id: str, rows: int) -> None:
    """I1, I2, I3, I5 of a run of SCRIPT."""
    path = f"local/sync/{run_id}"
    history = reader.history(path)
    assert history["a"] == [(step, bits(step * 0.5)) for step in range(rows)]
    assert history["b"] == [(step, bits(-float(step))) for step in range(rows)]
    reader.assert_receipt_is_whole(path, points=2 * rows)


def test_twice_is_the_same_run(site: Site, reader: Readback, yard: Yard) -> None:
    """A second sync changes nothing: the same run, the same receipt, and it says so."""
    site.train("twice", rows=2000)
    (before,) = site.status()
    assert (before["state"], before["records_unsent"], before["files_unsent"]) == (
        "unsent",
        2005,
        1,
    )
    (first,) = site.sync()
    receipt, run = reader.receipt("local/sync/twice"), reader.run("local/sync/twice")
    # As if the mark had been lost: everything is sent again.
    (second,) = site.sync()
    assert first == second and first["outcome"] == "complete" and first["files_durable"] == 1
    assert first["records_durable"] == first["records_written"] == receipt.records_durable == 2005
    assert reader.receipt("local/sync/twice") == receipt
    assert reader.run("local/sync/twice") == run
    assert_stored(reader, "twice", 2000)
    (after,) = site.status()
    assert (after["state"], after["records_unsent"], after["files_unsent"]) == ("complete", 0, 0)
    rows = yard.call("query.v1.QueryService/QueryRuns", {"projectPath": "local/sync"})["runs"]
    assert sum(1 for row in rows if row["run"]["runId"] == "twice") == 1


REFUSED_SCRIPT = """
import sys, json, dataclasses, runyard
run = runyard.init(project="sync", id=sys.argv[1], mode=sys.argv[2])
for step in range(50):
    run.log({"a": step})
run.config["large"] = "x" * (5 << 20)
run.log({"a": 50})
run.finish()
print(json.dumps(dataclasses.asdict(run.receipt())))
"""


def test_all_count_the_same(site: Site, reader: Readback) -> None:
    """What the server refuses for good is counted alike by finish(), sync, its status and the receipt of the server."""
    own = {}
    for mode in ("online", "offline"):
        done = subprocess.run(
            [sys.executable, "-c", REFUSED_SCRIPT, f"counts-{mode}", mode],
            env=site.environment, cwd=site.folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
        )  # fmt: skip
        own[mode] = json.loads(done.stdout)
        if mode == "online":
            assert "55 of 56 records durable" in done.stderr
            assert "1 record was refused by the server (53): config_set_json has" in done.stderr
    assert (own["online"]["records_durable"], own["online"]["gaps"]) == (55, [[53, 53]])
    assert (own["offline"]["records_durable"], own["offline"]["records_written"]) == (0, 56)
    synced, listed = site.sync(), site.status()
    for told in (*synced, *listed):
        counts = tuple(told[f"records_{name}"] for name in ("durable", "written", "refused"))
        assert counts == (55, 56, 1), told
    for mode in ("online", "offline"):
        (writer,) = reader.receipt(f"local/sync/counts-{mode}").writers
        assert (writer.records_durable, writer.last_sequence) == (55, 56)
        assert [(gap.first, gap.last) for gap in writer.gaps] == [(53, 53)]


def test_without_its_mark_all_is_sent_again_and_counts_once(site: Site, reader: Readback) -> None:
    """A folder copied before it was sent, as one carries it from another machine: the same run, nothing double."""
    site.train("copied", rows=2000)
    (folder,) = site.root.glob("run-*-copied")
    copy = site.folder / "elsewhere" / folder.name
    shutil.copytree(folder, copy)
    (first,) = site.sync()
    receipt = reader.receipt("local/sync/copied")
    site.root = copy.parent
    (second,) = site.sync()
    assert {**first, "folder": ""} == {**second, "folder": ""}
    assert reader.receipt("local/sync/copied") == receipt
    assert_stored(reader, "copied", 2000)


def test_killed_at_any_moment_it_goes_on(site: Site, reader: Readback) -> None:
    """Ten kills at random moments; the next one goes on, and in the end all is there once."""
    site.train("killed", rows=LONG_ROWS)
    mark = next(site.root.glob("run-*-killed")) / "mark.json"
    chance = random.Random(7)
    durable, resumed_count = 0, 0
    for kill in range(KILLS):
        process = site.command("--json")
        if kill % 3:  # else while it starts
            moved = functools.partial(has_moved, mark, durable, process)
            wait_until(moved, 20, "a sync that sends")
        try:
            process.wait(chance.uniform(0.0, 0.1 if kill % 3 else 0.6))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate(timeout=10)
        (status,) = site.status()
        assert status["records_durable"] >= durable, "I4: the mark went back"
        durable = status["records_durable"]
        resumed_count += 0 < durable < status["records_written"]
    (told,) = site.sync()
    assert told["outcome"] == "complete" and told["records_durable"] == told["records_written"]
    assert resumed_count >= 2, "too few kills came while records were under way"
    assert_stored(reader, "killed", LONG_ROWS)


def has_moved(mark: Path, durable: int, process: subprocess.Popen[str]) -> bool:
    """Returns whether records were acknowledged since, or nothing is left to send."""
    fields = json.loads(mark.read_bytes()) if mark.exists() else {}
    return int(fields.get("durable_sequence") or 0) > durable or process.poll() is not None


def test_two_at_once_and_a_third_beside_a_killed_one(site: Site, reader: Readback) -> None:
    """Of two syncs the second waits for the first; if that dies, it goes on itself. Both say the same."""
    site.train("both", rows=ROWS)
    first, second = site.command("--json"), site.command("--json")
    told = [json.loads(one.communicate(timeout=TIMEOUT_S)[0])[0] for one in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert [one["outcome"] for one in told] == ["complete", "complete"]
    assert_stored(reader, "both", ROWS)
    site.train("heir", rows=ROWS)
    first = site.command("--json")
    mark = next(site.root.glob("run-*-heir")) / "mark.json"
    wait_until(mark.exists, 20, "the first sync to begin")
    second = site.command("--json")
    first.kill()
    first.communicate(timeout=10)
    second.communicate(timeout=TIMEOUT_S)
    assert second.returncode == 0
    assert_stored(reader, "heir", ROWS)


def test_beside_an_agent_and_a_living_process(site: Site, reader: Readback) -> None:
    """What an agent serves is left to it and told; what is offline and lives is sent as far as it is."""
    online = site.script("online", rows=500, mode="online")
    offline = site.script("offline", rows=500)
    for process in (online, offline):
        assert process.stdout is not None and process.stdout.readline() == "logged\n"
    told = {one["folder"].rpartition("-")[2]: one for one in site.sync(code=1)}
    assert told["online"]["outcome"] == "left_to_agent"
    assert told["offline"]["outcome"] == "current" and told["offline"]["records_durable"] >= 500
    assert reader.state("local/sync/offline") == "RUNNING"
    for process in (online, offline):
        process.communicate("\n\n", timeout=TIMEOUT_S)
        assert process.returncode == 0
    told = {one["folder"].rpartition("-")[2]: one for one in site.sync()}
    assert [told[name]["outcome"] for name in ("online", "offline")] == ["complete", "complete"]
    for run_id in ("online", "offline"):
        assert_stored(reader, run_id, 502)
        assert reader.state(f"local/sync/{run_id}") == "FINISHED"


def test_an_agent_that_misses_the_server_is_waited_for(tmp_path: Path, root: Path) -> None:
    """The server is back, which the agent finds out within seconds: until then the command does not give up."""
    late = Yard(tmp_path / "yard")
    site = Site(late, tmp_path, root)
    site.train("early", rows=300, mode="online")
    mark = next(root.glob("run-*-early")) / "mark.json"
    wait_until(
        lambda: json.loads(mark.read_text()).get("server") == "unreachable",
        30,
        "the agent to miss the server",
    )
    with late:
        assert [one["outcome"] for one in site.sync()] == ["complete"]
        with readback(late.grpc) as reader:
            assert_stored(reader, "early", 300)


def test_watching_sends_what_comes(site: Site, reader: Readback) -> None:
    """A run that grows offline is at the server while it grows; new folders are found; Ctrl-C ends it with 0."""
    watch = site.command("--watch")
    first = site.script("grows", rows=100)
    assert first.stdin is not None and first.stdout is not None
    assert first.stdout.readline() == "logged\n"
    try:
        wait_until(lambda: points(reader, "grows") == 200, 30, "the first rows")
        first.stdin.write("\n")
        first.stdin.flush()
        wait_until(lambda: points(reader, "grows") == 202, 30, "the next row of a living process")
        assert reader.state("local/sync/grows") == "RUNNING"
        site.train("later", rows=50)
        wait_until(lambda: reader.state("local/sync/later") == "FINISHED", 30, "a new folder")
        first.communicate(timeout=TIMEOUT_S)
        wait_until(lambda: reader.state("local/sync/grows") == "FINISHED", 30, "the end")
    finally:
        first.kill()
        watch.send_signal(signal.SIGINT)
        _, told = watch.communicate(timeout=20)
    assert watch.returncode == 0, told
    assert "later: synced (55 of 55 records durable, 1 file)" in told
    assert "stopped: 2 runs" in told
    assert_stored(reader, "grows", 101)
    assert_stored(reader, "later", 50)


def test_watching_does_not_keep_agents_away(site: Site, reader: Readback) -> None:
    """While a sync watches, online runs have their own agent, left over ones are sent, and init() is not slowed."""
    site.root.mkdir()
    watch = site.command("--watch")
    try:
        died = site.script("died", rows=200, mode="online")
        assert died.stdout is not None and died.stdout.readline() == "logged\n"
        kill_agent(site.root)
        died.kill()
        died.communicate(timeout=10)
        wait_until(lambda: points(reader, "died") == 400, 30, "what an agent left")
        site.train("next", rows=10, mode="online")
        assert_stored(reader, "next", 10)
    finally:
        watch.terminate()
        _, told = watch.communicate(timeout=20)
    assert watch.returncode == 0, told


def points(reader: Readback, run_id: str) -> int:
    return sum(len(series) for series in reader.history(f"local/sync/{run_id}").values())


@pytest.fixture
def read_only(site: Site) -> Iterator[Site]:
    """A site with one offline run whose root is mounted read-only."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a read-only folder needs root and mount")
    site.train("readonly", rows=300)
    commands = ([mount, "--bind", str(site.root), str(site.root)], [mount, "-o", "remount,bind,ro", str(site.root)])  # fmt: skip
    mounted = False
    try:
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            if done.returncode != 0:
                pytest.skip(f"no read-only mount can be had here: {done.stderr.strip()}")
            mounted = True
        yield site
    finally:
        if mounted:  # also where it stayed writable: it would keep the folder from being removed
            subprocess.run(["umount", "-l", str(site.root)], timeout=10, check=True)


def test_a_read_only_folder_is_sent(read_only: Site, reader: Readback) -> None:
    """Where nothing can be kept it is said once, all is sent, and a repeat counts nothing twice."""
    for _ in range(2):
        process = read_only.command()
        _, told = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, told
        assert told.count("cannot be written (Read-only file system)") == 1, told
        assert "readonly: synced (305 of 305 records durable, 1 file)" in told
    assert_stored(reader, "readonly", 300)


def test_a_terminal_shows_a_bar(site: Site) -> None:
    """On a terminal a bar tells share, records, bytes and rate, and is gone at the end; elsewhere there is none."""
    site.train("shown", rows=ROWS)
    main, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runyard", "sync", site.root],
        cwd=site.folder,
        env={**site.environment, "TERM": "xterm", "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        stderr=end,
    )
    os.close(end)
    told = b""
    try:
        while piece := os.read(main, 4096):
            told += piece
    except OSError:  # how a terminal says that nobody writes any more
        pass
    os.close(main)
    assert process.wait(TIMEOUT_S) == 0
    lines = told.decode().replace("\r\n", "\n")
    assert re.search(r"\d+ % [\d,]+ of [\d,]+ records, .* of .* MiB, .*/s", lines), lines
    assert re.search(
        r"\x1b\[Krunyard: run-\S+: synced \(60,0(\d\d) of 60,0\1 records .*\)\n$", lines
    ), lines
    quiet = site.command()
    _, told_plainly = quiet.communicate(timeout=TIMEOUT_S)
    assert "\x1b" not in told_plainly and "synced" in told_plainly
