"""What is to outlive a power cut is synced with its name: a file whose folder was not may be gone, or be an older one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runyard import journal_format as form
from runyard.agent.disk import LocalDisk
from runyard.journal import JournalWriter


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What was synced, in order: "file" or "folder", and the names in the folder under test at that moment."""
    seen: list[tuple[str, list[str]]] = []
    sync = os.fsync

    def note(number: int) -> None:
        path = Path(f"/proc/self/fd/{number}").readlink()
        is_folder = stat.S_ISDIR(os.fstat(number).st_mode)
        folder = path if is_folder else path.parent
        seen.append(("folder" if is_folder else "file", sorted(p.name for p in folder.iterdir())))
        sync(number)

    monkeypatch.setattr(os, "fsync", note)
    return seen


def test_a_mark_is_synced_with_its_name(
    tmp_path: Path, synced: list[tuple[str, list[str]]]
) -> None:
    """A mark that segments are removed for is synced before it is renamed, and its folder after."""
    LocalDisk().replace(str(tmp_path / "mark.json"), b"{}", is_synced=True)
    assert [kind for kind, _ in synced] == ["file", "folder"]
    assert "mark.json" not in synced[0][1]
    assert synced[1][1] == ["mark.json"]
    synced.clear()
    LocalDisk().replace(str(tmp_path / "mark.json"), b"{}", is_synced=False)
    assert synced == []


def test_a_short_journal_is_synced_with_its_name(
    tmp_path: Path, synced: list[tuple[str, list[str]]]
) -> None:
    """A run that ends before the syncing thread looked for the first time is on the disk when close() returns."""
    journal = JournalWriter(tmp_path, is_synced=False)
    assert journal.append(form.START, b"{}")
    journal.close()
    assert synced == [("file", ["00000001.seg"]), ("folder", ["00000001.seg"])]
