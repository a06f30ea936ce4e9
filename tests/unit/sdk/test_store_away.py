"""An object store that does not answer for long: what waits for it is neither lost nor failed, and a later agent sends it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from runyard.agent.agent import AGAIN_INTERVAL_S
from runyard.agent.content_upload import STORE_REFUSED, STORE_UNREACHABLE
from runyard.agent.ports import FilePart
from runyard.agent.run import COMPLETE, WAITING
from runyard.agent.start import FOREGROUND_STORE_WAIT_S, STORE_WAIT_S
from runyard.artifacts.artifact import Artifact
from runyard.errors import Unavailable
from runyard.journal_status import UNSENT, read_status
from tests.simulation import loop as virtual
from tests.unit.sdk.agent_fakes import START, Disk, FakeServer, Trainer, upload_of
from tests.unit.sdk.test_agent import agent_of
from tests.unit.sdk.test_artifact_uploads import log


class Away(FakeServer):
    """A server that answers, and a store that does not while `reason` is given."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = STORE_UNREACHABLE

    async def put_part(self, url: str, part: FilePart) -> str:
        if self.reason:
            raise Unavailable("the object store at store:9000 does not answer", reason=self.reason)
        return await super().put_part(url, part)


def trainer_with(root: Path, disk: Disk) -> Trainer:
    """Returns one that has ended, with five files and two artifacts of one name."""
    trainer = Trainer(root, disk)
    for number in range(5):
        (root / f"f{number}").write_bytes(b"%d" % number)
        trainer.file(root / f"f{number}", "end" if number % 2 else "now")
    for number in range(2):
        artifact = Artifact("data", "dataset")
        (root / "entry").write_bytes(b"entry %d" % number)
        artifact.add_file(root / "entry")
        log(trainer, artifact)
    trainer.finish()
    return trainer


def send(trainer: Trainer, disk: Disk, fake: FakeServer, **given: Any) -> tuple[str, float]:
    """Returns the outcome, and after how many seconds it came."""

    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        return await upload_of(trainer, disk, fake, **given).run(), loop.time() - began_s

    result: tuple[str, float] = virtual.run(main())
    return result


@pytest.mark.parametrize("is_foreground", [False, True])
def test_what_waits_is_sent_by_the_next_agent(tmp_path: Path, is_foreground: bool) -> None:
    """The run ends on the server after the wait, once; what is left is shown as unsent, and the next one sends it, in order."""
    disk, fake = Disk(), Away()
    trainer = trainer_with(tmp_path, disk)
    outcome, waited_s = send(trainer, disk, fake, is_foreground=is_foreground)
    limit_s = FOREGROUND_STORE_WAIT_S if is_foreground else STORE_WAIT_S
    assert outcome == WAITING and limit_s <= waited_s < limit_s + 120
    mark = trainer.mark()
    assert (mark["is_ended"], mark["is_complete"]) == (True, False)
    assert (mark["files_waiting"], mark["files_failed"], mark["files_durable"]) == (5, 0, 0)
    assert (mark["artifacts_waiting"], mark["artifacts_failed"]) == (2, 0)
    assert "does not answer" in mark["message"]
    status = read_status(trainer.folder)
    assert (status.state, status.files_unsent, status.artifacts_unsent) == (UNSENT, 5, 2)
    assert status.records_unsent == 0 and "does not answer" in status.message
    outcome, _ = send(trainer, disk, fake, is_foreground=is_foreground)
    assert outcome == WAITING and len(fake.endings) == 1, "its end was told twice"
    fake.reason = ""
    outcome, took_s = send(trainer, disk, fake, is_foreground=is_foreground)
    assert outcome == COMPLETE and took_s < 30 and len(fake.endings) == 1
    assert fake.files == {f"f{number}": b"%d" % number for number in range(5)}
    entries = [fake.entries_by_version[f"e/p/data:v{number}"]["entry"] for number in range(2)]
    assert [fake.contents[one.sha256] for one in entries] == [b"entry 0", b"entry 1"]
    mark = trainer.mark()
    assert (mark["files_waiting"], mark["artifacts_waiting"], mark["files_durable"]) == (0, 0, 5)
    assert mark["is_complete"] and not mark["message"]


def test_a_store_that_comes_back_in_time_is_waited_for(tmp_path: Path) -> None:
    """The same agent goes on; nothing is told as waiting then."""
    disk, fake = Disk(), Away()
    trainer = trainer_with(tmp_path, disk)

    async def main() -> str:
        asyncio.get_running_loop().call_later(STORE_WAIT_S / 2, lambda: setattr(fake, "reason", ""))
        return await upload_of(trainer, disk, fake).run()

    assert virtual.run(main()) == COMPLETE
    assert len(fake.files) == 5 and trainer.mark()["message"] == ""


def test_a_store_that_refuses_is_not_waited_for(tmp_path: Path) -> None:
    """One that answers and takes nothing makes files fail, as before: waiting does not help."""
    disk, fake = Disk(), Away()
    fake.reason = STORE_REFUSED
    trainer = trainer_with(tmp_path, disk)
    outcome, waited_s = send(trainer, disk, fake)
    assert outcome == COMPLETE and waited_s < 300
    mark = trainer.mark()
    assert (mark["files_failed"], mark["artifacts_failed"], mark["files_waiting"]) == (5, 2, 0)


def test_a_wait_may_be_shorter(tmp_path: Path) -> None:
    """As long as the run's START says."""
    disk, fake = Disk(), Away()
    trainer = trainer_with(tmp_path, disk)
    outcome, waited_s = send(trainer, disk, fake, start={**START, "store_wait_s": 3.0})
    assert outcome == WAITING and waited_s < 120


def test_an_agent_that_lives_on_tries_again(tmp_path: Path) -> None:
    """While it serves another run, it looks now and then whether the store is back."""
    disk, fake = Disk(), Away()
    trainer = trainer_with(tmp_path, disk)
    live = Trainer(tmp_path, disk, name="run-live")

    async def main() -> None:
        agent = agent_of(tmp_path, disk, fake)
        loop = asyncio.get_running_loop()
        serving = loop.create_task(agent.run())
        await asyncio.sleep(STORE_WAIT_S + 120)
        assert trainer.mark()["is_ended"] and not trainer.mark()["is_complete"]
        fake.reason = ""
        await asyncio.sleep(AGAIN_INTERVAL_S)
        assert trainer.mark()["is_complete"] and len(fake.files) == 5
        live.finish()
        await serving

    virtual.run(main())
    assert len(fake.endings) == 2
