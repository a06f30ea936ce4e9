"""The installed distributions, as `pip freeze --all` writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib import metadata

from runyard.host import without_credentials


def requirement_lines(distributions: Iterable[metadata.Distribution]) -> list[str]:
    """Returns one requirement per distribution, sorted by name; of several of one name the first, which is the one imported."""
    found: dict[str, str] = {}
    for distribution in distributions:
        name = next(iter(distribution.metadata.get_all("Name") or ()), "")
        if not name:  # remains of a distribution that was removed
            continue
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key not in found:
            found[key] = _requirement(name, distribution)
    return [line for _, line in sorted(found.items())]


def _requirement(name: str, distribution: metadata.Distribution) -> str:
    origin = _direct_url(distribution)
    url = without_credentials(str(origin.get("url") or ""))
    if not url:
        return f"{name}=={distribution.version}"
    directory, vcs = origin.get("dir_info"), origin.get("vcs_info")
    if isinstance(directory, dict) and directory.get("editable"):
        return f"# Editable install of {name}=={distribution.version}\n-e {url}"
    if isinstance(vcs, dict):
        url = f"{vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '')}"
    if origin.get("subdirectory"):
        url += f"#subdirectory={origin['subdirectory']}"
    return f"{name} @ {url}"


def _direct_url(distribution: metadata.Distribution) -> dict[str, object]:
    """Returns where the distribution was installed from (PEP 610); {} for one from an index."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    except (OSError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}
