"""Config keys: picks asked members, named by dotted paths, out of a run's config; pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runyard_server.query.planner import ALL_KEYS

_MISSING = object()


def select_config(config_json: str, keys: Sequence[str]) -> str:
    """Returns a JSON object with the asked keys only, flat; "*" returns the whole config as it was stored."""
    if not keys:
        return ""
    if ALL_KEYS in keys:
        return config_json
    config = json.loads(config_json or "{}")
    found = {key: _find(config, key) for key in keys}
    wanted = {key: value for key, value in found.items() if value is not _MISSING}
    return json.dumps(wanted, ensure_ascii=False, separators=(",", ":"))


def _find(config: Any, key: str) -> Any:
    """Returns the member at a dotted path; a key that itself holds dots is found too, the longest first."""
    if not isinstance(config, dict):
        return _MISSING
    if key in config:
        return config[key]
    end = key.rfind(".")
    while end > 0:
        head, rest = key[:end], key[end + 1 :]
        if head in config:
            found = _find(config[head], rest)
            if found is not _MISSING:
                return found
        end = key.rfind(".", 0, end)
    return _MISSING
