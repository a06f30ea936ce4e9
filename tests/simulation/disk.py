"""The simulated disk of one machine: what its processes see, and what of that is there after the power was cut.

```
 processes see:  path ──► file: content        power cut: names keep a beginning of what was done to them since the last
 on the platter: path ──► file: synced part               sync of names; files keep the synced part, and of the rest any sectors
```
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.world import NODE, Chance, Node, check_caller

SECTOR_BYTES = 512


class File:
    """Bytes under any number of names."""

    def __init__(self, content: bytes, *, is_synced: bool) -> None:
        self.content = bytearray(content)
        self.synced = bytes(content) if is_synced else b""

    def sync(self) -> None:
        """Makes the content last."""
        self.synced = bytes(self.content)

    def after_cut(self, chance: Chance) -> bytes:
        """Returns what a power cut leaves: of the sectors that changed since the sync any, the others as they were."""
        new, old = bytes(self.content), self.synced
        if new == old:
            return old
        size = len(new) if old else chance.random.choice((len(new), 0))
        kept = bytearray(old.ljust(size, b"\0"))
        share = chance.random.choice((0.0, 0.5, 0.9, 1.0))
        for start in range(0, size, SECTOR_BYTES):
            sector = new[start : start + SECTOR_BYTES]
            if sector != kept[start : start + SECTOR_BYTES] and chance.hits(share):
                kept[start : start + SECTOR_BYTES] = sector
        return bytes(kept)


class Disk:
    """The files of one machine, as agents see them (runyard.agent.ports.Disk). They outlive its processes.

    `full_probability` makes what takes room fail. Locks are held by living nodes.
    """

    def __init__(self, chance: Chance) -> None:
        self.locks: dict[str, Node] = {}
        self.full_probability = 0.0
        self.on_replace: Callable[[str, bytes], None] = lambda path, content: None
        self._chance = chance
        self._files: dict[str, File] = {}
        self._stamps: dict[str, int] = {}
        self._lasting: dict[str, File] = {}
        self._pending: list[tuple[str, File | None]] = []
        """What was done to names since they were synced: a name got a file, or lost it."""
        self._folders: dict[str, dict[str, None]] = {}
        self._changes = 0
        self._opened: dict[OpenedFile, Node | None] = {}

    @property
    def open_count(self) -> int:
        """Returns how many files living agents hold open; the system closes those of the dead."""
        for file, node in list(self._opened.items()):
            if node is not None and not node.is_alive:
                file.close()
        return len(self._opened)

    # What agents call.

    def names(self, folder: str) -> list[str]:
        check_caller()
        return sorted(self._folders.get(folder.rstrip("/"), ()))

    def stamp(self, path: str) -> tuple[int, int] | None:
        check_caller()
        if path in self._files:
            return len(self._files[path].content), self._stamps[path]
        inside = self._folders.get(path.rstrip("/"))
        return (len(inside), self._stamps[path.rstrip("/")]) if inside else None

    def read(self, path: str) -> bytes | None:
        check_caller()
        return bytes(self._files[path].content) if path in self._files else None

    def open(self, path: str) -> OpenedFile | None:
        check_caller()
        if path not in self._files:
            return None
        opened = OpenedFile(self._opened, self._files[path])
        self._opened[opened] = NODE.get()
        return opened

    def replace(self, path: str, content: bytes, *, is_synced: bool) -> None:
        check_caller()
        self._take_room(path)
        self.on_replace(path, content)
        self._link(path, File(content, is_synced=is_synced))
        if is_synced:
            self.sync_names()

    def remove(self, path: str) -> None:
        check_caller()
        if self._files.pop(path, None) is not None:
            self._pending.append((path, None))
            self._forget_name(path)

    def is_locked(self, path: str) -> bool:
        check_caller()
        return path in self.locks and self.locks[path].is_alive

    async def digest(self, path: str, *, size_bytes: int, part_bytes: int) -> Any:
        raise AssertionError("no files in this world")

    async def digest_all(self, paths: Sequence[str], *, size_bytes_max: int) -> Any:
        raise AssertionError("no files in this world")

    # What trainers call.

    def create(self, path: str, size_bytes: int) -> None:
        """Makes a file of zeros, as a journal allocates its segments; raises OSError if the disk is full."""
        check_caller()
        self._take_room(path)
        self._link(path, File(bytes(size_bytes), is_synced=False))

    def write(self, path: str, offset: int, content: bytes) -> None:
        """Writes into a file, which takes no further room."""
        check_caller()
        self._files[path].content[offset : offset + len(content)] = content
        self._touch(path)

    def sync(self, path: str) -> None:
        """Makes the content of a file last; of a file removed by now there is nothing to do."""
        check_caller()
        if path in self._files:
            self._files[path].sync()

    def sync_names(self) -> None:
        """Makes all names last."""
        for path, file in self._pending:
            self._keep(path, file)
        self._pending.clear()

    # What the story calls.

    def peek(self, path: str) -> bytes:
        """Returns the content, whoever asks; empty if there is no such file."""
        return bytes(self._files[path].content) if path in self._files else b""

    def paths(self) -> list[str]:
        """Returns the names of all files."""
        return list(self._files)

    def cut_power(self) -> None:
        """Leaves what a power cut leaves; all processes of the machine MUST be dead."""
        for path, file in self._pending[: self._chance.between(0, len(self._pending))]:
            self._keep(path, file)
        self._pending.clear()
        self.locks.clear()
        self._files.clear()
        self._folders.clear()
        for path, file in list(self._lasting.items()):
            self._lasting[path] = File(file.after_cut(self._chance), is_synced=True)
            self._files[path] = self._lasting[path]
            self._add_name(path)

    def _take_room(self, path: str) -> None:
        if self._chance.hits(self.full_probability):
            raise OSError(errno.ENOSPC, "No space left on device", path)

    def _link(self, path: str, file: File) -> None:
        self._files[path] = file
        self._pending.append((path, file))
        self._add_name(path)

    def _keep(self, path: str, file: File | None) -> None:
        if file is None:
            self._lasting.pop(path, None)
        else:
            self._lasting[path] = file

    def _touch(self, path: str) -> None:
        self._changes += 1
        self._stamps[path] = self._changes

    def _add_name(self, path: str) -> None:
        self._touch(path)
        while "/" in path[1:]:
            folder, name = path.rsplit("/", 1)
            inside = self._folders.setdefault(folder, {})
            if name not in inside:
                inside[name] = None
                self._touch(folder)
            path = folder

    def _forget_name(self, path: str) -> None:
        while "/" in path[1:]:
            folder, name = path.rsplit("/", 1)
            self._folders[folder].pop(name, None)
            self._touch(folder)
            if self._folders[folder]:
                return
            del self._folders[folder]
            path = folder


class OpenedFile:
    """A file that was opened; it stays readable when its name goes."""

    def __init__(self, opened: dict[OpenedFile, Node | None], file: File) -> None:
        self._opened = opened
        self._file = file

    def read_at(self, offset: int, length_bytes: int) -> bytes:
        check_caller()
        return bytes(self._file.content[offset : offset + length_bytes])

    def close(self) -> None:
        self._opened.pop(self, None)
