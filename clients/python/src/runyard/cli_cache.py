"""`runyard cache`: shows, cleans and checks the cache of artifact contents."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from typing import Any

from runyard.artifacts.cache import Cache
from runyard.artifacts.place import own_cache
from runyard.errors import InvalidArgument
from runyard.settings import Settings, parse_setting, resolve
from runyard.text_format import age_text, bytes_text, count_text


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Adds the commands to those of `runyard`."""
    cache = commands.add_parser(
        "cache", help="look after the cache of artifact contents"
    ).add_subparsers(required=True, metavar="COMMAND")
    info = cache.add_parser("info", parents=[shared], help="show where it is and what it holds")
    info.set_defaults(call=_info)
    clean = cache.add_parser(
        "clean",
        parents=[shared],
        help="remove what was unused for longest, down to the limit or a size",
    )
    clean.add_argument("size", nargs="?", metavar="SIZE", help="such as 10GB (default: its limit)")
    clean.add_argument("--all", action="store_true", help="remove everything that is not in use")
    clean.set_defaults(call=_clean)
    verify = cache.add_parser(
        "verify", parents=[shared], help="read all of it, and remove what is damaged"
    )
    verify.set_defaults(call=_verify)


def _info(options: argparse.Namespace) -> int:
    info = _cache().info()
    if options.json:
        print(json.dumps(dataclasses.asdict(info)))
        return 0
    print(f"folder: {info.folder}")
    print(
        f"holds: {count_text(info.object_count, 'content')}, {bytes_text(info.size_bytes)} of {bytes_text(info.bytes_max)}"
    )
    if info.oldest_use_s is not None:
        print(f"unused for longest: {age_text(time.time() - info.oldest_use_s)}")
    if info.partial_count:
        print(
            f"begun: {count_text(info.partial_count, 'download')}, {bytes_text(info.partial_bytes)}"
        )
    return 0


def _clean(options: argparse.Namespace) -> int:
    if options.all and options.size:
        raise InvalidArgument("cache clean: give a size or --all")
    size = parse_setting("cache_bytes_max", options.size, source="SIZE") if options.size else None
    count, freed_bytes = _cache().evict(0 if options.all else size)
    if options.json:
        print(json.dumps({"removed_count": count, "freed_bytes": freed_bytes}))
    else:
        print(f"removed {count_text(count, 'content')}, {bytes_text(freed_bytes)}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    count, damaged = _cache().verify()
    if options.json:
        print(json.dumps({"good_count": count, "damaged": [one.sha256 for one in damaged]}))
    else:
        for one in damaged:
            print(f"damaged, removed: {one.sha256} ({bytes_text(one.size_bytes)})")
        print(f"{count_text(count, 'content')} checked and right, {len(damaged)} damaged")
    return 1 if damaged else 0


def _cache() -> Cache:
    return own_cache(resolve({}, Settings()))
