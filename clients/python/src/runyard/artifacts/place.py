"""Which cache and which settings hold for an artifact: those of the current run, else those of the environment."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from runyard.artifacts.cache import Cache
from runyard.settings import ResolvedSettings, Settings, resolve, user_cache_folder

_lock = threading.Lock()
_caches: dict[tuple[str, int], Cache] = {}


def own_settings() -> ResolvedSettings:
    """Returns the settings of the current run, or those that an init() would have."""
    run = getattr(sys.modules.get("runyard"), "run", None)
    settings = run.settings if run is not None else None
    return settings if isinstance(settings, ResolvedSettings) else resolve({}, Settings())


def own_cache(settings: ResolvedSettings | None = None) -> Cache:
    """Returns the cache; made once for each folder."""
    settings = settings or own_settings()
    folder = cache_folder(settings)
    key = (str(folder), settings.cache_bytes_max)
    with _lock:
        if key not in _caches:
            _caches[key] = Cache(folder, settings.cache_bytes_max)
        return _caches[key]


def cache_folder(settings: ResolvedSettings) -> Path:
    """Returns the folder of the cache."""
    named = Path(settings.cache_dir).expanduser() if settings.cache_dir else user_cache_folder()
    return named.absolute()
