"""The journals beside a run's own: all of them is sent before the run ends, and what cannot be sent is neither lost nor in the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

from runyard import journal_format as form
from runyard.agent.ports import Batch
from runyard.agent.run import COMPLETE
from runyard.errors import Error, InvalidArgument
from runyard.journal import JournalWriter
from tests.unit.sdk.agent_fakes import Disk, FakeServer, Trainer, upload_of

SEGMENT_BYTES = 2048
LINE = b"x" * 200
LINES = 60


def printed(trainer: Trainer, *, is_ended: bool = True) -> Path:
    """Writes a console's journal of several segments; returns its folder."""
    folder = trainer.folder / "console"
    folder.mkdir()
    journal = JournalWriter(folder, segment_bytes=[SEGMENT_BYTES], is_synced=False)
    for number in range(1, LINES + 1):
        journal.append(form.CONSOLE, form.CONSOLE_HEAD.pack(number, 1, 1, 1) + LINE)
    journal.close((form.FINISH, b"{}") if is_ended else None)
    return folder


def lines_of(server: FakeServer) -> list[int]:
    """Returns the numbers of the lines that the server has, each once."""
    events = [event for batch in server.side_batches for event in batch.console]
    return sorted({form.CONSOLE_HEAD.unpack_from(event.payload)[0] for event in events})


def carried(trainer: Trainer, disk: Disk, server: FakeServer) -> str:
    """Runs an agent over the folder of a run that has ended."""

    async def run() -> str:
        return await asyncio.wait_for(upload_of(trainer, disk, server).run(), 60)

    return asyncio.run(run())


def test_the_run_ends_when_all_is_durable(tmp_path: Path) -> None:
    """FinishRun comes after every line, the run's receipt knows nothing of them, and the segments are removed."""
    disk, server = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    folder = printed(trainer)
    trainer.log(0)
    trainer.finish()
    assert carried(trainer, disk, server) == COMPLETE
    assert lines_of(server) == list(range(1, LINES + 1))
    assert server.covered == {1, 2, 3, 4}
    assert not list(folder.glob("*.seg"))


def test_damage_is_told_and_keeps_nothing_else_from_being_sent(tmp_path: Path) -> None:
    """What is whole around a damaged segment is sent, the run ends, and the damaged segment stays."""
    disk, server = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    folder = printed(trainer)
    damaged = folder / form.segment_name(3)
    content = bytearray(damaged.read_bytes())
    content[form.HEADER_BYTES + 40] ^= 0xFF
    damaged.write_bytes(content)
    trainer.finish()
    assert carried(trainer, disk, server) == COMPLETE
    there = lines_of(server)
    assert there[0] == 1 and there[-1] == LINES
    assert 0 < LINES - len(there) < 20
    assert damaged.exists()


def test_what_a_newer_client_wrote_stays(tmp_path: Path) -> None:
    """A record that this agent does not know ends the reading: the run ends, and nothing that was not read is removed."""
    disk, server = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    folder = trainer.folder / "console"
    folder.mkdir()
    journal = JournalWriter(folder, segment_bytes=[SEGMENT_BYTES], is_synced=False)
    journal.append(form.CONSOLE, form.CONSOLE_HEAD.pack(1, 1, 1, 1) + LINE)
    journal.append(99, b"{}")
    journal.close((form.FINISH, b"{}"))
    trainer.finish()
    assert carried(trainer, disk, server) == COMPLETE
    assert lines_of(server) == [1]
    assert list(folder.glob("*.seg"))


def test_what_is_refused_stays(tmp_path: Path) -> None:
    """A line that the server refuses for good is set aside alone, and its segment stays."""
    disk, server = Disk(), FakeServer()

    def refuse(batch: Batch) -> Error | None:
        is_bad = any(form.CONSOLE_HEAD.unpack_from(e.payload)[0] == 7 for e in batch.console)
        return InvalidArgument("no", reason="FIELD_INVALID") if is_bad else None

    server.refuse_batch = refuse
    trainer = Trainer(tmp_path, disk)
    folder = printed(trainer)
    trainer.finish()
    assert carried(trainer, disk, server) == COMPLETE
    assert lines_of(server) == [number for number in range(1, LINES + 1) if number != 7]
    assert list(folder.glob("*.seg"))
