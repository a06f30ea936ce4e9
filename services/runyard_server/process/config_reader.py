"""Reads frozen dataclasses from TOML, environment and flags, and lists all that is wrong with them at once."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

SECRET_PARTS: Final = frozenset({"secret", "password", "token"})
HIDDEN: Final = "(hidden)"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB)")
_SIZE_UNITS: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@/\s]*@")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key that a configuration may set."""

    key: str
    """Section and name, such as "ingest.flush_interval"."""
    path: tuple[str, ...]
    """Names of the dataclass fields below the section: the key's names, with _s for a duration."""
    kind: str
    """duration, size, int, float, bool, text or texts."""
    is_optional: bool
    default: Any


class Reader:
    """Knows the settings of all sections; takes values from several sources, the later one winning."""

    def __init__(self, sections: Mapping[str, type]) -> None:
        self._sections = dict(sections)
        self._settings = {
            s.key: s for name, kind in sections.items() for s in _settings(name, kind)
        }
        self._values: dict[str, Any] = {}
        self._sources: dict[str, str] = {}
        self.problems: list[str] = []
        """All that was wrong so far, one sentence each."""

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Returns all settings by key."""
        return self._settings

    def is_set(self, key: str) -> bool:
        """Returns whether any source set the key."""
        return key in self._sources

    def value(self, key: str) -> Any:
        """Returns the value in force of a known key."""
        return self._values.get(key, self._settings[key].default)

    def take_table(self, table: Mapping[str, Any], source: str) -> None:
        """Takes a parsed TOML document: tables of sections."""
        for section, entries in table.items():
            if section not in self._sections:
                hint = _hint(section, self._sections)
                self.problems.append(f"{source}: unknown section [{section}]{hint}")
            elif not isinstance(entries, dict):
                self.problems.append(f"{source}: [{section}] must be a table of keys")
            else:
                self._take_entries(section, entries, source)

    def _take_entries(self, prefix: str, entries: Mapping[str, Any], source: str) -> None:
        for name, value in entries.items():
            key = f"{prefix}.{name}"
            if isinstance(value, dict) and any(k.startswith(f"{key}.") for k in self._settings):
                self._take_entries(key, value, source)
            else:
                self.take(key, value, source)

    def take(self, key: str, value: Any, source: str) -> None:
        """Takes one value: of TOML's types, or text from the environment or a flag."""
        setting = self._settings.get(key)
        if setting is None:
            self.problems.append(f"{source}: unknown key {key}{_hint(key, self._settings)}")
            return
        try:
            self._values[key] = _convert(setting, value)
            self._sources[key] = source
        except ValueError as error:
            self.problems.append(f"{source}: {key} {error}")

    def build(self, section: str, kind: type[_T]) -> _T:
        """Returns the section's dataclass; what no source set has its default."""
        assert self._sections[section] is kind
        values = {
            setting.path: self._values[key]
            for key, setting in self._settings.items()
            if key.startswith(f"{section}.") and key in self._values
        }
        return _replace(kind(), values)

    def effective(self) -> dict[str, dict[str, Any]]:
        """Returns all values in force by section, as TOML would say them, secrets hidden."""
        tables: dict[str, dict[str, Any]] = {name: {} for name in self._sections}
        for key, setting in self._settings.items():
            *folders, name = key.split(".")
            table: dict[str, Any] = tables
            for folder in folders:
                table = table.setdefault(folder, {})
            table[name] = _shown(setting, self._values.get(key, setting.default))
        return tables


def parse_duration_s(text: str) -> float:
    """Returns the seconds that "500ms", "2s", "1.5m" or "1h" says; raises ValueError otherwise."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f'is {text!r}, which is no duration: write a number with ms, s, m or h, as in "500ms"'
        )
    return float(match[1]) * _DURATION_UNITS[match[2]]


def format_duration(duration_s: float) -> str:
    """Returns the duration as parse_duration_s reads it, without loss."""
    if duration_s and duration_s < 1:
        milliseconds = f"{duration_s * 1000:.9f}".rstrip("0").rstrip(".")
        if float(milliseconds) * 0.001 == duration_s:
            return f"{milliseconds}ms"
    return f"{duration_s:.17f}".rstrip("0").rstrip(".") + "s"


def parse_size_bytes(text: str) -> int:
    """Returns the bytes that "512B", "64KiB", "8MiB" or "1GiB" says; raises ValueError otherwise."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f'is {text!r}, which is no size: write a whole number with B, KiB, MiB or GiB, as in "8MiB"'
        )
    return int(match[1]) * _SIZE_UNITS[match[2]]


def format_size(size_bytes: int) -> str:
    """Returns the size as parse_size_bytes reads it, in the largest unit that divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _SIZE_UNITS[unit] == 0:
            return f"{size_bytes // _SIZE_UNITS[unit]}{unit}"
    return f"{size_bytes}B"


def hide_password(text: str) -> str:
    """Returns a URL with its password hidden; other text as it is."""
    return _URL_PASSWORD.sub(r"\1:(hidden)@", text)


def _settings(
    prefix: str, kind: type, path: tuple[str, ...] = (), instance: Any = None
) -> Iterable[Setting]:
    """Yields the settings of a section's dataclass and of the dataclasses in it; defaults are those of `instance`, if given."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default = _default(kind, field) if instance is None else getattr(instance, field.name)
        declared = hints[field.name]
        if dataclasses.is_dataclass(declared):
            assert isinstance(declared, type)
            yield from _settings(f"{prefix}.{field.name}", declared, (*path, field.name), default)
            continue
        is_optional = type(None) in typing.get_args(declared)
        if is_optional:
            declared = next(t for t in typing.get_args(declared) if t is not type(None))
        value_kind = _kind(field.name, declared)
        if value_kind is None:
            continue
        name = field.name.removesuffix("_s") if value_kind == "duration" else field.name
        yield Setting(f"{prefix}.{name}", (*path, field.name), value_kind, is_optional, default)


def _default(kind: type, field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    assert field.default is not dataclasses.MISSING, f"{kind.__name__}.{field.name} has no default"
    return field.default


def _replace(instance: _T, values: Mapping[tuple[str, ...], Any]) -> _T:
    changes: dict[str, Any] = {path[0]: value for path, value in values.items() if len(path) == 1}
    for name in {path[0] for path in values if len(path) > 1}:
        inner = {p[1:]: v for p, v in values.items() if p[0] == name and len(p) > 1}
        changes[name] = _replace(getattr(instance, name), inner)
    return dataclasses.replace(instance, **changes)  # type: ignore[type-var]  # a dataclass


def _kind(name: str, declared: Any) -> str | None:
    if declared is bool:
        return "bool"
    if declared in (int, float) and name.endswith("_s"):
        return "duration"
    if declared is int:
        return "size" if "bytes" in name.split("_") else "int"
    if declared is float:
        return "float"
    if declared is str:
        return "text"
    if typing.get_origin(declared) in (tuple, types.GenericAlias) and typing.get_args(declared)[
        :1
    ] == (str,):
        return "texts"
    return None


def _convert(setting: Setting, value: Any) -> Any:
    if setting.is_optional and value == "":
        return None
    convert: Callable[[Any], Any] = _CONVERTERS[setting.kind]
    return convert(value)


def _to_duration(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError(
            f'is {value!r} without a unit: write a text with ms, s, m or h, as in "500ms"'
        )
    return parse_duration_s(value)


def _to_size(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError(
            f'is {value!r} without a unit: write a text with B, KiB, MiB or GiB, as in "8MiB"'
        )
    return parse_size_bytes(value)


def _to_int(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"is {value!r}, which is no whole number")
    return value


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"is {value!r}, which is no number")
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"is {value!r}, which is no number") from None


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValueError(f"is {value!r}, which is neither true nor false")


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {value!r}, which is no text: put it in quotes")
    return value


def _to_texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise ValueError(f"is {value!r}, which is no list of texts")


_CONVERTERS: Final[dict[str, Callable[[Any], Any]]] = {
    "duration": _to_duration,
    "size": _to_size,
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "text": _to_text,
    "texts": _to_texts,
}


def _shown(setting: Setting, value: Any) -> Any:
    if value is None:
        return ""
    if setting.kind == "duration":
        return format_duration(value)
    if setting.kind == "size":
        return format_size(value)
    if setting.kind == "texts":
        return list(value)
    if setting.kind == "text" and value:
        is_secret = SECRET_PARTS & set(setting.path[-1].split("_"))
        return HIDDEN if is_secret else hide_password(value)
    return value


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
