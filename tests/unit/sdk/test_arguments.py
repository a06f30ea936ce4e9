"""What init() and a run's attributes refuse, with words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runyard
from runyard import journal_format as form
from runyard.errors import InvalidArgument, UsageError
from runyard.journal_reader import JournalReader

PIXELS = np.zeros((3, 3))


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs of these tests stay in a folder of their own."""
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    monkeypatch.setenv("RUNYARD_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    yield
    runyard.teardown()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "a/b"}, "run id 'a/b' holds '/'"),
        ({"id": ""}, "run id '' is empty"),
        ({"project": "x" * 129}, "project .* has 129 characters, at most 128"),
        ({"entity": "a:b"}, "entity 'a:b' holds ':'"),
        ({"mode": "shared"}, "mode 'shared' is not one of"),
        ({"name": 3}, "name is int 3"),
        ({"name": "x" * 257}, "name 'x+' … has 257 characters, at most 256"),
        ({"name": "a\nb"}, "name 'a.nb' holds a control character"),
        ({"group": "\ud800"}, "group '.ud800' holds a control character or a lone surrogate"),
        ({"notes": "x" * (256 * 1024 + 1)}, "notes 'x+' … have 262145 bytes, at most 262144"),
        ({"notes": "\ud800"}, "notes .* a lone surrogate"),
        ({"tags": ["a", "b" * 257]}, "tag 'b+' … has 257 characters"),
        ({"tags": [str(i) for i in range(257)]}, "tags are 257, at most 256"),
        ({"config": {"a": "x" * (4 << 20)}}, "config has 4194312 bytes"),
        ({"settings": 3}, "settings=.* is of type int"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    """A bad argument is an error that says what is wrong, with value and limit; no run is started."""
    with pytest.raises(InvalidArgument, match=message):
        runyard.init(**arguments)
    assert runyard.run is None


def test_bad_changes_are_named(tmp_path: Path) -> None:
    """What the server would refuse is refused at once, and nothing of it is kept."""
    run = runyard.init(name="n", notes="q", tags=["t"])
    for name, value in (
        ("name", ""), ("name", "x" * 257), ("name", "a\x1b[31m"), ("notes", "\0"), ("tags", [" "]),
        ("notes", "x" * 300_000), ("tags", [str(i) for i in range(257)]), ("name", "\ud800"),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match=name.rstrip("s")):
            setattr(run, name, value)
    assert (run.name, run.notes, run.tags) == ("n", "q", ("t",))
    run.finish()
    (folder,) = (tmp_path / "journals").glob("run-*")
    assert [f for f in JournalReader.open(folder).frames() if f.kind == form.CHANGE] == []


def test_resume_must_needs_an_id() -> None:
    """resume="must" without an id cannot mean any run."""
    with pytest.raises(UsageError, match="resume"):
        runyard.init(resume="must")


LONG = "data:image/png;base64," + "A" * 5000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: runyard.Image(LONG), "Image: 'data:image.{80,120}… is no path: .*too long"),
        (lambda run: runyard.Image(PIXELS, file_type=3), "file_type is of type int; it must be"),
        (lambda run: runyard.Image(PIXELS, mode=3), "mode is of type int; it must be a string"),
        (lambda run: runyard.Image(PIXELS, mode="XYZ"), "one of mode 'XYZ'"),
        (lambda run: runyard.Table(columns=3), "columns is of type int; it must be a list"),
        (lambda run: runyard.plot.line_series(3, [[1]]), "xs is of type int; it must be a list"),
        (lambda run: runyard.Artifact("a", "b").add_file(None), "local_path is of type NoneType"),
        (lambda run: runyard.Artifact("a", "b").add_dir(3), "local_path is of type int"),
        (lambda run: runyard.Artifact("a", "b").add_file("a.txt", name=""), "'' cannot be a name"),
        (lambda run: run.log_artifact(3), "artifact_or_path is of type int"),
        (lambda run: run.log_artifact(LONG[5:]), "no file or folder 'image/png.{80,120}…"),
        (lambda run: run.log_artifact("a.txt", aliases=3), "aliases is of type int; it must be a"),
        (lambda run: run.log_artifact("a.txt", tags=[3]), "tag 3 is of type int; it must be a str"),
        (lambda run: run.log_code(LONG[5:]), "'image/png.{80,120}… is no folder"),
        (lambda run: run.save("a.txt", policy=3), "policy 3 is not one of live, end, now"),
        (
            lambda run: run.restore(3, "nico/p/r"),
            "the name is of type int; names of files are strings",
        ),
    ],
)
def test_contents_that_cannot_be(
    call: Callable[[Any], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong, its value cut where it is long, and what is allowed; the run goes on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    run = runyard.init(project="p")
    with pytest.raises(InvalidArgument, match=message) as caught:
        call(run)
    assert len(str(caught.value)) < 500
    run.log({"loss": 0.5})


def test_an_alert_of_broken_text_is_told() -> None:
    """A lone surrogate, as undecodable bytes become, is replaced as in all other texts."""
    run = runyard.init(project="p")
    run.alert("loss \ud800 rises", "\udcff")
    run.finish()
    folder = run._parts.folder
    assert folder is not None
    frames = JournalReader.open(folder.path).frames()
    (alert,) = [f.content["alert"] for f in frames if "alert" in (f.content or {})]
    assert (alert["title"], alert["text"]) == ("loss ? rises", "?")
