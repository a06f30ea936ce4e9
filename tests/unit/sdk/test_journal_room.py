"""Journals are bounded: what is beyond the limit is dropped and counted, what is durable goes first, and people clean up."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard import cli, journal_clean, journal_room
from runyard import journal_format as form
from runyard.agent.run import COMPLETE, RunUpload
from runyard.errors import InvalidArgument
from runyard.journal import JournalWriter
from runyard.journal_reader import JournalReader
from runyard.journal_room import JournalRoom, journal_bytes
from runyard.settings import Settings, resolve
from tests.simulation import loop as virtual
from tests.unit.sdk.agent_fakes import START, Disk, FakeServer, Trainer, server_of, world_of

DAY_NS = journal_clean.DAY_NS


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def writer_in(root: Path, room: JournalRoom, told: list[str]) -> JournalWriter:
    folder = root / "run-1" / "journal"
    folder.mkdir(parents=True)
    journal = JournalWriter(
        folder, on_trouble=told.append, segment_bytes=[4096], is_synced=False, room=room
    )
    journal.append(form.START, b'{"format": 1}')
    return journal


def test_beyond_the_limit_rows_are_dropped_and_the_end_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning, dropped rows are counted, room that comes back is used, and FINISH is written whatever the limit."""
    monkeypatch.setattr("runyard.journal.RETRY_INTERVAL_S", 0.0)
    told: list[str] = []
    clock = Clock()
    room = JournalRoom(tmp_path, 16384, monotonic=clock)
    journal = writer_in(tmp_path, room, told)
    schema = journal.make_schema(("a",), b'["a"]')

    def log(count: int) -> None:
        for step in range(count):
            with journal.lock:
                journal.append_row(schema, step, 0, [1.0])

    log(1000)
    assert journal.dropped_count > 400 and len(told) == 1
    assert "RUNYARD_JOURNAL_BYTES_MAX" in told[0] and "16.0 KiB" in told[0]
    room.look()
    log(10)
    assert journal_bytes(tmp_path) <= 16384 + 4096
    segments = sorted(journal.folder.glob("*.seg"))
    for segment in segments[1:-1]:  # an agent has sent them
        segment.unlink()
    dropped_count = journal.dropped_count
    clock.now_s += journal_room.REFUSING_LOOK_INTERVAL_S
    room.look()
    log(100)
    assert journal.dropped_count == dropped_count
    log(1000)
    assert journal.dropped_count > dropped_count and len(told) == 1
    journal.close((form.FINISH, b'{"exit_code": 0}'))
    frames = list(JournalReader.open(sorted(journal.folder.glob("*.seg"))[-1]).frames())
    assert frames[-1].kind == form.FINISH and frames[-1].sequence == journal.sequence


def test_what_is_taken_during_a_count_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that begins while the root is counted is not forgotten."""
    room = JournalRoom(tmp_path, 8192)

    def count(root: Path) -> int:
        room.take(4096)
        return 4096  # of before

    monkeypatch.setattr(journal_room, "journal_bytes", count)
    room.look()
    with pytest.raises(OSError, match="RUNYARD_JOURNAL_BYTES_MAX"):
        room.take(4096)


def test_a_run_can_begin_in_a_full_root(tmp_path: Path) -> None:
    """However full the root, the segment with START is had."""
    other = tmp_path / "run-0" / "journal"
    other.mkdir(parents=True)
    (other / "00000001.seg").write_bytes(b"x" * 100_000)
    room = JournalRoom(tmp_path, 10_000)
    room.look()
    journal = writer_in(tmp_path, room, [])
    journal.close((form.FINISH, b"{}"))
    assert [f.kind for f in JournalReader.open(journal.folder).frames()] == [
        form.START,
        form.FINISH,
    ]


def test_nothing_is_looked_at_per_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """log() asks the disk nothing: neither below the limit nor beyond it."""
    room = JournalRoom(tmp_path, 8192)
    journal = writer_in(tmp_path, room, [])
    schema = journal.make_schema(("a",), b'["a"]')
    asked: list[Any] = []
    for name in ("stat", "scandir", "listdir", "statvfs"):
        monkeypatch.setattr(os, name, lambda *args, name=name, **named: asked.append(name))
    for step in range(5000):
        with journal.lock:
            journal.append_row(schema, step, 0, [1.0])
    assert not asked and journal.dropped_count > 4000


def complete_run(
    root: Path, name: str, *, end_unix_ns: int, keep_days: float = 2, **more: Any
) -> Path:
    """Makes the folder of a complete run whose journal is kept for two days."""
    folder = root / f"run-{name}"
    (folder / "journal").mkdir(parents=True)
    journal = JournalWriter(folder / "journal", segment_bytes=[4096], is_synced=False)
    journal.append(form.START, json.dumps({"run_id": name, "keep_days": keep_days}).encode())
    for number in range(200):
        journal.append(form.CHANGE, json.dumps({"notes": str(number)}).encode())
    journal.close((form.FINISH, b"{}"))
    mark = {"version": 1, "is_complete": True, "update_unix_ns": end_unix_ns, **more}
    (folder / "mark.json").write_text(json.dumps(mark))
    (folder / "run.json").write_text(json.dumps({"path": f"e/p/{name}"}))
    return folder


def segments(folder: Path) -> int:
    return len(list((folder / "journal").glob("*.seg")))


def test_what_is_durable_makes_room_the_oldest_first(tmp_path: Path) -> None:
    """Kept journals of complete runs go before anything is dropped; what the server refused, and the unsent, stay."""
    old = complete_run(tmp_path, "old", end_unix_ns=1)
    new = complete_run(tmp_path, "new", end_unix_ns=3)
    refused = complete_run(tmp_path, "refused", end_unix_ns=0, refused_ranges=[[2, 2]])
    unsent = complete_run(tmp_path, "unsent", end_unix_ns=0, is_complete=False)
    used_bytes = journal_bytes(tmp_path)
    room = JournalRoom(tmp_path, int(used_bytes * 1.2))
    room.look()
    assert segments(old) == 0 and segments(new) and segments(refused) and segments(unsent)
    assert (old / "mark.json").exists()


def test_kept_journals_expire(tmp_path: Path) -> None:
    """A complete run is removed whole after its days; one with refused records is not, nor what is young or unsent."""
    now_ns = time.time_ns()
    old = complete_run(tmp_path, "old", end_unix_ns=now_ns - 3 * DAY_NS)
    young = complete_run(tmp_path, "young", end_unix_ns=now_ns - DAY_NS)
    refused = complete_run(
        tmp_path, "refused", end_unix_ns=now_ns - 9 * DAY_NS, refused_ranges=[[1, 1]]
    )
    unsent = complete_run(tmp_path, "unsent", end_unix_ns=now_ns - 9 * DAY_NS, is_complete=False)
    plain = complete_run(tmp_path, "plain", end_unix_ns=now_ns, keep_days=0)
    (tmp_path / "trash-run-killed").mkdir()  # a removal that was killed
    assert journal_clean.remove_expired(tmp_path) == 1
    assert not old.exists() and not (tmp_path / "trash-run-killed").exists()
    assert segments(young) and segments(refused) and segments(unsent)
    assert plain.exists() and not segments(plain), "its agent was killed before it removed them"


def test_the_command_cleans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`journal clean` removes complete runs only, by age if asked, tells sizes, and can be tried dry."""
    now_ns = time.time_ns()
    old = complete_run(tmp_path, "old", end_unix_ns=now_ns - 3 * DAY_NS)
    young = complete_run(tmp_path, "young", end_unix_ns=now_ns)
    refused = complete_run(tmp_path, "refused", end_unix_ns=1, refused_ranges=[[1, 1]])
    unsent = complete_run(tmp_path, "unsent", end_unix_ns=1, is_complete=False)

    def clean(*arguments: str) -> dict[str, Any]:
        assert cli.main(["journal", "clean", "--json", str(tmp_path), *arguments]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    dry = clean("--dry-run", "--older-than", "1")
    assert [one["path"] for one in dry["removed"]] == ["e/p/old"] and old.exists()
    assert dry["size_bytes"] == dry["removed"][0]["size_bytes"] > 0
    assert clean("--older-than", "1") == dry and not old.exists()
    assert [one["path"] for one in clean()["removed"]] == ["e/p/young"] and not young.exists()
    assert refused.exists()
    assert [one["path"] for one in clean("--refused")["removed"]] == ["e/p/refused"]
    assert unsent.exists()
    assert cli.main(["journal", "clean", str(tmp_path)]) == 0
    assert "0 run folders removed" in capsys.readouterr().out


def test_the_agent_keeps_what_it_is_asked_to_keep(tmp_path: Path) -> None:
    """With keep_days durable segments stay, but for the oldest where they are too many; copies of files stay too."""
    disk, fake = Disk(), FakeServer()
    start = {**START, "keep_days": 1, "keep_bytes_max": 10_000}
    trainer = Trainer(tmp_path, disk, start=start)
    for step in range(600):
        trainer.log(step)
    before = len(list((trainer.folder / "journal").glob("*.seg")))

    async def serve() -> str:
        import asyncio

        upload = RunUpload(str(trainer.folder), start, world=world_of(disk), server=server_of(fake))
        task = asyncio.get_running_loop().create_task(upload.run())
        await asyncio.sleep(20)
        kept = sum(path.stat().st_size for path in (trainer.folder / "journal").glob("*.seg"))
        assert 4000 < kept <= 10_000 + 2048
        trainer.finish()
        return await task

    assert virtual.run(serve()) == COMPLETE
    kept = sorted(path.name for path in (trainer.folder / "journal").glob("*.seg"))
    assert 3 <= len(kept) < before and kept[0] == form.segment_name(1)


def test_copies_go_with_the_run(tmp_path: Path) -> None:
    """What save(policy="now") copied is removed once the run is complete; the script's own files in run.dir stay."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    (trainer.folder / "files").mkdir()
    copy, own = trainer.folder / "files" / "copy.txt", trainer.folder / "files" / "own.txt"
    for path in (copy, own):
        path.write_text(path.name)
    content = {"path": str(copy), "name": copy.name, "policy": "now", "is_copy": True}
    trainer.journal.append(form.FILE, json.dumps(content).encode())
    trainer.file(own, "now")
    trainer.finish()

    async def serve() -> str:
        world, server = world_of(disk), server_of(fake)
        return await RunUpload(str(trainer.folder), START, world=world, server=server).run()

    assert virtual.run(serve()) == COMPLETE
    assert fake.files == {"copy.txt": b"copy.txt", "own.txt": b"own.txt"}
    assert not copy.exists() and own.exists()


def test_settings_of_journals(tmp_path: Path) -> None:
    """Sizes are taken with units; the default is a fifth of what is free, at least 1 GiB."""
    for text, size_bytes in (("20000000", 20_000_000), ("512 MiB", 512 << 20), ("1.5GB", 1_500_000_000)):  # fmt: skip
        environment = {"RUNYARD_JOURNAL_BYTES_MAX": text, "RUNYARD_JOURNAL_KEEP_DAYS": "7"}
        resolved = resolve(environment=environment, home=tmp_path)
        assert (resolved.journal_bytes_max, resolved.journal_keep_days) == (size_bytes, 7.0)
    with pytest.raises(InvalidArgument, match="'ten' is no size; it looks like"):
        Settings(journal_bytes_max="ten")
    with pytest.raises(InvalidArgument, match="'10 kB' is too small: at least 1048576 bytes"):
        Settings(journal_bytes_max="10 kB")
    assert Settings(journal_bytes_max=0).journal_bytes_max == 0
    assert JournalRoom(tmp_path, 0).bytes_max >= 1 << 30
    assert JournalRoom(tmp_path / "none", 0).bytes_max == 1 << 30


def test_a_run_drops_beyond_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An offline run with a small limit trains on, says so once, counts what it dropped, and ends in its journal."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings = Settings(journal_bytes_max=1_500_000, journal_keep_days=3)
    with runyard.init(mode="offline", dir=tmp_path / "runs", settings=settings) as run:
        for step in range(6000):
            run.log({f"m{n}": float(step) for n in range(60)})
    receipt = run.receipt()
    assert receipt.records_dropped > 0 and receipt.server == "offline"
    assert receipt.lag_records == receipt.records_written > 1000
    err = capsys.readouterr().err
    assert err.count("RUNYARD_JOURNAL_BYTES_MAX") == 1
    assert f"{receipt.records_dropped:,} records were dropped" in err
    frames = list(JournalReader.open(next((tmp_path / "runs").glob("run-*"))).frames())
    assert frames[0].content["keep_days"] == 3 and frames[-1].kind == form.FINISH
    assert len(frames) == receipt.records_written
