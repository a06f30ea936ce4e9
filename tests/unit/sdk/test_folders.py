"""The run's folder: where it lies when the wanted one cannot be, and what the agent's answer in it brings."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import runyard
from runyard import journal_format as form
from runyard.journal_reader import JournalReader
from runyard.run_folder import RunAnswer, RunFolder, fallback_root


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
    assert len(list((tmp_path / "other").rglob("journal/*.seg"))) == 1
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
    assert len(list((tmp_path / "other").rglob("journal/*.seg"))) == 1


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
    assert len(list((tmp_path / "other").rglob("journal/*.seg"))) == 1


def test_a_resumed_run_shows_what_earlier_attempts_left(tmp_path: Path) -> None:
    """What run.json holds of config and summary lies below what this init sets, and are not recorded again."""
    run = runyard.init(config={"lr": 0.2})
    folder = RunFolder(Path(run.dir).parent)
    answer = {
        "path": "e/p/r",
        "is_resumed": True,
        "config": {"n": 2**53 + 1, "lr": 0.1, "opt": {"momentum": {"$float": "NaN"}}},
        "summary": {"best": {"$float": "Infinity"}, "loss": 3.0, "old": 1, "note": "a"},
    }
    (folder.path / "run.json").write_text(json.dumps(answer))
    found = folder.read_answer()
    assert found is not None
    run.take_answer(found)
    assert (run.config.n, run.config.lr) == (2**53 + 1, 0.2)
    assert math.isnan(run.config.opt.momentum)
    run.log({"loss": 1.0})
    run.summary["note"] = "b"
    assert dict(run.summary) == {"best": math.inf, "loss": 1.0, "old": 1, "note": "b"}
    del run.summary["old"]
    assert "old" not in run.summary and run.summary.best == math.inf
    run.config.opt.momentum = 0.9  # a restored section tells of its changes
    run.finish()
    frames = JournalReader.open(folder.path).frames()
    assert [frame.content for frame in frames if frame.kind == form.CHANGE] == [
        {"summary_set": {"note": "b"}},
        {"summary_removed": ["old"]},
        {"config_set": {"opt": {"momentum": 0.9}}},
    ]


def test_a_summary_too_large_to_restore_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A resumed run without the earlier summary says so; its config is there all the same."""
    run = runyard.init()
    run.take_answer(RunAnswer("e/p/r", "", "", "", True, 0, config={"n": 1}, summary=None))
    assert run.config.n == 1 and len(run.summary) == 0
    assert "too large to be read back" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("kind", ["folder", "open", "link", "dangling", "file", "foreign"])
def test_the_folder_for_such_is_ours_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name can be known: it is closed to others, and one that is no folder of ours is never written into."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if kind == "foreign":
        monkeypatch.setattr("os.getuid", lambda: 12345)
        (tmp_path / "runyard-12345").mkdir()
    path, elsewhere = tmp_path / f"runyard-{os.getuid()}", tmp_path / "elsewhere"
    if kind == "open":
        path.mkdir(mode=0o755)
    elif kind == "link":
        elsewhere.mkdir()
    elif kind == "file":
        path.write_text("")
    if kind in ("link", "dangling"):
        path.symlink_to(elsewhere)
    root = fallback_root()
    assert (root == path) == (kind in ("folder", "open"))
    assert root.parent == tmp_path and root.is_dir() and not root.is_symlink()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
