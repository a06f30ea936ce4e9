"""Many small files: they go in batches, and whatever happens on the way each arrives as it is, or is told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from runyard.agent.files import CALL_COUNT_MAX
from runyard.agent.run import COMPLETE
from runyard.agent.small_files import BATCH_COUNT_MAX
from runyard.errors import InvalidArgument
from tests.simulation import loop as virtual
from tests.unit.sdk.agent_fakes import Disk, FakeServer, Trainer, upload_of


def make_files(folder: Path, count: int) -> dict[str, bytes]:
    """Makes small files, one of them empty, a tenth of them with the bytes of others."""
    draw = random.Random(count)
    contents = {f"f{number:04}": draw.randbytes(draw.choice((20, 500))) for number in range(count)}
    contents["f0001"] = b""
    for number in range(0, count, 10):
        contents[f"f{number:04}"] = contents[f"f{count - 1 - number:04}"]
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return contents


def run_to_end(trainer: Trainer, disk: Disk, fake: FakeServer) -> dict[str, Any]:
    async def main() -> str:
        return await upload_of(trainer, disk, fake).run()

    assert virtual.run(main()) == COMPLETE
    return trainer.mark()


def test_many_small_files_share_calls(tmp_path: Path) -> None:
    """Each arrives under its name, those of equal bytes too; a call speaks of a whole batch."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    contents = make_files(tmp_path, 600)
    for name in contents:
        trainer.file(tmp_path / name, "end")
    trainer.finish()
    mark = run_to_end(trainer, disk, fake)
    assert contents == fake.files
    assert (mark["files_durable"], mark["files_failed"]) == (600, 0)
    assert max(fake.announced) == BATCH_COUNT_MAX and len(fake.announced) <= 6


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_lost_each_file_arrives(tmp_path: Path, seed: int) -> None:
    """Calls and parts that are lost, before or after they were carried out, are repeated."""
    disk, fake = Disk(), FakeServer(random.Random(seed))
    trainer = Trainer(tmp_path, disk)
    contents = make_files(tmp_path, 120)
    for name in contents:
        trainer.file(tmp_path / name, "now")
    trainer.finish()
    fake.density = 0.2
    mark = run_to_end(trainer, disk, fake)
    assert contents == fake.files
    assert (mark["files_durable"], mark["files_failed"]) == (120, 0)


def test_one_file_spoils_no_batch(tmp_path: Path) -> None:
    """What is refused, gone, or larger than it was told goes its own way; the others are durable, and it is told which is not."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    contents = make_files(tmp_path, 20)
    for name in contents:
        trainer.file(tmp_path / name, "end")
    (tmp_path / "f0003").unlink()
    contents["f0004"] = b"large" * (1 << 18)
    (tmp_path / "f0004").write_bytes(contents["f0004"])
    refusal = InvalidArgument("this name is not taken", reason="FIELD_INVALID")
    fake.refuse_file = lambda name: refusal if name == "f0005" else None
    trainer.finish()
    mark = run_to_end(trainer, disk, fake)
    del contents["f0003"], contents["f0005"]
    assert contents == fake.files
    assert (mark["files_durable"], mark["files_failed"]) == (18, 2)
    states = json.loads((trainer.folder / "files.json").read_bytes())["files"]
    assert [name for name in states if states[name]["state"] == "failed"] == ["f0003", "f0005"]


def test_a_server_of_before_takes_fewer_at_once(tmp_path: Path) -> None:
    """One that refuses so many files in a call gets them a hundred at a time."""
    disk, fake = Disk(), FakeServer()
    fake.file_count_max = CALL_COUNT_MAX
    trainer = Trainer(tmp_path, disk)
    contents = make_files(tmp_path, 240)
    for name in contents:
        trainer.file(tmp_path / name, "end")
    trainer.finish()
    mark = run_to_end(trainer, disk, fake)
    assert contents == fake.files
    assert (mark["files_durable"], mark["files_failed"]) == (240, 0)
