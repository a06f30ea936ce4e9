"""`runyard journal show` and `runyard sync --status`: what they say of journals, whole or not, without a server."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runyard
from runyard import cli
from runyard import journal_format as form
from runyard.agent.disk import LocalDisk
from runyard.agent.reader import JournalFollower
from runyard.journal import JournalWriter
from runyard.journal_status import read_status
from runyard.journal_walk import Damage, segments_of, walk

CONFORMANCE = Path(__file__).resolve().parents[3] / "clients/conformance"
VECTORS = [
    vector
    for name in ("journal_vectors.json", "journal_vectors_version1.json")
    for vector in json.loads((CONFORMANCE / name).read_text("utf-8"))["vectors"]
]
FIRST_SEQUENCE_BYTES = range(16, 24)
# A file in these places stands in for the package: importing it fails.
WITHOUT = ("grpc", "google", "numpy", "runyard_protos")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root for journals."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def offline_run(root: Path, run_id: str = "r1", *, rows: int = 5, is_ended: bool = True) -> Path:
    """Makes an offline run with a file; returns its folder. Without its end it is as if its process had been killed."""
    run = runyard.init(
        mode="offline", id=run_id, project="p", dir=str(root), settings={"silent": True}
    )
    for value in range(rows):
        run.log({"a": float(value), "b/c d": -1.0})
    model = root.parent / "model.bin"
    model.write_bytes(b"weights")
    run.save(str(model), policy="end")
    if is_ended:
        run.finish()
    else:
        run.become_foreign()
        runyard.run_registry.deactivate(run)
    (folder,) = root.glob(f"run-*-{run_id}")
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["title"]))
def test_show_agrees_with_the_vectors(
    tmp_path: Path, vector: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each record of a vector is shown, of every version; what stops a reader is told, but for unknown kinds: those are shown."""
    for name, content in vector["segments_zlib_base64"].items():
        (tmp_path / name).write_bytes(zlib.decompress(base64.b64decode(content)))
    code, out, err = told(capsys, "journal", "show", "--json", str(tmp_path))
    lines = [json.loads(line) for line in out.splitlines()]
    expected = vector["records"]
    shown = [(line["sequence"], line["kind"]) for line in lines]
    assert shown[: len(expected)] == [(record["sequence"], record["kind"]) for record in expected]
    is_readable = vector["stop"] in ("end", "unknown_kind")
    assert code == (0 if is_readable else 1)
    assert is_readable == (not err)
    if vector["stop"] == "unknown_kind":
        assert [line["kind"] for line in lines[len(expected) :]] == ["99", "FINISH"]
        assert lines[-2]["payload"] == {"x": 1}


def test_records_are_told_in_words(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line holds sequence, kind, time and values; --kind and --from/--to choose."""
    folder = offline_run(root)
    code, out, _ = told(capsys, "journal", "show", str(folder))
    lines = out.splitlines()
    assert code == 0 and len(lines) == 9
    assert lines[0].split()[:2] == ["1", "START"] and '"run_id": "r1"' in lines[0]
    assert lines[2].split()[:2] == ["3", "ROW"] and lines[2].split()[2].endswith("Z")
    assert lines[2].endswith('step=0 a=0.0 "b/c d"=-1.0')
    _, out, _ = told(capsys, "journal", "show", str(folder), "--kind", "row", "--from", "4", "--to", "5")  # fmt: skip
    assert [line.split()[0] for line in out.splitlines()] == ["4", "5"]
    code, _, err = told(capsys, "journal", "show", str(folder), "--kind", "ROWS")
    assert code == 1 and "ROWS" in err and "SCHEMA" in err
    code, out, _ = told(capsys, "journal", "show", str(folder), "--stats", "--json")
    stats = json.loads(out)
    assert (stats["records"], stats["records_by_kind"]["ROW"], stats["steps"]) == (9, 5, [0, 4])
    assert stats["points_by_metric"] == {"a": 5, "b/c d": 5}
    _, out, _ = told(capsys, "journal", "show", str(folder), "--stats")
    assert "records    9, 1 to 9" in out and "metrics    2, 10 points" in out
    code, _, err = told(capsys, "journal", "show", str(root))
    assert code == 1 and "it holds 1 run folders, give one of them" in err


def test_damage_is_placed_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damage in one of several segments is told with place, bytes and lost records; the next segment is shown."""
    journal = JournalWriter(tmp_path, segment_bytes=[1024], is_synced=False)
    journal.append(form.START, b'{"format": 1}')
    for number in range(60):
        journal.append(form.CHANGE, json.dumps({"notes": f"{number:03d}"}).encode())
    journal.close()
    first = tmp_path / form.segment_name(1)
    content = bytearray(first.read_bytes())
    content[500] ^= 4
    first.write_bytes(content)
    follower = JournalFollower(LocalDisk(), str(tmp_path), durable_sequence=0)
    while follower.read() is not None:
        pass
    (lost,) = follower.lost
    (damage,) = [one for one in walk(segments_of(tmp_path)) if isinstance(one, Damage)]
    assert damage.records_lost == lost.last_sequence - lost.first_sequence + 1 > 0
    code, out, err = told(capsys, "journal", "show", str(tmp_path))
    assert code == 1 and out.splitlines()[-1].split()[0] == "61"
    assert len(out.splitlines()) == 61 - damage.records_lost
    assert f"00000001.seg: a frame's checksum is wrong at byte {damage.offset:,}" in err
    assert f"{damage.size_bytes:,} bytes; {damage.records_lost:,} records lost" in err


@given(
    flips=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 1023), st.integers(1, 255)), max_size=4
    ),
    cut=st.integers(0, 1024),
)
def test_whatever_the_damage_what_is_shown_was_written(
    flips: list[tuple[int, int, int]], cut: int
) -> None:
    """No damage invents or alters a record or raises; up to the last one shown, each record is shown or told as lost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = JournalWriter(folder, segment_bytes=[1024], is_synced=False)
        journal.append(form.START, b'{"format": 1}')
        for number in range(100):
            journal.append(form.CHANGE, json.dumps({"notes": f"{number:03d}"}).encode())
        journal.close()
        paths = sorted(folder.glob("*.seg"))
        for index, offset, change in flips:
            content = bytearray(paths[index % len(paths)].read_bytes())
            place = offset % len(content)
            if place not in FIRST_SEQUENCE_BYTES:  # nothing checks these
                content[place] ^= change
            paths[index % len(paths)].write_bytes(content)
        paths[-1].write_bytes(paths[-1].read_bytes()[:cut])
        shown, lost = {}, 0
        for one in walk(segments_of(folder)):
            if isinstance(one, Damage):
                lost += one.records_lost or 0
            else:
                shown[one.frame.sequence] = json.loads(one.frame.payload)
        assert all(
            content == ({"notes": f"{sequence - 2:03d}"} if sequence > 1 else {"format": 1})
            for sequence, content in shown.items()
        )
        assert max(shown, default=0) <= len(shown) + lost <= 101


def test_status_tells_each_state(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each state a run folder can be in is named, with what is unsent."""
    ended = offline_run(root, "ended")
    killed = offline_run(root, "killed", is_ended=False)
    complete = offline_run(root, "complete")
    fields = {"version": 1, "durable_sequence": 9, "written_sequence": 9}
    (complete / "mark.json").write_text(json.dumps({**fields, "is_complete": True}))
    refused = offline_run(root, "refused")
    (refused / "mark.json").write_text(
        json.dumps({"version": 1, "server": "refused", "message": "the run was deleted"})
    )
    partly = offline_run(root, "partly")
    (partly / "mark.json").write_text(
        json.dumps({"version": 1, "durable_sequence": 4, "refused_ranges": [[2, 2]]})
    )
    damaged = offline_run(root, "damaged")
    (segment,) = (damaged / "journal").glob("*.seg")
    body = bytearray(segment.read_bytes())
    body[-60] ^= 1
    segment.write_bytes(body)
    (root / "run-empty").mkdir()
    (root / "run-empty" / "journal").mkdir()
    live = runyard.init(mode="offline", id="live", project="p", settings={"silent": True})
    live.log({"a": 1.0})
    try:
        found = {one["path"].rpartition("/")[2]: one for one in status_of(capsys, root)}
        code, out, _ = told(capsys, "sync", "--status")
    finally:
        live.finish()
    assert {name: one["state"] for name, one in found.items()} == {
        "ended": "unsent", "killed": "unsent", "complete": "complete", "refused": "refused", "partly": "unsent",
        "damaged": "damaged", "": "empty", "live": "live",
    }  # fmt: skip
    assert found["ended"]["path"] == "local/p/ended" and found["ended"]["mode"] == "offline"
    assert (found["ended"]["records_written"], found["ended"]["records_unsent"]) == (9, 9)
    assert found["ended"]["files_unsent"] == 1 and found["ended"]["size_bytes"] > 0
    assert (found["killed"]["records_written"], found["killed"]["is_live"]) == (8, False)
    keys = ("records_durable", "records_refused", "records_unsent")
    assert tuple(found["partly"][key] for key in keys) == (3, 1, 5)
    assert found["complete"]["records_unsent"] == 0 and found["live"]["is_live"]
    assert found["refused"]["message"] == "the run was deleted"
    assert "checksum is wrong" in found["damaged"]["message"]
    assert code == 0 and "8 runs on this disk" in out and "the run was deleted" in out
    assert ended.name in out and killed.name in out


def status_of(capsys: pytest.CaptureFixture[str], *paths: Path) -> list[dict[str, Any]]:
    code, out, err = told(capsys, "sync", "--status", "--json", *map(str, paths))
    assert code == 0 and not err
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_status_takes_folders_of_all_kinds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A root, a run folder, its journal, and the folder in which scripts run: each run once."""
    folder = offline_run(root)
    named = root.parent / "project" / "runyard"
    other = offline_run(named, "r2")
    found = status_of(capsys, root, folder, folder / "journal", named.parent)
    assert [one["folder"] for one in found] == [str(folder), str(other)]
    assert told(capsys, "sync", "--status", str(root / "none"))[0] == 1


def test_status_and_show_need_neither_grpc_nor_numpy(root: Path, tmp_path: Path) -> None:
    """Both work where the packages of the agent cannot be imported."""
    folder = offline_run(root)
    for name in WITHOUT:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not to be had')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for arguments in (("sync", "--status", str(root)), ("journal", "show", str(folder))):
        done = subprocess.run(
            [sys.executable, "-m", "runyard", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0 and "r1" in done.stdout, done.stderr


def test_durable_segments_that_were_removed_are_no_damage(tmp_path: Path) -> None:
    """A journal whose middle was sent and deleted is unsent, not damaged; without a mark it is the same."""
    folder = tmp_path / "run-1"
    (folder / "journal").mkdir(parents=True)
    journal = JournalWriter(folder / "journal", segment_bytes=[512], is_synced=False)
    journal.append(form.START, b'{"format": 1, "run_id": "r", "mode": "online"}')
    for number in range(60):
        journal.append(form.CHANGE, json.dumps({"notes": f"{number:03d}"}).encode())
    journal.close()
    for number in (2, 3):
        (folder / "journal" / form.segment_name(number)).unlink()
    status = read_status(folder)
    assert status.state == "unsent" and status.records_written == 61
    (folder / "mark.json").write_text(json.dumps({"version": 1, "durable_sequence": 41}))
    status = read_status(folder)
    assert (status.state, status.records_unsent) == ("unsent", 20)
    (folder / "journal" / form.segment_name(4)).unlink()
    status = read_status(folder)
    assert (status.state, status.records_unsent) == ("damaged", 6)
    assert "records 42 to 55 are missing" in status.message
