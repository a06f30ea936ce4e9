"""`run.config`: inputs of a run, by attribute and by item; every change goes into the journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Callable

from runyard.extended_json import DEPTH_MAX, fields_of

OnChange = Callable[[Mapping[str, Any], Iterable[str]], None]
"""Takes the top-level keys that changed, with their whole values, and the keys that were removed."""


class Config(dict[str, Any]):
    """A dict whose keys are attributes too; nested dicts are Configs whose changes count as changes of their key."""

    __slots__ = ("_depth", "_on_change")
    _on_change: OnChange
    _depth: int

    def __init__(
        self, values: Mapping[str, Any] | None = None, *, on_change: OnChange, depth: int = 0
    ) -> None:
        super().__init__()
        object.__setattr__(self, "_depth", depth)
        object.__setattr__(self, "_on_change", _ignore)
        if values:
            self._set(values)
        object.__setattr__(self, "_on_change", on_change)

    def __setitem__(self, key: str, value: Any) -> None:
        self._set({key: value})

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._on_change({}, [key])

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"the config has no key {name!r}; it has {', '.join(self) or 'none'}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"the config has no key {name!r}")
        del self[name]

    def update(self, *given: Any, allow_val_change: bool | None = None, **named: Any) -> None:
        """Sets many keys from a dict, argparse namespace, dataclass or flags object, and from keywords.

        Changing a value is allowed always; `allow_val_change` is taken for scripts written for wandb.
        """
        merged: dict[str, Any] = {}
        for part in given:
            merged.update(config_fields(part))
        merged.update(named)
        if merged:
            self._set(merged)

    def setdefaults(self, values: Any) -> None:
        """Sets the keys that are not set yet."""
        missing = {k: v for k, v in config_fields(values).items() if k not in self}
        if missing:
            self._set(missing)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Returns the value, after setting it if it was not."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        """Removes the key and returns its value."""
        is_there = key in self
        value = super().pop(key, *default)
        if is_there:
            self._on_change({}, [key])
        return value

    def popitem(self) -> tuple[str, Any]:
        """Removes the key set last and returns it with its value."""
        key, value = super().popitem()
        self._on_change({}, [key])
        return key, value

    def clear(self) -> None:
        """Removes all keys."""
        keys = list(self)
        super().clear()
        if keys:
            self._on_change({}, keys)

    def __ior__(self, other: Any) -> Config:  # type: ignore[override,misc]  # dict's overloads take pairs too
        self.update(other)
        return self

    def as_dict(self) -> dict[str, Any]:
        """Returns a plain dict of all keys, nested ones too."""
        return {k: v.as_dict() if isinstance(v, Config) else v for k, v in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, (self.as_dict(),))  # what goes to another process is a plain dict

    def _set(self, values: Mapping[str, Any]) -> None:
        changed = {}
        for key, value in values.items():
            name = key if type(key) is str else str(key)
            if (
                isinstance(value, Mapping)
                and not isinstance(value, Config)
                and self._depth < DEPTH_MAX
            ):
                value = self._section(name, value)
            super().__setitem__(name, value)
            changed[name] = self[name]
        self._on_change(changed, ())

    def _section(self, name: str, values: Mapping[str, Any]) -> Config:
        return Config(
            values,
            on_change=lambda changed, removed: self._on_change({name: self[name]}, ()),
            depth=self._depth + 1,
        )


def restore(config: Config, values: Mapping[str, Any]) -> None:
    """Sets the keys that are not set, and tells nobody: the server has them from earlier attempts."""
    on_change = config._on_change
    object.__setattr__(config, "_on_change", _ignore)
    try:
        config._set({key: value for key, value in values.items() if key not in config})
    finally:
        object.__setattr__(config, "_on_change", on_change)


def config_fields(value: Any) -> dict[str, Any]:
    """Returns the named values of what a script gives as config; raises TypeError if it names none."""
    if value is None:
        return {}
    fields = fields_of(value)
    if fields is None and hasattr(value, "__dict__") and not isinstance(value, type):
        fields = {k: v for k, v in vars(value).items() if not k.startswith("_")}
    if fields is None:
        raise TypeError(
            f"config is of type {type(value).__name__}; it must be a dict, an argparse namespace, a dataclass or "
            f"another object with named values"
        )
    return {str(key): item for key, item in fields.items()}


def _ignore(changed: Mapping[str, Any], removed: Iterable[str]) -> None:
    """Takes the changes made while a section is filled; its owner tells of it as a whole."""
