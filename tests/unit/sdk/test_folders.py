"""Where runs lie when the wanted folder cannot be: another one, with one warning, and training goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import runyard


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs of these tests stay in a folder of their own."""
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    yield
    runyard.teardown()


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Journals go to the system's folder for such with one warning; where that fails too, training goes on."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path / "file/journals"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "other"))
    with runyard.init() as run:
        run.log({"a": 1.0})
    assert "cannot be written" in capsys.readouterr().err
    assert len(list((tmp_path / "other").rglob("*.seg"))) == 1
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with runyard.init() as run:
        run.log({"a": 1.0})
    assert "nothing of this run is kept" in " ".join(capsys.readouterr().err.split())


def test_a_folder_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk at the start is as good as one that cannot be written; no half folder stays on it."""
    allocate = os.posix_fallocate

    def refuse_journals(file: int, offset: int, size_bytes: int) -> None:
        if "journals" in str(Path(f"/proc/self/fd/{file}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(file, offset, size_bytes)

    monkeypatch.setattr("os.posix_fallocate", refuse_journals)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "other"))
    with runyard.init() as run:
        run.log({"a": 1.0})
    assert "No space left on device" in " ".join(capsys.readouterr().err.split())
    assert list((tmp_path / "journals").iterdir()) == []
    assert len(list((tmp_path / "other").rglob("*.seg"))) == 1


def test_a_working_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a working folder, a relative one for journals cannot be: they go to the system's."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("RUNYARD_DIR", "./runyard")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "other"))
    with runyard.init() as run:
        run.log({"a": 1.0})
    assert "cannot be written" in capsys.readouterr().err
    assert len(list((tmp_path / "other").rglob("*.seg"))) == 1
