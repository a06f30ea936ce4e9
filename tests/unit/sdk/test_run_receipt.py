"""run.receipt(): what a process can say of its records, from its journal and the agent's mark alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import runyard
from runyard.run_folder import RunFolder
from runyard.run_receipt import SAMPLE_COUNT_MAX, LagClock, gaps_text, make_receipt


class Clock:
    now_s = 10.0

    def __call__(self) -> float:
        return self.now_s


def test_it_tells_what_the_mark_tells(tmp_path: Path) -> None:
    """Written, durable, refused with gaps, dropped, and the lag with its age."""
    folder, clock = RunFolder.create(tmp_path, "r", 0), Clock()
    lag = LagClock(monotonic=clock)
    lag.note(50)
    receipt = make_receipt(folder, lag, mode="online", written=50, dropped=0)
    assert (receipt.server, receipt.lag_records, receipt.records_durable) == ("connecting", 50, 0)
    clock.now_s += 2
    fields = {
        "version": 1, "durable_sequence": 60, "server": "reachable", "refused_ranges": [[5, 5], [7, 9]], "files_durable": 2,
        "message": "notes are too long",
    }  # fmt: skip
    (folder.path / "mark.json").write_text(json.dumps(fields))
    lag.note(70)
    clock.now_s += 3
    receipt = make_receipt(folder, lag, mode="online", written=80, dropped=4)
    assert (receipt.records_durable, receipt.records_refused, receipt.gaps) == (56, 4, ((5, 5), (7, 9)))  # fmt: skip
    assert (receipt.lag_records, receipt.lag_s, receipt.records_dropped) == (20, 3.0, 4)
    assert str(receipt).splitlines() == [
        "56 of 80 records durable; 2 files",
        "20 records on the way, for 3.0 s",
        "4 records were refused for good: 5, 7-9",
        "4 records were dropped: the disk, or the limit of journals, refused them",
        "server: reachable (notes are too long)",
    ]
    done = {**fields, "durable_sequence": 80, "is_complete": True, "refused_ranges": []}
    (folder.path / "mark.json").write_text(json.dumps(done))
    receipt = make_receipt(folder, lag, mode="online", written=80, dropped=0)
    assert str(receipt) == "80 of 80 records durable; 2 files"
    assert receipt.is_complete and receipt.lag_s == 0.0
    folder.release()


def test_ages_are_had_in_bounded_memory() -> None:
    """However long nothing is sent, few moments are remembered, the first among them."""
    clock = Clock()
    lag = LagClock(monotonic=clock)
    for sequence in range(1, 20 * SAMPLE_COUNT_MAX):
        lag.note(sequence)
        clock.now_s += 1
    assert len(lag._samples) <= SAMPLE_COUNT_MAX
    assert lag.age_s(0) == clock.now_s - 10.0
    assert 0 <= lag.age_s(sequence - 1) < 100


def test_runs_that_send_nothing_have_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offline run's receipt says so; a disabled one's is empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with runyard.init(mode="offline", dir=tmp_path) as run:
        run.log({"a": 1.0})
        receipt = run.receipt()
    assert (receipt.records_written, receipt.records_durable) == (3, 0)
    assert "3 records on this disk only\nserver: offline" in str(receipt)
    assert run.receipt().records_written == 4
    with runyard.init(mode="disabled") as off:
        off.log({"a": 1.0})
    assert off.receipt().records_written == 0 and off.receipt().server == "disabled"


def test_many_gaps_are_cut() -> None:
    """A receipt stays readable."""
    assert gaps_text(tuple((n, n) for n in range(1, 30, 2))).endswith("17, 19, +5 more")
