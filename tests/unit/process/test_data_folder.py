"""One process at a time holds a data folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runyard_server.domain.errors import StartRefused
from runyard_server.process import data_folder
from runyard_server.process.data_folder import DataFolder, require_room


def test_second_holder_is_refused_with_the_first_ones_name(tmp_path: Path) -> None:
    """The refusal names pid, command and start time of the holder, and what to do."""
    with DataFolder(tmp_path / "data"), pytest.raises(StartRefused) as caught:
        DataFolder(tmp_path / "data").acquire()
    text = str(caught.value)
    assert f"pid {os.getpid()}, started 20" in text
    assert "--data-dir" in text


def test_folder_is_free_after_release(tmp_path: Path) -> None:
    """A released folder can be taken again, by the same process too."""
    for _ in range(2):
        with DataFolder(tmp_path):
            pass


def test_holder_without_words_is_still_a_holder(tmp_path: Path) -> None:
    """A lock file that says nothing readable does not let a second process in."""
    with DataFolder(tmp_path):
        (tmp_path / "lock").write_text("{")
        with pytest.raises(StartRefused, match="in use by another process"):
            DataFolder(tmp_path).acquire()


def test_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    """A path that cannot be a folder is refused with the reason."""
    (tmp_path / "data").write_text("")
    with pytest.raises(StartRefused, match="cannot be used"):
        DataFolder(tmp_path / "data").acquire()


def test_a_full_disk_is_told_before_any_store_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal says how much is free and how much is needed."""
    require_room(tmp_path)
    monkeypatch.setattr(data_folder, "FREE_BYTES_MIN", 1 << 62)
    with pytest.raises(StartRefused, match=r"is full: \d+ MiB are free, a start needs \d+ MiB"):
        require_room(tmp_path)
