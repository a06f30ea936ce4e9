"""Packages that are not installed: the error says which extra brings them; what is broken says so itself."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

from runyard.errors import UsageError
from runyard.integration.open_run import numbers_of, open_run, plain_settings
from runyard.optional_package import MissingPackage, import_optional

MODULES = ("keras", "lightning", "transformers", "xgboost")
PYPROJECT = Path(__file__).resolve().parents[3] / "clients/python/pyproject.toml"


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_library_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing an integration without its library says what to install, and the extra exists."""
    for module in [one for one in sys.modules if one.split(".")[0] in (name, "pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [_OnlyOurs(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, f"runyard.integration.{name}", raising=False)
    with pytest.raises(MissingPackage, match=rf'pip install "runyard\[{name}\]"') as caught:
        importlib.import_module(f"runyard.integration.{name}")
    assert isinstance(caught.value, ImportError)
    assert name in tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]


class _OnlyOurs:
    """Finds no library that an integration is for, wherever it is installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] in (*MODULES, "pytorch_lightning"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_broken_library_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is there and lacks something itself, or fails, raises its own error."""
    (tmp_path / "needs_more.py").write_text("import not_there_at_all")
    (tmp_path / "fails.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all") as caught:
        import_optional("needs_more", "x")
    assert not isinstance(caught.value, MissingPackage)
    with pytest.raises(ZeroDivisionError):
        import_optional("fails", "x")
    assert import_optional(["not_there_at_all", "json"], "x").__name__ == "json"
    with pytest.raises(MissingPackage, match="a or b is not installed"):
        import_optional(["a.deep", "b"], "x")


def test_values_of_other_libraries() -> None:
    """Numbers become metrics, text and None do not; settings become what a config takes."""
    assert numbers_of({"a": 1, "b": True, "c": "x", "d": None, 3: 0.5, "e": [1]}, "p/") == {
        "p/a": 1,
        "p/b": 1,
        "p/3": 0.5,
    }
    given = {
        "rate": 0.1,
        "path": Path("x"),
        "f": len,
        "list": (1, Path("y")),
        "deep": {"s": {1}, 2: None},
    }
    assert plain_settings(given) == {
        "rate": 0.1,
        "path": "x",
        "list": [1, "y"],
        "deep": {"s": [1], "2": None},
    }
    with pytest.raises(
        UsageError,
        match=r"call runyard.init\(\) before the training begins, or give Callback a run",
    ):
        open_run(None, "Callback")
