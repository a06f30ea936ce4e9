"""finish(): how long it waits, for what, and what it says; the answers of an agent that the test plays on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard import run_end, run_start
from runyard.agent_link import AgentLink
from runyard.run_folder import RunFolder
from runyard.settings import ResolvedSettings
from runyard.terminal import Terminal


class World:
    """A clock that moves when somebody sleeps, and an agent that writes marks at given times."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.now_s = 0.0
        self.marks: list[tuple[float, dict[str, Any]]] = []
        self.interrupt_at_s = float("inf")

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        while self.marks and self.marks[0][0] <= self.now_s:
            write_json(self.folder.path / "mark.json", self.marks.pop(0)[1])
        if self.now_s >= self.interrupt_at_s:
            raise KeyboardInterrupt


class PlayedLink(AgentLink):
    """A link to the agent that the test plays: nothing is started, starts are counted."""

    starts = 0
    gone = ""

    def start(self) -> str:
        self.starts += 1
        self._start_time_s = time.monotonic()
        return ""

    def failure(self) -> str:
        return self.gone


def write_json(path: Path, fields: dict[str, Any]) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(fields))
    partial.replace(path)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "abc", 0)


@pytest.fixture
def world(folder: RunFolder) -> World:
    return World(folder)


@pytest.fixture
def wait(world: World, tmp_path: Path) -> Callable[..., run_end.Outcome]:
    def wait(link: AgentLink | None = None, **settings: Any) -> run_end.Outcome:
        resolved = ResolvedSettings(**settings)
        return run_end.await_durable(
            world.folder, link or PlayedLink(tmp_path, resolved), resolved, Terminal(),
            records_written=10, records_dropped=0, monotonic=world.monotonic, sleep=world.sleep,
        )  # fmt: skip

    return wait


def mark(**fields: Any) -> dict[str, Any]:
    return {"version": 1, "server": "reachable", "update_unix_ns": time.time_ns(), **fields}


def test_it_returns_when_all_is_durable(world: World, wait: Callable[..., run_end.Outcome]) -> None:
    """finish() returns as soon as the mark says complete."""
    world.marks = [
        (1.0, mark(durable_sequence=3)),
        (2.0, mark(durable_sequence=10, is_complete=True, files_durable=2)),
    ]
    outcome = wait()
    assert outcome.is_complete and (outcome.records_durable, outcome.files_durable) == (10, 2)
    assert 2.0 <= world.now_s < 2.2 and outcome.reason == ""


def test_what_was_refused_is_not_durable(
    world: World, wait: Callable[..., run_end.Outcome]
) -> None:
    """Records that the server refused for good end the wait like durable ones, but are not counted as such."""
    refusal = {"refused_ranges": [[2, 2], [5, 6]], "message": "tags are 300"}
    world.marks = [(1.0, mark(durable_sequence=10, is_complete=True, **refusal))]
    outcome = wait()
    assert outcome.is_complete and (outcome.records_durable, outcome.records_refused) == (7, 3)
    assert outcome.refusal == "tags are 300"


def test_it_waits_no_longer_than_it_may(world: World, wait: Callable[..., run_end.Outcome]) -> None:
    """finish_timeout_s bounds the wait; what is durable by then is told."""
    world.marks = [(1.0, mark(durable_sequence=4))]
    outcome = wait(finish_timeout_s=7.0)
    assert (outcome.is_complete, outcome.records_durable) == (False, 4)
    assert outcome.reason == "not done after 7 s" and 7.0 <= world.now_s < 7.2


def test_a_server_that_is_away_is_not_waited_for(
    world: World, wait: Callable[..., run_end.Outcome]
) -> None:
    """When the agent says unreachable, a few seconds are enough."""
    world.marks = [(0.5, mark(server="unreachable"))]
    outcome = wait()
    assert "does not answer" in outcome.reason and world.now_s < 6.0


def test_a_refusal_ends_the_wait(world: World, wait: Callable[..., run_end.Outcome]) -> None:
    """What the server refuses for good is told at once."""
    world.marks = [(0.5, mark(server="refused", message="run was deleted"))]
    assert wait().reason == "the server refuses it: run was deleted"
    assert world.now_s < 1.0


def test_an_agent_that_fails_ends_the_wait(
    wait: Callable[..., run_end.Outcome], tmp_path: Path
) -> None:
    """An agent that cannot run is told, not waited for."""
    link = PlayedLink(tmp_path, ResolvedSettings())
    link.gone = "the agent ended with code 1"
    assert wait(link).reason == "the agent ended with code 1"


def test_ctrl_c_ends_the_wait(world: World, wait: Callable[..., run_end.Outcome]) -> None:
    """Ctrl-C while waiting ends the wait, not with a traceback."""
    world.marks = [(0.5, mark(durable_sequence=2))]
    world.interrupt_at_s = 3.0
    outcome = wait()
    assert (outcome.reason, outcome.records_durable) == ("interrupted", 2)


@pytest.mark.parametrize(
    ("fields", "is_started"),
    [
        (None, True),
        (mark(durable_sequence=1, update_unix_ns=0), True),
        (mark(durable_sequence=1, update_unix_ns=None), False),
        (mark(durable_sequence=10, update_unix_ns=0), False),
        (mark(durable_sequence=1, update_unix_ns=0, server="refused"), False),
        (mark(durable_sequence=1, update_unix_ns=0, is_complete=True), False),
    ],
)
def test_a_dead_agent_is_replaced(
    tmp_path: Path, folder: RunFolder, fields: dict[str, Any] | None, is_started: bool
) -> None:
    """Another agent is started if there is something to send, no mark moves, and none is alive."""
    link = PlayedLink(tmp_path, ResolvedSettings())
    if fields is not None:
        stamp = time.time_ns() if fields["update_unix_ns"] is None else 0
        write_json(folder.path / "mark.json", {**fields, "update_unix_ns": stamp})
    (tmp_path / "agent.lock").write_text("999999999\n")
    link.revive(folder.read_mark(), 10)
    assert bool(link.starts) is is_started
    link.revive(folder.read_mark(), 10)
    assert link.starts <= 1  # not twice in a row


def test_damaged_answers_are_none(folder: RunFolder) -> None:
    """Files that are not there, empty or no JSON object are no answers."""
    for content in (None, b"", b"{", b"[]", b"\xff"):
        if content is not None:
            (folder.path / "run.json").write_bytes(content)
            (folder.path / "mark.json").write_bytes(content)
        assert folder.read_answer() is None and folder.read_mark() is None


ANSWER = {
    "version": 1, "path": "e/p/abc", "run_key": "1", "writer": 1, "attempt": 2, "display_name": "calm-sea-3",
    "url": "http://x/e/p/runs/abc", "project_url": "http://x/e/p", "is_resumed": True, "next_step": 7, "error": None,
}  # fmt: skip


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs go online to an agent that the test plays."""
    monkeypatch.setattr(run_start, "AgentLink", PlayedLink)
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path))
    monkeypatch.setenv("RUNYARD_FINISH_TIMEOUT_S", "0.05")
    return tmp_path


def answering(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, fields: dict[str, Any]
) -> None:
    def start(self: PlayedLink) -> str:
        for folder in root.glob("run-*"):
            write_json(folder / name, fields)
        return ""

    monkeypatch.setattr(PlayedLink, "start", start)


def test_a_resumed_run_goes_on_at_its_step(online: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's name, addresses and next step are the run's; the step is recorded."""
    answering(online, monkeypatch, "run.json", ANSWER)
    run = runyard.init(id="abc", resume="must")
    try:
        assert (run.name, run.path, run.url, run.resumed) == (
            "calm-sea-3",
            "e/p/abc",
            ANSWER["url"],
            True,
        )
        assert (run.step, run.starting_step, run.project_url) == (7, 7, "http://x/e/p")
        run.log({"a": 1.0})
        assert run.step == 8
    finally:
        run.finish()


def test_a_refused_start_is_its_error(online: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """init() raises the class that the server's reason names, and no run is active."""
    error = {"reason": "RUN_NOT_FOUND", "message": "there is no run e/p/abc to resume"}
    answering(online, monkeypatch, "run.json", {"version": 1, "error": error})
    with pytest.raises(runyard.errors.NotFound, match="no run e/p/abc") as caught:
        runyard.init(id="abc", resume="must")
    assert caught.value.reason == "RUN_NOT_FOUND" and runyard.run is None


def test_a_server_that_is_away_is_said_once(
    online: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """init() returns at once; the run has its own name until the server gives one."""
    answering(
        online, monkeypatch, "mark.json", mark(server="unreachable", message="nobody is there")
    )
    begin_s = time.monotonic()
    run = runyard.init(project="p")
    assert time.monotonic() - begin_s < 5.0
    assert run.name == run.id and run.url == f"http://127.0.0.1:8080/local/p/runs/{run.id}"
    write_json(next(online.glob("run-*")) / "run.json", ANSWER)
    assert run.name == "calm-sea-3"
    run.finish()
    err = capsys.readouterr().err
    assert err.count("nobody is there") == 1 and "runyard sync" in err


def test_files_that_are_being_uploaded_are_shown(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files, bytes, rate and time left; outside of a terminal a line now and then."""
    files = {"files_total": 3, "file_bytes_total": 4 << 30}
    world.marks = [
        (
            t / 2,
            mark(durable_sequence=9, files_settled=1, file_bytes_done=int(t * (50 << 20)), **files),
        )
        for t in range(1, 41)
    ] + [(21.0, mark(durable_sequence=10, is_complete=True, files_durable=3))]
    link = PlayedLink(tmp_path, ResolvedSettings())
    outcome = run_end.await_durable(
        world.folder, link, ResolvedSettings(), Terminal(), records_written=10, records_dropped=0,
        monotonic=world.monotonic, sleep=world.sleep,
    )  # fmt: skip
    assert outcome.is_complete
    lines = [line for line in capsys.readouterr().err.splitlines() if "uploading" in line]
    assert len(lines) == 2
    assert "uploading 1 of 3 files, " in lines[0]
    assert "of 4.0 GiB, 10" in lines[0]
    assert lines[0].endswith(" MiB/s, 30 s left")


def test_it_waits_on_while_files_move(world: World, wait: Callable[..., run_end.Outcome]) -> None:
    """The longest wait of finish() is no limit for large files; it ends when no byte moves any more."""
    files = {"files_total": 1, "file_bytes_total": 1000}
    world.marks = [
        (float(t), mark(durable_sequence=9, file_bytes_done=t, **files)) for t in range(1, 201)
    ]
    outcome = wait(finish_timeout_s=60.0)
    assert outcome.reason.startswith("not done after")
    assert 214 < world.now_s < 217


def test_why_a_file_failed_is_told(world: World, wait: Callable[..., run_end.Outcome]) -> None:
    """The receipt names the last failure and where the others stand."""
    why = "file a was not uploaded: Permission denied"
    world.marks = [(1.0, mark(is_complete=True, durable_sequence=10, files_failed=1, message=why))]
    lines = run_end.outcome_lines(wait(), world.folder.path)
    [line] = [line for line in lines if "could not be uploaded" in line]
    assert line.startswith("1 file could not be uploaded; ")
    assert line.endswith(why)
