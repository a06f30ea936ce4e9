"""TensorBoard's files beside a run: names, steps, what was there before, writers that are noticed, and the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import runyard
from runyard import journal_format as form
from runyard.active_run import Run
from runyard.errors import InvalidArgument, UsageError
from runyard.integration import event_records, event_writers, import_hook, tensorboard
from runyard.journal_reader import JournalReader
from runyard.media.image import Image
from tests.unit.sdk.event_messages import bytes_field, double_field, event, record

WRITER = """
from pathlib import Path

class EventFileWriter:
    count = 0

    def __init__(self, logdir, max_queue_size=10, flush_secs=120, filename_suffix=""):
        EventFileWriter.count += 1
        Path(logdir).mkdir(parents=True, exist_ok=True)
        self.path = Path(logdir, f"events.out.tfevents.{EventFileWriter.count}{filename_suffix}")
        self.held = b""
        self.path.touch()

    def add(self, data):
        self.held += data

    def flush(self):
        with self.path.open("ab") as file:
            file.write(self.held)
        self.held = b""
"""


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("RUNYARD_CONSOLE", "off")
    monkeypatch.chdir(tmp_path)
    yield
    runyard.teardown()
    tensorboard.unpatch()


@pytest.fixture
def writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tensorboardX that is not imported yet, and that nobody has wrapped."""
    package = tmp_path / "packages" / "tensorboardX"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "event_file_writer.py").write_text(WRITER)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(event_writers, "_is_installed", False)
    monkeypatch.setattr(import_hook, "_waiting", {})
    yield
    for name in [name for name in sys.modules if name.startswith("tensorboardX")]:
        del sys.modules[name]


def points(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Returns (step, value) by name out of the journal."""
    (folder,) = Path("journals").glob(f"run-*-{run.id}")
    found: dict[str, list[tuple[int, float]]] = {}
    for frame in JournalReader.open(folder).frames():
        if frame.kind == form.ROW:
            for name, value in zip(frame.names, frame.values, strict=True):
                found.setdefault(name, []).append((frame.step, value))
    return found


def test_a_folder_is_followed() -> None:
    """Subfolders are in the names; what comes until the end is there; the run's own step does not move."""
    Path("logs/train/deep").mkdir(parents=True)
    Path("logs/events.out.tfevents.1").write_bytes(
        record("loss", 1.0, 5) + record("a/b", 2.0, 1000)
    )
    Path("logs/train/deep/events.out.tfevents.2").write_bytes(record("loss", 3.0, 5))
    Path("logs/notes.txt").write_text("no events")
    with runyard.init() as run:
        tensorboard.watch("logs")
        run.log({"own": 1.0})
        with Path("logs/events.out.tfevents.1").open("ab") as file:
            file.write(record("loss", 0.5, 6))
        Path("logs/later").mkdir()
        Path("logs/later/events.out.tfevents.3").write_bytes(record("acc", 1.0, -1))
        run.log({"own": 2.0})
        assert run.step == 2
    assert points(run) == {
        "loss": [(5, 1.0), (6, 0.5)],
        "a/b": [(1000, 2.0)],
        "train/deep/loss": [(5, 3.0)],
        "later/acc": [(-1, 1.0)],
        "own": [(0, 1.0), (1, 2.0)],
    }
    assert run.summary["loss"] == 0.5


def test_numbers_arrive_while_the_script_runs() -> None:
    """Nothing need end for what was written to be in the run."""
    Path("logs").mkdir()
    with runyard.init() as run:
        tensorboard.watch("logs", prefix="tb/")
        Path("logs/events.out.tfevents.1").write_bytes(record("loss", 1.0, 5))
        end_s = time.monotonic() + 20
        while "tb/loss" not in run.summary and time.monotonic() < end_s:
            pass
        assert run.summary["tb/loss"] == 1.0


def test_what_was_there_before_can_be_left_out() -> None:
    """With existing=False only what files grow by, and new files, count."""
    Path("logs").mkdir()
    Path("logs/events.out.tfevents.1").write_bytes(record("loss", 1.0, 1))
    with runyard.init() as run:
        tensorboard.watch("logs", existing=False)
        with Path("logs/events.out.tfevents.1").open("ab") as file:
            file.write(record("loss", 0.5, 2))
        Path("logs/events.out.tfevents.2").write_bytes(record("loss", 0.25, 3))
    assert points(run) == {"loss": [(2, 0.5), (3, 0.25)]}


def test_names_that_cannot_be_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A tag that is no name of a metric is left out and told once; damage is told at the end."""
    Path("logs").mkdir()
    Path("logs/events.out.tfevents.1").write_bytes(
        record("a\nb", 1.0, 1)
        + record("a\nb", 1.0, 2)
        + record("", 1.0, 1)
        + record("y", 1.0, 1)
        + b"\1" * 40
    )
    with runyard.init() as run:
        tensorboard.watch("logs")
    assert points(run) == {"y": [(1, 1.0)]}
    err = capsys.readouterr().err
    assert err.count("is left out: its name holds a control character") == 1
    assert "from byte" in err


def test_media_are_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """Histograms and images are there with their steps; an image that is none is told and left out, what follows is not."""
    Path("logs").mkdir()
    Image(np.zeros((2, 3, 3), np.uint8))._content.copied(Path("picture.png"))
    picture = Path("picture.png").read_bytes()
    values = [
        bytes_field(1, b"h")
        + bytes_field(5, double_field(2, 2.0) + double_field(6, 2.0) + double_field(7, 4.0)),
        bytes_field(1, b"i") + bytes_field(4, bytes_field(4, b"no image")),
        bytes_field(1, b"i") + bytes_field(4, bytes_field(4, picture)),
    ]
    written = b"".join(
        event_records.frame(event(value, step=step)) for step, value in enumerate(values)
    )
    Path("logs/events.out.tfevents.1").write_bytes(written + record("loss", 1.0, 9))
    with runyard.init() as run:
        tensorboard.watch("logs")
    (folder,) = Path("journals").glob("run-*")
    media = [
        frame.content for frame in JournalReader.open(folder).frames() if frame.kind == form.MEDIA
    ]
    assert [(one["name"], one["kind"], one["step"]) for one in media] == [
        ("h", "histogram", 0),
        ("i", "image", 2),
    ]
    assert media[0]["histogram"]["counts"] == [4.0]
    assert points(run) == {"loss": [(9, 1.0)]}
    assert "a value of 'i' is left out" in capsys.readouterr().err


def test_a_watch_can_be_stopped() -> None:
    """After stop() all that was written is there, and what comes is not followed."""
    Path("logs").mkdir()
    with runyard.init() as run:
        watching = tensorboard.watch("logs")
        Path("logs/events.out.tfevents.1").write_bytes(record("loss", 1.0, 1))
        watching.stop()
        assert run.summary["loss"] == 1.0
        Path("logs/events.out.tfevents.2").write_bytes(record("loss", 0.5, 2))
    assert points(run) == {"loss": [(1, 1.0)]}


def test_what_cannot_be_followed_is_refused() -> None:
    """Without a run, and for addresses, there is an error that says so."""
    with pytest.raises(UsageError, match=r"call runyard.init\(\) before"):
        tensorboard.watch("logs")
    with runyard.init(), pytest.raises(InvalidArgument, match="no folder of this machine"):
        tensorboard.watch("gs://bucket/logs")


@pytest.mark.usefixtures("writers")
def test_writers_are_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    """Writers of a package that is imported later are followed, and asked at the end for what they hold back."""
    Path("logs").mkdir()
    Path("logs/events.out.tfevents.0").write_bytes(record("old", 1.0, 1))
    with runyard.init(sync_tensorboard=True) as run:
        from tensorboardX.event_file_writer import EventFileWriter

        first, second = EventFileWriter("logs"), EventFileWriter("logs/sub/deep")
        elsewhere, twin = EventFileWriter("other/sub"), EventFileWriter(logdir="third/sub")
        for place, writer in enumerate((first, second, elsewhere, twin)):
            writer.add(record("loss", float(place), place))
        EventFileWriter("s3://bucket/x")
    assert points(run) == {
        "loss": [(0, 0.0)],
        "sub/deep/loss": [(1, 1.0)],
        "sub/loss": [(2, 2.0)],
        "third/sub/loss": [(3, 3.0)],
    }
    assert "s3://bucket/x is no folder of this machine" in capsys.readouterr().err
    first.add(record("loss", 9.0, 9))
    first.flush()
    with runyard.init(sync_tensorboard=True) as second_run:
        third = EventFileWriter("logs")
        third.add(record("new", 1.0, 1))
    assert points(second_run) == {"new": [(1, 1.0)]}


@pytest.mark.usefixtures("writers")
def test_splits_of_one_training_are_told_apart() -> None:
    """Folders called train and validation, as Keras makes them, are told from the folder above; `patch` names another one."""
    with runyard.init(sync_tensorboard=True) as run:
        from tensorboardX.event_file_writer import EventFileWriter

        made = [EventFileWriter(f"logs/{name}") for name in ("train", "validation")]
        for writer in made:
            writer.add(record("loss", 1.0, 1))
    assert sorted(points(run)) == ["train/loss", "validation/loss"]
    runyard.tensorboard.patch(root_logdir=".")
    with runyard.init(sync_tensorboard=True) as run:
        writer = EventFileWriter("logs/train")
        writer.add(record("loss", 1.0, 1))
    assert sorted(points(run)) == ["logs/train/loss"]


@pytest.mark.usefixtures("writers")
def test_a_run_that_does_not_sync_has_nothing() -> None:
    """Writers of others are left alone."""
    with (
        runyard.init(sync_tensorboard=True, mode="disabled"),
        runyard.init(reinit="create_new") as run,
    ):
        from tensorboardX.event_file_writer import EventFileWriter

        writer = EventFileWriter("logs")
        writer.add(record("loss", 1.0, 1))
    assert points(run) == {}
