"""What init() and a run's attributes refuse, with words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard import journal_format as form
from runyard.errors import InvalidArgument, UsageError
from runyard.journal_reader import JournalReader


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
