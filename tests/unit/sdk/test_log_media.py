"""log() of media: files and frames beside the numbers, at their step; nothing half recorded."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pil
from plotly import graph_objects

import runyard
from runyard import extended_json
from runyard import journal_format as form
from runyard.errors import InvalidArgument, UsageError
from runyard.journal_reader import Frame, JournalReader

matplotlib.use("Agg")

GREY = np.zeros((2, 3), np.uint8)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs of these tests stay in a folder of their own."""
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("RUNYARD_CONSOLE", "off")
    monkeypatch.chdir(tmp_path)
    yield
    runyard.teardown()


def run_folder(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "journals").glob("run-*")
    return folder


def frames(tmp_path: Path) -> list[Frame]:
    found = list(JournalReader.open(run_folder(tmp_path)).frames())
    return [frame for frame in found if frame.kind in (form.ROW, form.FILE, form.MEDIA)]


def media(tmp_path: Path) -> list[dict[str, Any]]:
    return [frame.content for frame in frames(tmp_path) if frame.kind == form.MEDIA]  # type: ignore[misc]  # a dict each


def test_numbers_and_media_at_one_step(tmp_path: Path) -> None:
    """The row, then the files, then the value that names them; bytes, sizes and sums are those of the files."""
    run = runyard.init()
    run.log({"loss": 1.0})
    images = [runyard.Image(GREY, caption="a"), runyard.Image(GREY + 9)]
    run.log({"loss": 0.5, "val": {"examples": images}})
    found = frames(tmp_path)
    kinds = [form.ROW, form.ROW, form.FILE, form.FILE, form.MEDIA]
    assert [frame.kind for frame in found] == kinds
    assert (found[1].step, run.step) == (1, 2)
    told = found[-1].content
    assert isinstance(told, dict)
    assert (told["step"], told["name"], told["kind"]) == (1, "val.examples", "image")
    assert told["time_unix_ns"] == found[1].time_unix_ns
    for item, frame in zip(told["items"], found[2:4], strict=True):
        assert isinstance(frame.content, dict)
        path = run_folder(tmp_path) / "files" / item["file"]
        raw = path.read_bytes()
        assert item["sha256"] == hashlib.sha256(raw).hexdigest()
        assert item["file"] == f"media/image/val.examples_1_{item['sha256'][:12]}.png"
        assert item["size_bytes"] == len(raw) == frame.content["size_bytes"]
        assert (frame.content["path"], frame.content["name"]) == (str(path), item["file"])
        assert (frame.content["policy"], frame.content["is_copy"]) == ("now", True)
        with Pil.open(path) as picture:
            assert picture.size == (item["width"], item["height"]) == (3, 2)
    assert told["items"][0]["caption"] == "a" and "caption" not in told["items"][1]


def test_steps_are_those_of_rows(tmp_path: Path) -> None:
    """commit=False, an explicit step, a late one; media alone move the step as an empty row does."""
    run = runyard.init()
    run.log({"a": runyard.Image(GREY)}, commit=False)
    run.log({"b": runyard.Histogram([1.0])})
    run.log({"c": runyard.Image(GREY)}, step=7)
    run.log({"c": runyard.Image(GREY), "x": 1.0}, step=7, commit=True)
    run.log({"d": runyard.Image(GREY)}, step=3)
    assert [(told["name"], told["step"]) for told in media(tmp_path)] == [
        ("a", 0), ("b", 0), ("c", 7), ("c", 7), ("d", 3),
    ]  # fmt: skip
    assert run.step == 8
    with pytest.raises(InvalidArgument, match="does not fit 64 bits"):
        run.log({"a": runyard.Image(GREY)}, step=2**63)


def test_every_kind_is_recorded(tmp_path: Path) -> None:
    """Objects of libraries are taken as they are; a histogram has no items."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    run = runyard.init()
    run.log(
        {
            "audio": runyard.Audio(np.zeros(10), sample_rate=100),
            "axes": axes,
            "figure": figure,
            "frame": pd.DataFrame({"a": [1, 2]}),
            "histogram": runyard.Histogram([1.0, float("nan")], num_bins=1),
            "html": runyard.Html("<p>"),
            "pil": Pil.new("L", (2, 2)),
            "plot": runyard.plot.line_series([1], [[2]]),
            "plotly": graph_objects.Figure(),
            "table": runyard.Table(columns=["i"], data=[[runyard.Image(GREY)]]),
            "video": runyard.Video(np.zeros((2, 3, 4, 5))),
        }
    )
    pyplot.close(figure)
    told = {value["name"]: value for value in media(tmp_path)}
    assert {name: value["kind"] for name, value in told.items()} == {
        "audio": "audio", "axes": "image", "figure": "image", "frame": "table", "histogram": "histogram", "html": "html",
        "pil": "image", "plot": "plot", "plotly": "plot", "table": "table", "video": "video",
    }  # fmt: skip
    assert told["histogram"]["histogram"] == {
        "edges": [0.5, 1.5],
        "counts": [1.0],
        "non_finite_count": 1,
    }
    assert "items" not in told["histogram"]
    assert told["frame"]["items"][0]["columns"] == [{"name": "a", "type": "number"}]
    assert told["plot"]["items"][0]["data"] == {"x": [1], "y": [2], "series": ["line_0"]}
    assert told["plotly"]["items"][0]["format"] == "plotly.json"
    files = sorted(p for p in (run_folder(tmp_path) / "files").rglob("*") if p.is_file())
    named = [f.content["name"] for f in frames(tmp_path) if f.kind == form.FILE]  # type: ignore[index,call-overload]  # a dict
    assert len(named) == len(set(named)) == len(files)
    # The image of a cell is told before its table.
    kinds = [name.split("/")[1] for name in named]
    assert kinds.count("table") == 3 and any(name.startswith("media/table/table_0_") and name.endswith(".png") for name in named)  # fmt: skip


def test_names_are_safe_in_files(tmp_path: Path) -> None:
    """Slashes make folders, the rest becomes "_"; nothing leads out of the run's folder, nothing is too long."""
    run = runyard.init()
    names = [
        "a/b c/d",
        "../../x",
        "/abs",
        "é",
        "...",
        "a" * 500,
        "b/" * 250 + "b",
        ".hidden",
        "a\\b",
        "con:1",
    ]
    run.log({name: runyard.Image(GREY) for name in names})
    root = run_folder(tmp_path) / "files"
    for told in media(tmp_path):
        file = told["items"][0]["file"]
        assert file.startswith("media/image/") and (root / file).is_file()
        assert len(file.encode()) <= 1024 and all(
            0 < len(part) <= 255 and part.strip(".") for part in file.split("/")
        )
        assert file.isascii() and "\\" not in file
    assert media(tmp_path)[0]["items"][0]["file"].startswith("media/image/a/b_c/d_0_")
    assert [told["name"] for told in media(tmp_path)] == names


def test_the_same_bytes_are_one_file(tmp_path: Path) -> None:
    """Under one name and step, bytes that are there already are not told again."""
    run = runyard.init()
    image = runyard.Image(GREY)
    run.log({"a": [image, image, runyard.Image(GREY)]}, step=1)
    run.log({"a": image}, step=1)
    found = frames(tmp_path)
    assert [frame.kind for frame in found] == [form.FILE, form.MEDIA, form.MEDIA]
    files = {item["file"] for told in media(tmp_path) for item in told["items"]}
    assert len(files) == 1
    assert len([p for p in (run_folder(tmp_path) / "files").rglob("*") if p.is_file()]) == 1


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([runyard.Image(GREY), runyard.Html("x")], "media of kinds html, image"),
        ([runyard.Image(GREY), 3], "media of kind image and a value of type int"),
        ([runyard.Histogram([1]), runyard.Histogram([1])], "a list of 2 histograms"),
        ([runyard.Image(GREY)] * 1001, "1001 images, at most 1000"),
        (GREY, "runyard.Histogram or a runyard.Image"),
        ([], "type list; a metric takes a number"),
        ([1, 2], "type list; a metric takes a number"),
        ("text", "Text belongs into"),
        ([runyard.Image(GREY, caption="é" * 2000)] * 300, "bytes, at most 1048576"),
    ],
)
def test_nothing_of_a_wrong_call_is_recorded(tmp_path: Path, value: Any, problem: str) -> None:
    """Neither the numbers nor the media before the wrong value; the step stays."""
    run = runyard.init()
    with pytest.raises((TypeError, InvalidArgument), match=problem):
        run.log({"loss": 1.0, "fine": runyard.Image(GREY), "wrong": value})
    assert run.step == 0 and frames(tmp_path) == []
    assert [p for p in (run_folder(tmp_path) / "files").rglob("*") if p.is_file()] == []
    run.log({"loss": 1.0})
    assert [frame.step for frame in frames(tmp_path)] == [0]


def test_a_table_of_wrong_cells_records_nothing(tmp_path: Path) -> None:
    """What only shows when the table is written out is found before, too."""
    run = runyard.init()
    table = runyard.Table(columns=["a"], data=[["x" * (2 << 20)]])
    with pytest.raises(InvalidArgument, match="column 'a', row 0"):
        run.log({"loss": 1.0, "t": table})
    assert frames(tmp_path) == []


def test_many_boxes_go_into_files(tmp_path: Path) -> None:
    """What would be more than 1 MiB of description has its boxes and masks in files of their own."""
    run = runyard.init()
    position = {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4}
    boxes = {"p": {"box_data": [{"position": position, "class_id": 1}] * 500}}
    mask = {"m": {"mask_data": GREY}}
    run.log({"a": [runyard.Image(GREY, boxes=boxes, masks=mask)] * 40})
    (told,) = media(tmp_path)
    assert len(told["items"]) == 40
    item = told["items"][0]
    assert "boxes" not in item and "masks" not in item
    assert item["annotation_sets"] == ["p", "m"]
    path = run_folder(tmp_path) / "files" / item["annotations_file"]
    annotations = extended_json.loads(path.read_text("utf-8"))
    assert len(annotations["boxes"]["p"]["box_data"]) == 500
    mask_file = annotations["masks"]["m"]["file"]
    with Pil.open(run_folder(tmp_path) / "files" / mask_file) as picture:
        assert picture.mode == "L"
    names = [f.content["name"] for f in frames(tmp_path) if f.kind == form.FILE]  # type: ignore[index,call-overload]  # a dict
    assert set(names) == {item["file"], item["annotations_file"], mask_file}


def test_the_summary_shows_the_last_media() -> None:
    """A dict with _type; of a list with all items; a number of that name stands over it."""
    run = runyard.init()
    run.log(
        {"image": runyard.Image(GREY, caption="c"), "many": [runyard.Image(GREY)] * 2, "loss": 1.0}
    )
    run.log({"h": runyard.Histogram([1.0], num_bins=1)})
    told = run.summary["image"]
    assert (told["_type"], told["caption"], told["step"], told["width"]) == ("image", "c", 0, 3)
    assert (run.summary["many"]["count"], len(run.summary["many"]["items"])) == (2, 2)
    assert run.summary["h"]["counts"] == [1.0]
    assert set(run.summary) == {"image", "many", "loss", "h"}
    run.log({"image": 3.0})
    assert run.summary["image"] == 3.0
    with pytest.raises(KeyError):
        run.summary["none"]


def test_disabled_finished_and_forked(tmp_path: Path) -> None:
    """A disabled run checks and keeps nothing; a finished one refuses; a forked child passes over."""
    run = runyard.init(mode="disabled")
    run.log({"a": runyard.Image(GREY), "b": 1.0})
    with pytest.raises(TypeError):
        run.log({"a": object()})
    run.finish()
    run = runyard.init()
    child = os.fork()
    if child == 0:
        try:
            run.log({"a": runyard.Image(GREY)})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert frames(tmp_path) == []
    assert list((run_folder(tmp_path) / "files").iterdir()) == []
    run.finish()
    with pytest.raises(UsageError, match="finished"):
        run.log({"a": runyard.Image(GREY)})


def test_a_disk_that_refuses_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers and media that the disk takes are recorded; of the rest there is one warning, and nothing is half there."""
    run = runyard.init()
    blocked = run_folder(tmp_path) / "files" / "media"
    blocked.write_text("in the way")
    for _ in range(3):
        run.log({"loss": 1.0, "a": runyard.Image(GREY), "h": runyard.Histogram([1])})
    kinds = [form.ROW, form.MEDIA] * 3
    assert [frame.kind for frame in frames(tmp_path)] == kinds
    assert capsys.readouterr().err.count("'a' cannot be kept") == 1
    assert [p.name for p in (run_folder(tmp_path) / "files").iterdir()] == ["media"]
    blocked.unlink()
    run.log({"a": runyard.Image(GREY)})
    assert [frame.kind for frame in frames(tmp_path)] == [*kinds, form.FILE, form.MEDIA]


def test_media_survive_kill_9(tmp_path: Path) -> None:
    """What log() returned from is on this disk, whole."""
    script = (
        "import os, signal, numpy, runyard\n"
        "run = runyard.init()\n"
        "run.log({'loss': 1.0, 'a': runyard.Image(numpy.full((64, 64), 7, numpy.uint8))})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    (told,) = media(tmp_path)
    with Pil.open(run_folder(tmp_path) / "files" / told["items"][0]["file"]) as picture:
        assert np.asarray(picture).tolist() == [[7] * 64] * 64


def test_media_of_a_signal_handler_and_of_threads(tmp_path: Path) -> None:
    """log() inside another log() of the same thread, and from many threads at once."""
    run = runyard.init()
    image = runyard.Image(GREY)
    before = signal.signal(signal.SIGALRM, lambda *_: run.log({"inner": image}))
    try:
        for index in range(300):
            signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + index))
            run.log({"x": 1.0, "outer": image})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    def work(name: str) -> None:
        for value in range(30):
            run.log({name: runyard.Image(np.full((2, 2), value, np.uint8))})

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = media(tmp_path)
    names = [value["name"] for value in told]
    assert names.count("outer") == 300 and "inner" in names
    assert all(names.count(f"t{i}") == 30 for i in range(4))
    assert all((run_folder(tmp_path) / "files" / v["items"][0]["file"]).is_file() for v in told)


def test_sources_on_disk_are_copied_when_logged(tmp_path: Path) -> None:
    """A video file is read at log(), not held in memory; that it went away by then is one warning."""
    path = tmp_path / "v.gif"
    buffer = io.BytesIO()
    Pil.new("L", (3, 3)).save(buffer, "GIF")
    path.write_bytes(buffer.getvalue())
    run = runyard.init()
    video = runyard.Video(path)
    run.log({"v": video})
    path.unlink()
    run.log({"v": video, "x": 1.0})
    assert [frame.kind for frame in frames(tmp_path)] == [form.FILE, form.MEDIA, form.ROW]
    (told,) = media(tmp_path)
    assert (
        run_folder(tmp_path) / "files" / told["items"][0]["file"]
    ).read_bytes() == buffer.getvalue()
