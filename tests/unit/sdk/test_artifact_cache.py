"""The cache of contents: what is used stays, what is old goes, what is damaged is found; leases, limits, other processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runyard.artifacts.cache import LEFTOVER_S, Cache
from runyard.errors import UsageError

OLD_S = 1_000_000.0


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def put(cache: Cache, content: bytes, *, age_s: float = 0.0) -> str:
    path = cache.put(content, sha(content))
    if age_s:
        moment = time.time() - age_s
        os.utime(path, (moment, moment))
    return path


def test_a_content_is_found_by_its_digest(tmp_path: Path) -> None:
    """It lies there once, read only; another size under its name is taken for damage."""
    cache = Cache(tmp_path / "c")
    path = put(cache, b"one")
    assert cache.find(sha(b"one"), 3) == path == put(cache, b"one")
    assert Path(path).read_bytes() == b"one" and not Path(path).stat().st_mode & 0o222
    assert cache.find(sha(b"two"), 3) is None
    Path(path).chmod(0o644)
    Path(path).write_bytes(b"cut off")
    assert cache.find(sha(b"one"), 3) is None and not Path(path).exists()


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    """Down to 80 % of the limit; finding counts as using."""
    cache = Cache(tmp_path / "c", bytes_max=1000)
    paths = [put(cache, bytes([n]) * 300, age_s=1000 - n) for n in range(4)]
    assert cache.find(sha(bytes([0]) * 300), 300)
    count, freed = cache.evict()
    assert (count, freed) == (2, 600)
    assert [Path(path).exists() for path in paths] == [True, False, False, True]


def test_adding_keeps_the_limit(tmp_path: Path) -> None:
    """What processes note as added is summed over them, and leads to a cleaning when it is too much."""
    cache, other = Cache(tmp_path / "c", bytes_max=1000), Cache(tmp_path / "c", bytes_max=1000)
    first = put(cache, b"a" * 600, age_s=OLD_S)
    cache.note_added(600)
    assert Path(first).exists()
    second = put(other, b"b" * 600)
    other.note_added(600)
    assert not Path(first).exists() and Path(second).exists()
    assert cache.info().size_bytes == 600 and cache._usage() == 600


def test_a_lease_keeps_what_was_used_under_it(tmp_path: Path) -> None:
    """Also one of another process, until that ends, however it ends."""
    cache = Cache(tmp_path / "c", bytes_max=10)
    old = put(cache, b"o" * 100, age_s=OLD_S)
    script = (
        "import sys, hashlib; from pathlib import Path; from runyard.artifacts.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1])); lease = cache.lease()\n"
        "c = b'h' * 100; cache.put(c, hashlib.sha256(c).digest()); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "c")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        held = cache.path_of(sha(b"h" * 100))
        assert cache.evict() == (1, 100)
        assert Path(held).exists() and not Path(old).exists()
    finally:
        holder.kill()
        holder.communicate()
    assert cache.evict() == (1, 100) and not Path(held).exists()
    assert not list((tmp_path / "c" / "leases").iterdir())
    lease = cache.lease()
    mine = put(cache, b"m" * 100)
    assert cache.evict() == (0, 0)
    lease.close()
    assert cache.evict() == (1, 100) and not Path(mine).exists()


def test_one_that_is_used_while_it_is_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the removal somebody finds it: then it is put back."""
    cache = Cache(tmp_path / "c", bytes_max=10)
    path = put(cache, b"x" * 100, age_s=OLD_S)
    rename = os.rename
    calls = []

    def used_meanwhile(source: str, target: str) -> None:
        if not calls:
            assert cache.find(sha(b"x" * 100), 100)
        calls.append(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", used_meanwhile)
    assert cache.evict() == (0, 0) and Path(path).exists() and len(calls) == 2


def test_damage_is_found(tmp_path: Path) -> None:
    """verify() reads everything and removes what is not what its name says."""
    cache = Cache(tmp_path / "c")
    good, bad = put(cache, b"good"), put(cache, b"evil")
    Path(bad).chmod(0o644)
    Path(bad).write_bytes(b"live")
    count, damaged = cache.verify()
    assert count == 1 and [one.path for one in damaged] == [bad]
    assert Path(good).exists() and not Path(bad).exists()


def test_leftovers_of_killed_processes_go(tmp_path: Path) -> None:
    """After a week."""
    cache = Cache(tmp_path / "c")
    old, new = Path(cache.temporary()), Path(cache.temporary())
    for path in (old, new):
        path.write_bytes(b"half")
    moment = time.time() - LEFTOVER_S - 60
    os.utime(old, (moment, moment))
    cache.evict()
    assert not old.exists() and new.exists()


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With the setting that names another folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="RUNYARD_CACHE_DIR names another folder"):
        Cache(tmp_path / "file" / "c")


def test_many_processes_put_the_same(tmp_path: Path) -> None:
    """Each content is there once and whole, and nothing half written is left."""
    script = (
        "import sys, hashlib; from pathlib import Path; from runyard.artifacts.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]), 40_000)\n"
        "for n in range(300):\n"
        "    c = bytes([n % 50]) * 1000; p = cache.put(c, hashlib.sha256(c).digest()); cache.note_added(1000)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "c")]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    cache = Cache(tmp_path / "c", 40_000)
    count, damaged = cache.verify()
    assert count and not damaged and not list((tmp_path / "c" / "tmp").iterdir())
    cache.evict()
    assert cache.info().size_bytes <= 40_000
