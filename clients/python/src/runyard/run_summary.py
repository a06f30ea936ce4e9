"""`run.summary`: results of a run: what the script set, and the last value of every metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Callable, Protocol

from runyard.naming import metric_name_problem

OnChange = Callable[[Mapping[str, Any], list[str]], None]
"""Takes flat keys that were set, and flat keys that were removed."""


class LastValues(Protocol):
    """Knows what was logged last."""

    def last_values(self) -> dict[str, float]:
        """Returns the last value of every metric."""

    def last_value(self, name: str) -> float | None:
        """Returns the last value of one metric, None if it was never logged."""

    def last_media(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns by name what was logged last besides numbers: dicts with `_type`."""


class Summary(MutableMapping[str, Any]):
    """Keys by item and by attribute. What the script sets stands; every other metric, and media, show their last value.

    Below both lies what earlier attempts of a resumed run left.
    """

    _own: dict[str, Any]
    _earlier: dict[str, Any]
    _logged: LastValues
    _on_change: OnChange

    def __init__(self, logged: LastValues, on_change: OnChange) -> None:
        object.__setattr__(self, "_own", {})
        object.__setattr__(self, "_earlier", {})
        object.__setattr__(self, "_logged", logged)
        object.__setattr__(self, "_on_change", on_change)

    def __getitem__(self, key: str) -> Any:
        if key in self._own:
            return self._own[key]
        value = self._logged.last_value(key)
        if value is not None:
            return value
        media = self._logged.last_media()
        return dict(media[key]) if key in media else self._earlier[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self._own and key not in self._earlier:
            raise KeyError(key)
        removed = list(flatten({key: self._own.pop(key, None)}))
        for name in (key, *removed):
            self._earlier.pop(name, None)
        self._on_change({}, removed)

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the summary has no key {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __repr__(self) -> str:
        return repr(dict(self))

    def update(self, *given: Any, **named: Any) -> None:
        """Sets many keys; nested dicts are kept under flat keys joined with dots."""
        values: dict[str, Any] = {}
        for part in given:
            values.update(part)
        values.update(named)
        changed = flatten(values)
        self._own.update({str(key): value for key, value in values.items()})
        for name in changed:
            self._earlier.pop(name, None)
        if changed:
            self._on_change(changed, [])

    def as_dict(self) -> dict[str, Any]:
        """Returns all keys and values as a plain dict."""
        logged = {**self._logged.last_media(), **self._logged.last_values()}
        return {**self._earlier, **logged, **self._own}

    _as_dict = as_dict


def restore(summary: Summary, values: Mapping[str, Any]) -> None:
    """Shows values, by flat keys, that earlier attempts left, and tells nobody: the server has them."""
    summary._earlier.update(values)


def flatten(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values under flat keys joined with dots; raises ValueError for a key that cannot be."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + str(key)
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, name + "."))
            continue
        problem = metric_name_problem(name)
        if problem:
            raise ValueError(f"summary: the key {name[:200]!r} {problem}")
        flat[name] = value
    return flat
