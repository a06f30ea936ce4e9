"""Answers of the agent about artifacts that its disk refuses: nothing is lost, and whoever waits is told, in bounded time."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyard.agent.run import COMPLETE
from runyard.artifacts.pending import SILENT_S, Pending, hand_over
from runyard.artifacts.records import VersionRecord
from runyard.errors import Error, FailedPrecondition, ResourceExhausted, Unavailable
from runyard.run_end import Outcome, outcome_lines
from runyard.run_folder import REACHABLE, UNREACHABLE, Mark
from tests.simulation import loop as virtual
from tests.unit.sdk.agent_fakes import Disk, FakeServer, Trainer, upload_of
from tests.unit.sdk.test_artifact_uploads import answer_of, artifact_of, log

VERSION = VersionRecord(
    "e/p", "data", "dataset", 0, ("latest",), (), "", "{}", "00", 1, 1, 1, "e/p/r", 1.0, 1.0, None
)


class RefusingDisk(Disk):
    """A disk that cannot write files whose names end so."""

    def __init__(self, *endings: str) -> None:
        super().__init__()
        self.refused = endings

    def replace(self, path: str, content: bytes, *, is_synced: bool) -> None:
        if path.endswith(self.refused):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        super().replace(path, content, is_synced=is_synced)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("RUNYARD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_so():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it does not come about")


@pytest.mark.parametrize("is_refused", [False, True])
def test_an_answer_that_cannot_be_noted_is_in_the_mark(tmp_path: Path, is_refused: bool) -> None:
    """The mark has it meanwhile; it is noted as soon as that can be, and what was handed over goes then."""
    disk, fake = RefusingDisk(".json"), FakeServer()
    trainer = Trainer(tmp_path, disk)
    request_id = log(trainer, artifact_of({"a": b"x"}, tmp_path))
    if is_refused:
        fake.refuse_draft = FailedPrecondition("no " * 500, reason="ARTIFACT_TYPE_MISMATCH")
    disk.refused = (f"{request_id}.json",)

    async def main() -> tuple[Any, dict[str, Any]]:
        upload = asyncio.ensure_future(upload_of(trainer, disk, fake).run())
        await until(lambda: bool((trainer.folder / "mark.json").exists()))
        await until(lambda: bool(trainer.mark()["artifacts_unnoted"]))
        told = trainer.mark()["artifacts_unnoted"][request_id]
        assert (trainer.folder / "artifacts" / f"{request_id}.manifest").exists()
        disk.refused = ("nothing",)
        await until(lambda: not trainer.mark()["artifacts_unnoted"])
        trainer.finish()
        return await upload, told

    outcome, told = virtual.run(main())
    assert outcome == COMPLETE
    answer = answer_of(trainer, request_id)
    if is_refused:
        assert answer["error"]["message"] == "no " * 500
        assert told["error"]["reason"] == "ARTIFACT_TYPE_MISMATCH"
        assert len(told["error"]["message"]) == 200
    else:
        assert told == {"path": "e/p/data:v0"} and answer["path"] == "e/p/data:v0"
        assert not list((trainer.folder / "artifacts" / "staged").iterdir())


@pytest.mark.parametrize("kind", ["artifact", "file"])
def test_a_record_that_cannot_be_noted_holds_the_mark(tmp_path: Path, kind: str) -> None:
    """An agent that is killed then has the next one read the record again: what was logged is sent, once."""
    disk, fake = RefusingDisk(".request", "files.json"), FakeServer()
    trainer = Trainer(tmp_path, disk)
    (tmp_path / "model").write_bytes(b"model")
    if kind == "artifact":
        log(trainer, artifact_of({"a": b"x"}, tmp_path))
        fake.create_draft = never  # type: ignore[method-assign]  # a server that does not answer that call
    else:
        trainer.file(tmp_path / "model", "end")
    held = trainer.journal.sequence
    trainer.log(1)

    async def killed() -> None:
        upload = upload_of(trainer, disk, fake)
        running = asyncio.ensure_future(upload.run())
        await until(lambda: upload.mark.durable_sequence == trainer.journal.sequence)
        await asyncio.sleep(5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(killed())
    assert trainer.mark()["durable_sequence"] == held - 1
    if kind == "artifact":
        del fake.create_draft
    disk.refused = ("nothing",)
    trainer.finish()

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert virtual.run(main()) == COMPLETE
    assert trainer.mark()["durable_sequence"] == trainer.journal.sequence
    if kind == "artifact":
        assert [one.path for one in fake.versions["data"]] == ["e/p/data:v0"]
    else:
        assert fake.files["model"] == b"model"


async def never(*_: Any) -> Any:
    await asyncio.Event().wait()


def test_room_for_an_answer_is_made_when_it_is_logged(tmp_path: Path) -> None:
    """What the agent writes later fits into files that are there; such that were never asked for go with the run."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    folder = trainer.folder / "artifacts"
    hand_over([], None, folder, "unasked", record_bytes=300)
    request_id = log(trainer, artifact_of({"a": b"x"}, tmp_path))
    assert (folder / "unasked.json").stat().st_blocks * 512 >= 4396
    assert not (folder / "unasked.json").read_bytes().strip()
    trainer.finish()

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert virtual.run(main()) == COMPLETE
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{request_id}.json", "staged"]


def waiting(folder: Path, marks: Callable[[], Mark | None], *, is_held: bool = False) -> Pending:
    """One that waits in a folder; each look at the clock takes ten seconds."""
    clock = itertools.count(step=10)
    return Pending(
        folder / "artifacts",
        "request",
        name="data",
        is_offline=False,
        read_sequence=lambda: 3,
        read_mark=marks,
        is_held=lambda: is_held,
        read_version=lambda path: VERSION,
        revive=lambda: None,
        note=lambda key, text: None,
        monotonic=lambda: float(next(clock)),
    )


def mark(**fields: Any) -> Mark:
    return Mark(**{"server": REACHABLE, "durable_sequence": 3, "update_unix_ns": 1, **fields})


def test_wait_takes_an_answer_that_only_the_mark_has(tmp_path: Path) -> None:
    """A version is then read from the server; a failure is raised."""
    told: dict[str, Any] = {"request": {"path": "e/p/data:v0"}}
    pending = waiting(tmp_path, lambda: mark(artifacts_unnoted=told))
    assert pending.wait(None)["version"] == 0
    told = {
        "request": {
            "error": {"code": "failed_precondition", "reason": "FILE_CHANGED", "message": "changed"}
        }
    }
    with pytest.raises(FailedPrecondition, match="did not become a version: changed"):
        waiting(tmp_path, lambda: mark(artifacts_unnoted=told)).wait(None)


def test_the_end_of_a_run_names_what_only_the_mark_has(tmp_path: Path) -> None:
    """finish() tells of each artifact, also where the disk took no answer."""
    unnoted = {
        "one": {"path": "e/p/data:v0"},
        "two": {"name": "net", "error": {"code": "", "reason": "", "message": "it changed"}},
    }
    outcome = Outcome(
        5, 5, 0, 0, (), "", 0, 0, 0, is_complete=True, reason="", artifacts_durable=1, artifacts_failed=1,
        artifacts_unnoted=unnoted,
    )  # fmt: skip
    assert outcome_lines(outcome, tmp_path)[1:] == [
        "artifact net did not become a version: it changed",
        "artifact e/p/data:v0",
    ]


ENDS: dict[str, tuple[Mark | None, bool, type[Error], str]] = {
    "settled": (mark(artifacts_total=2, artifacts_durable=1, artifacts_failed=1), False, FailedPrecondition, "could not be noted"),
    "complete": (mark(is_complete=True), False, FailedPrecondition, "could not be noted"),
    "silent": (mark(artifacts_total=1), False, Unavailable, "has told nothing"),
    "no mark": (None, False, Unavailable, "has told nothing"),
    "held": (mark(), True, ResourceExhausted, "the journal .* has had no room"),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_a_wait_that_is_of_no_use_ends(tmp_path: Path, end: str) -> None:
    """Without a limit of its own, wait() ends with what is wrong, where, and what to do."""
    told, is_held, error, words = ENDS[end]
    with pytest.raises(error, match=words):
        waiting(tmp_path, lambda: told, is_held=is_held).wait(None)


def test_a_wait_goes_on_while_there_is_hope(tmp_path: Path) -> None:
    """A server that is away, an agent that tells something new, others' artifacts that are settled: none of it ends a wait."""
    (tmp_path / "artifacts").mkdir()
    looks = itertools.count()

    def read() -> Mark:
        look = next(looks)
        if look < 10:  # a server that is away, for longer than an agent may be silent
            return mark(server=UNREACHABLE)
        if look < 20:
            return mark(update_unix_ns=look, artifacts_total=2, artifacts_durable=1)
        if look == 22:
            answer = {"version": {**VERSION.__dict__, "path": VERSION.path}}
            (tmp_path / "artifacts" / "request.json").write_text(json.dumps(answer))
        return mark(update_unix_ns=look, artifacts_total=1, artifacts_durable=1, durable_sequence=2)

    assert waiting(tmp_path, read).wait(None)["name"] == "data"
    assert next(looks) * 10 > 3 * SILENT_S
