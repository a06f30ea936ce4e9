"""Ids, names and settings: which may be, and which source wins."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from runyard import naming
from runyard.errors import InvalidArgument
from runyard.paths import run_path
from runyard.settings import ResolvedSettings, Settings, resolve


def test_ids_are_drawn_past_seeds() -> None:
    """Ids are 8 characters a-z0-9, and a seeded random draws no two alike."""
    drawn = set()
    for _ in range(200):
        random.seed(1)
        drawn.add(naming.draw_run_id())
    assert len(drawn) == 200
    assert all(re.fullmatch(r"[a-z0-9]{8}", run_id) for run_id in drawn)


@pytest.mark.parametrize("run_id", ["a", "x" * 64, "My run-3_é", "run.v2", "a b"])
def test_own_ids_that_may_be(run_id: str) -> None:
    """Own ids of 1 to 64 characters are accepted."""
    assert naming.check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        "x" * 65,
        " a",
        "a ",
        "a\n",
        "\ta",
        ".",
        "..",
        *(f"a{c}b" for c in "/\\#?%:;,'\x00\x1f\x7f"),
    ],
)
def test_own_ids_that_may_not_be(run_id: str) -> None:
    """Refused ids are named in the error, with what is wrong."""
    with pytest.raises(InvalidArgument, match="run id"):
        naming.check_run_id(run_id)


def resolved(arguments: dict[str, Any] | None = None, **sources: Any) -> Any:
    given = sources.pop("settings", None)
    environment = {
        "RUNYARD_DIR": str(sources.pop("folder", "/nonexistent")),
        **sources.pop("env", {}),
    }
    home = sources.pop("home", Path("/nonexistent"))
    return resolve(arguments, given, environment=environment, home=home)


def test_each_source_beats_the_next(tmp_path: Path) -> None:
    """Argument > Settings > environment > the folder's file > the user's file > default."""
    home, folder = tmp_path / "home", tmp_path / "journals"
    (home / ".config/runyard").mkdir(parents=True)
    folder.mkdir()
    expected = "uncategorized-is-the-servers"
    assert resolved(folder=folder, home=home).project == "" != expected
    (home / ".config/runyard/settings.ini").write_text("[runyard]\nproject = user\nquiet = yes\n")
    assert resolved(folder=folder, home=home).project == "user"
    (folder / "settings.ini").write_text("project = folder\n")
    assert resolved(folder=folder, home=home).project == "folder"
    env = {"RUNYARD_PROJECT": "environment"}
    assert resolved(folder=folder, home=home, env=env).project == "environment"
    given = Settings(project="settings")
    assert resolved(folder=folder, home=home, env=env, settings=given).project == "settings"
    last = resolved({"project": "argument"}, folder=folder, home=home, env=env, settings=given)
    assert last.project == "argument" and last.quiet is True


def test_every_variable_of_the_surface_counts() -> None:
    """Each variable that the documentation names sets its setting."""
    env = {
        "RUNYARD_BASE_URL": "https://yard.example/x/",
        "RUNYARD_API_KEY": "k",
        "RUNYARD_ENTITY": "e",
        "RUNYARD_PROJECT": "p",
        "RUNYARD_RUN_ID": "i",
        "RUNYARD_NAME": "n",
        "RUNYARD_MODE": "offline",
        "RUNYARD_SILENT": "true",
        "RUNYARD_QUIET": "1",
    }
    s = resolved(env=env)
    found = (
        s.base_url,
        s.api_key,
        s.entity,
        s.project,
        s.run_id,
        s.name,
        s.mode,
        s.silent,
        s.quiet,
    )
    assert found == ("https://yard.example/x", "k", "e", "p", "i", "n", "offline", True, True)


def test_defaults() -> None:
    """Without anything the SDK speaks to this machine, online, and keeps journals in ./runyard."""
    s = resolve({}, environment={}, home=Path("/nonexistent"))
    assert (s.base_url, s.mode, s.dir) == ("http://127.0.0.1:8080", "online", "runyard")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"RUNYARD_MODE": "sometimes"}, "RUNYARD_MODE.*sometimes.*online, offline, disabled"),
        ({"RUNYARD_BASE_URL": "localhost:8080"}, "RUNYARD_BASE_URL.*localhost:8080.*http://"),
        ({"RUNYARD_SILENT": "perhaps"}, "RUNYARD_SILENT.*perhaps"),
        ({"RUNYARD_FINISH_TIMEOUT_S": "-1"}, "RUNYARD_FINISH_TIMEOUT_S.*-1"),
        ({"RUNYARD_RESUME": "maybe"}, "RUNYARD_RESUME.*maybe.*allow"),
    ],
)
def test_values_that_cannot_be_name_their_source(env: dict[str, str], message: str) -> None:
    """An error names the source, the value and what is allowed."""
    with pytest.raises(InvalidArgument, match=message):
        resolved(env=env)


def test_names_of_wandb_settings_are_taken() -> None:
    """Settings(run_name=…, init_timeout=…) mean ours; unknown ones are listed, not refused."""
    given = Settings(run_name="n", init_timeout=3, run_tags=["a", "a", "b"], x_stats_pid=1)
    s = resolved(settings=given)
    assert (s.name, s.init_timeout_s, s.tags) == ("n", 3.0, ("a", "b"))
    assert given.ignored == ["x_stats_pid"]
    assert given.run_name == "n" and given.quiet is False


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (True, "auto"),
        ("auto", "auto"),
        ("allow", "allow"),
        ("must", "must"),
        ("never", "never"),
        (False, ""),
        (None, ""),
    ],
)
def test_resume(given: Any, meant: str) -> None:
    """Wandb's ways of saying resume are understood."""
    assert resolved({"resume": given}).resume == meant


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("r", "local/uncategorized/r"),
        ("p/r", "local/p/r"),
        ("/e/p/r/", "e/p/r"),
        ("e/p/runs/r", "e/p/r"),
    ],
)
def test_a_path_that_was_typed_is_made_whole(typed: str, path: str) -> None:
    """What is left out at the front is the default; the path of the run's page is one, too."""
    assert run_path(typed, ResolvedSettings()) == path


@pytest.mark.parametrize("typed", ["", "/", "a//b", "a/b/c/d"])
def test_what_is_no_path_is_said_so(typed: str) -> None:
    """The message has the text that was given, and the form that it should have."""
    with pytest.raises(InvalidArgument, match="is no path of a run: entity/project/run_id"):
        run_path(typed, ResolvedSettings())
