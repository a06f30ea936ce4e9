"""What an artifact holds: files by their SHA-256, references by their address; names, and the digest over all of them."""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runyard.errors import InvalidArgument, UsageError

if TYPE_CHECKING:
    from runyard.artifacts.artifact import Artifact

PATH_BYTES_MAX = 1024
PART_BYTES_MAX = 255
REFERENCE_BYTES_MAX = 4096
NAME_BYTES_MAX = 128
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
VERSION_NAME = re.compile(r"v[0-9]+")
LATEST = "latest"
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")


class Entry:
    """A file of an artifact, or a reference to something elsewhere.

    Slots and bytes: an artifact may have a hundred thousand of them.
    """

    __slots__ = (
        "artifact",
        "etag",
        "is_copy",
        "local_path",
        "path",
        "ref",
        "sha256",
        "size",
        "stamp_ns",
    )

    def __init__(self, path: str, size: int, sha256: bytes = b"", *, ref: str = "", etag: str = "") -> None:  # fmt: skip
        self.path = path
        """Its path within the artifact."""
        self.size = size
        """In bytes; of a reference 0 where it is not known."""
        self.sha256 = sha256
        """Of the content, 32 bytes; empty for a reference."""
        self.ref = ref
        """Address of a reference; empty for a file."""
        self.etag = etag
        """What tells whether what is referred to has changed."""
        self.local_path = ""
        """Where its bytes are on this disk, as far as they are."""
        self.stamp_ns = 0
        """Time of change of that file, where it is the script's own."""
        self.is_copy = False
        """Whether `local_path` is in the cache."""
        self.artifact: Artifact | None = None
        """The version that it is of, once it is one."""

    @property
    def digest(self) -> str:
        """Returns the SHA-256 in hex; of a reference its ETag or the like."""
        return self.sha256.hex() if self.sha256 else self.etag

    @property
    def name(self) -> str:
        """Returns `path`."""
        return self.path

    def download(self, root: Any = None, skip_cache: bool | None = None) -> str:
        """Writes it under `root` (where `Artifact.download` would) and returns its path, after checking its content."""
        from runyard.artifacts.download import fetch_one

        if self.artifact is None:
            raise UsageError(
                f"{self.path!r} is of an artifact that is no version yet: log it, and wait()"
            )
        return fetch_one(self.artifact, self, root, is_cached=not skip_cache)

    def ref_target(self) -> str:
        """Returns the address of a reference; raises ValueError for a file."""
        if not self.ref:
            raise InvalidArgument(f"{self.path!r} is a file, not a reference")
        return self.ref

    def ref_url(self) -> str:
        """Returns the address of a reference; see ref_target."""
        return self.ref_target()

    def parent_artifact(self) -> Artifact:
        """Returns the version that it is of."""
        if self.artifact is None:
            raise UsageError(f"{self.path!r} is of an artifact that is no version yet")
        return self.artifact

    def __repr__(self) -> str:
        what = f"reference {self.ref}" if self.ref else f"{self.size} bytes"
        return f"<runyard artifact entry {self.path} ({what})>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, int, bytes, str, str]:
        return (self.path, self.size, self.sha256, self.ref, self.etag)


def manifest_digest(entries: Iterable[Entry]) -> str:
    """Returns the SHA-256, in hex, over the entries, which MUST come by path; see files.v1.Entry."""
    digest = hashlib.sha256()
    for entry in entries:
        line = f"{entry.path}\0{entry.size}\0{entry.sha256.hex()}\0{entry.ref}\0{entry.etag}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def by_path(entries: Iterable[Entry]) -> list[Entry]:
    """Returns them in the byte order of their paths in UTF-8, which is the order of code points."""
    return sorted(entries, key=lambda entry: entry.path)


def check_folders(entries: Iterable[Entry]) -> None:
    """Raises InvalidArgument if a path is a file and a folder: no disk could hold both."""
    paths = {entry.path for entry in entries}
    known: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in known:
            if folder in paths:
                raise InvalidArgument(
                    f"{folder!r} is a file of the artifact, and {path!r} has it as a folder: remove() one of them",
                    reason="FIELD_INVALID",
                )
            known.add(folder)
            folder = folder.rpartition("/")[0]


def checked_path(path: object) -> str:
    """Returns the path in NFC, without `./`; raises InvalidArgument if an artifact cannot have it."""
    text = str(path)
    normal = text if text.isascii() else unicodedata.normalize("NFC", text)
    if "./" in normal or "//" in normal:
        normal = posixpath.normpath(normal)
    problem = _path_problem(normal)
    if problem:
        raise InvalidArgument(
            f"{text[:256]!r} cannot be a name in an artifact: it {problem}",
            reason="FIELD_INVALID",
            metadata={"field": "path", "value": ascii(text[:256])},
        )
    return normal


def path_problem(path: str) -> str:
    """Returns what is wrong with a path that a server told, or "" if nothing is: nothing may be written outside of a root."""
    return _path_problem(path)


def _path_problem(path: str) -> str:
    found = _FORBIDDEN.search(path)
    if found:
        return f"holds {found[0]!a}"
    size_bytes = len(path.encode())
    parts = path.split("/")
    if not path or path == ".":
        return "is empty"
    if size_bytes > PATH_BYTES_MAX:
        return f"has {size_bytes} bytes, at most {PATH_BYTES_MAX} are allowed"
    if path.startswith("/") or (len(path) > 1 and path[1] == ":" and path[0].isalpha()):
        return "is absolute"
    if ".." in parts:
        return "leads out of the artifact"
    if "" in parts or "." in parts:
        return "has an empty folder or file name"
    if size_bytes > PART_BYTES_MAX and any(len(part.encode()) > PART_BYTES_MAX for part in parts):
        return f"has a part of more than {PART_BYTES_MAX} bytes"
    return ""


def checked_name(name: object, what: str = "artifact") -> str:
    """Returns the name if an artifact, or an alias, may have it; raises InvalidArgument that says what is wrong."""
    if not isinstance(name, str):
        raise InvalidArgument(
            f"{what} name is of type {type(name).__name__}; it must be a string",
            reason="FIELD_INVALID",
        )
    if NAME.fullmatch(name) and name not in (".", ".."):
        return name
    problem = "is the name of a folder" if name else "is empty"
    if len(name) > NAME_BYTES_MAX:
        problem = f"has {len(name)} characters, at most {NAME_BYTES_MAX} are allowed"
    elif name.strip("."):
        wrong = sorted({c for c in name if not NAME.fullmatch(c)})
        problem = (
            f"holds {' '.join(map(ascii, wrong[:8]))}; letters, digits, -, _ and . are allowed"
        )
    raise InvalidArgument(
        f"{what} name {name[:128]!r} {problem}",
        reason="FIELD_INVALID",
        metadata={"field": f"{what} name", "value": ascii(name[:128])},
    )


def checked_aliases(aliases: object) -> list[str]:
    """Returns the aliases without `latest`, which moves by itself; raises InvalidArgument for what can be none."""
    given = [aliases] if isinstance(aliases, str) else list(aliases or ())  # type: ignore[call-overload]  # checked one by one
    kept = []
    for alias in given:
        checked_name(alias, "alias")
        if VERSION_NAME.fullmatch(alias):
            raise InvalidArgument(
                f"alias {alias!r} looks like a version; versions get their numbers from the server",
                reason="FIELD_INVALID",
            )
        if alias != LATEST and alias not in kept:
            kept.append(alias)
    return kept
