"""`runyard sync` tells what became of folders for which no server is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import runyard
from runyard import journal_format as form
from runyard.agent.sync import sync
from runyard.journal import JournalWriter

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an offline run with a few rows."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with runyard.init(mode="offline", dir=str(tmp_path / "runs")) as run:
        for value in range(5):
            run.log({"a": float(value)})
    (found,) = (tmp_path / "runs").glob("run-*")
    return found


def test_what_was_lost_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is complete but for what damage or a refusal took says so, whenever it is asked."""
    fields = {"version": 1, "is_complete": True, "durable_sequence": 9, "written_sequence": 9}
    lost = "records 2 to 5 are damaged or missing on this disk"
    (folder / "mark.json").write_text(
        json.dumps({**fields, "message": lost, "refused_ranges": [[2, 5], [7, 7]]})
    )
    assert sync([folder], base_url=NOBODY) == 0
    assert (
        f"synced but for 5 records that cannot be: {lost} (4 of 9 records durable)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("first_byte", [0, form.HEADER_BYTES])
def test_a_journal_without_its_beginning_is_damaged(
    folder: Path, first_byte: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A journal with records that cannot be told whose they are is an error, not passed over."""
    (segment,) = (folder / "journal").glob("*.seg")
    body = segment.read_bytes()
    segment.write_bytes(body[:first_byte] + b"\xff" * 16 + body[first_byte + 16 :])
    assert sync([folder], base_url=NOBODY) == 1
    assert "damaged: the beginning of its journal cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("size_bytes", [0, 4096])
def test_a_journal_that_was_never_begun_is_passed_over(
    folder: Path, size_bytes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A power cut may leave an empty segment or one of zeros: there is no run in it."""
    (segment,) = (folder / "journal").glob("*.seg")
    segment.write_bytes(bytes(size_bytes))
    assert sync([folder.parent], base_url=NOBODY, is_json=True) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["outcome"] == "no_start"


def test_what_is_expired_goes_and_many_complete_runs_are_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that were complete before are counted where they are many; those whose days are over are removed."""
    root = folder.parent
    fields = {"version": 1, "is_complete": True, "durable_sequence": 8, "written_sequence": 8}
    for number in range(20):
        (root / f"run-{number}").mkdir()
        (root / f"run-{number}" / "mark.json").write_text(json.dumps(fields))
    kept = JournalWriter(root / "run-7" / "journal", is_synced=False)
    (root / "run-7" / "journal").mkdir()
    kept.append(form.START, b'{"format": 1, "keep_days": 3}')
    kept.close()
    (folder / "mark.json").write_text(json.dumps({**fields, "message": "a word"}))
    assert sync([root], base_url=NOBODY) == 0
    told = capsys.readouterr().err
    assert "20 runs had been synced before" in told and "synced: a word" in told
    assert len(told.splitlines()) == 2
    assert not (root / "run-7").exists() and (root / "run-8").exists()


def test_a_server_that_is_away_is_said_at_once_and_given_up(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits is told for what; then each run is told as not sent, with how many records it has."""
    monkeypatch.setattr("runyard.agent.sync.UNREACHABLE_GIVE_UP_S", 0.3)
    assert sync([folder], base_url=NOBODY) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("runyard: the server at http://127.0.0.1:1 does not answer")
    assert "not sent: the server does not answer" in lines[1]
    assert lines[1].endswith("(0 of 8 records durable)") and len(lines) == 2
