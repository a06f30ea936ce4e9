"""What `import runyard` offers, to which Python, and which module imports what."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

import runyard

SOURCES = Path(runyard.__file__).parent
MODULES = sorted(SOURCES.rglob("*.py"))
CLIENT_LIBRARIES = {"grpc", "google", "numpy", "runyard_protos", "psutil"}

OFFERED = {
    "Api", "CommError", "Config", "Error", "Run", "Settings", "Summary", "UsageError", "config", "define_metric",
    "errors", "finish", "init", "log", "login", "run", "save", "setup", "summary", "teardown",
}  # fmt: skip


def test_names_of_the_package() -> None:
    """Every name that scripts rely on is there; names are only ever added."""
    assert set(runyard.__all__) - {"__version__"} >= OFFERED
    for name in runyard.__all__:
        getattr(runyard, name)
    assert callable(runyard.util.generate_id)


def test_arguments_of_init() -> None:
    """init() takes the arguments of wandb.init; names are only ever added."""
    names = set(inspect.signature(runyard.init).parameters)
    assert names >= {
        "entity", "project", "name", "id", "config", "notes", "tags", "group", "job_type", "resume", "mode", "dir",
        "settings", "reinit", "config_exclude_keys", "config_include_keys", "allow_val_change",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        ("Run", "id name path url project entity state config summary notes tags group job_type dir start_time resumed "
                "step log define_metric save finish"),
        ("Api", "run runs projects"),
    ],
)  # fmt: skip
def test_members(owner: str, names: str) -> None:
    """The handles have the members that the documentation names."""
    for name in names.split():
        assert hasattr(getattr(runyard, owner), name), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_every_module_is_python_3_9(path: Path) -> None:
    """The SDK's source is Python 3.9."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if "agent" not in path.parts and not path.name.startswith("rpc")],
    ids=lambda path: path.name,
)
def test_only_the_agent_and_rpc_import_client_libraries(path: Path) -> None:
    """The training process stays on the standard library."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in found} & CLIENT_LIBRARIES


def test_the_environment_is_read_in_one_place() -> None:
    """Only settings.py reads the environment of the training process."""
    readers = {
        path.name
        for path in MODULES
        if "agent" not in path.parts
        and any(w in path.read_text("utf-8") for w in ("os.environ", "getenv"))
    }
    assert readers == {"settings.py"}


def test_names_that_come_later_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from runyard import Object3D` works, so that its use can say that it comes later; nothing is an instance."""
    # Processes that train never load the package of this name; other tests do.
    monkeypatch.delattr(runyard, "agent", raising=False)
    from runyard import JoinedTable, Object3D, agent, sweep

    uses: tuple[Any, ...] = (Object3D, agent, sweep)
    for use in uses:
        with pytest.raises(runyard.errors.NotOffered, match=rf"runyard.{use.__name__} is not off"):
            use("name", type="model")
    with pytest.raises(AttributeError, match=r"runyard.JoinedTable.join is not offered"):
        JoinedTable.join("x")
    assert not isinstance(3, Object3D) and not hasattr(JoinedTable, "bar")
    assert runyard.Object3D is Object3D


def test_calls_that_are_passed_over_can_be_imported() -> None:
    """`from runyard import watch` works before init(); only the call needs a run."""
    from runyard import watch

    with pytest.raises(runyard.UsageError, match=r"call runyard.init\(\) before runyard.watch"):
        watch(object())


def test_scripts_speak_with_our_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    """Termlog, termwarn and termerror print; with repeat=False each text once."""
    from runyard import termerror, termlog, termwarn

    termlog("hello")
    termlog("a", newline=False)
    termlog()
    for _ in range(2):
        termwarn("careful", repeat=False)
        termerror("bad")
    assert capsys.readouterr().err == (
        "runyard: hello\nrunyard: arunyard: \nrunyard: WARNING careful\n"
        "runyard: ERROR bad\nrunyard: ERROR bad\n"
    )
