"""Deleted runs on this machine: the agent drops what is left of them, finish() says so, and the command line deletes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from runyard import cli_trash
from runyard.agent.ports import Batch
from runyard.agent.run import REFUSED
from runyard.errors import Error, FailedPrecondition, UsageError
from runyard.journal_clean import complete_runs
from runyard.run_folder import RunFolder
from tests.simulation import loop as virtual
from tests.unit.sdk.agent_fakes import Disk, FakeServer, Trainer, upload_of


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return virtual.run(main)


def refuse(batch: Batch) -> Error:
    return FailedPrecondition("it was deleted", reason="RUN_DELETED")


def segments(trainer: Trainer) -> list[str]:
    return sorted(path.name for path in (trainer.folder / "journal").glob("*.seg"))


def test_what_a_deleted_run_left_is_dropped(tmp_path: Path) -> None:
    """RUN_DELETED for a batch: the mark says so, nothing is repeated, the journal is removed, the folder is done."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    for step in range(400):
        trainer.log(step)
    trainer.finish()
    asked: list[Batch] = []

    def counted(batch: Batch) -> Error:
        asked.append(batch)
        return refuse(batch)

    fake.refuse_batch = counted
    assert run(upload_once(trainer, disk, fake)) == REFUSED
    assert segments(trainer) == []
    mark = RunFolder(trainer.folder).read_mark()
    assert mark is not None
    assert (mark.server, mark.message, mark.is_dropped, mark.is_complete) == (
        "refused", "it was deleted", True, False,
    )  # fmt: skip
    assert len(asked) <= 8 and not fake.endings
    (done,) = complete_runs([trainer.folder])
    assert done.is_whole


def test_the_segments_of_a_live_one_go_as_they_come(tmp_path: Path) -> None:
    """A deleted run whose process trains on keeps its first and its last segment only, and none after its end."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    fake.refuse_batch = refuse

    async def main() -> str:
        uploading = asyncio.get_running_loop().create_task(upload_of(trainer, disk, fake).run())
        counts = []
        for step in range(2000):
            trainer.log(step)
            if step % 100 == 0:
                await asyncio.sleep(5)
                counts.append(len(segments(trainer)))
        assert max(counts[2:]) <= 8 and "00000001.seg" in segments(trainer)
        assert not uploading.done()
        trainer.finish()
        return await uploading

    assert run(main()) == REFUSED
    assert segments(trainer) == []


def test_a_run_that_never_began_keeps_its_records(tmp_path: Path) -> None:
    """A new run that took a deleted id by mistake is refused, and what it logged stays: it is not what was deleted."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    trainer.log(1)
    trainer.finish()
    fake.refuse_start = FailedPrecondition("deleted", reason="RUN_DELETED")
    assert run(upload_once(trainer, disk, fake)) == REFUSED
    assert segments(trainer)
    assert not trainer.mark()["is_dropped"]
    answer = json.loads((trainer.folder / "run.json").read_bytes())
    assert answer["error"] == {"reason": "RUN_DELETED", "message": "deleted"}


def test_one_that_began_is_dropped_at_the_next_start(tmp_path: Path) -> None:
    """The agent of a run that was deleted while no agent ran learns it from StartRun."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    trainer.log(1)

    async def first() -> None:
        uploading = asyncio.get_running_loop().create_task(upload_of(trainer, disk, fake).run())
        await asyncio.sleep(5)
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)

    run(first())
    trainer.log(2)
    trainer.die()
    fake.refuse_start = FailedPrecondition("deleted", reason="RUN_DELETED")
    assert run(upload_once(trainer, disk, fake)) == REFUSED
    assert segments(trainer) == []
    assert json.loads((trainer.folder / "run.json").read_bytes())["error"] is None


async def upload_once(trainer: Trainer, disk: Disk, fake: FakeServer) -> str:
    return await upload_of(trainer, disk, fake).run()


@pytest.mark.parametrize("text", ["", "(", "x" * 1001])
def test_a_bad_pattern_is_refused(text: str) -> None:
    """No pattern, a broken one, one without end: an error that says which."""
    with pytest.raises(UsageError, match="--match"):
        cli_trash.checked_pattern(text)
