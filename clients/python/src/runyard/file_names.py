"""What a file of a run may be called: the same rules as the server's, and where such a name lies beneath a folder."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from runyard.errors import InvalidArgument
from runyard.given import shown

NAME_BYTES_MAX = 1024
SEGMENT_BYTES_MAX = 255


def normal_name(name: str) -> str:
    """Returns the name in NFC, in which the server keeps it."""
    return unicodedata.normalize("NFC", name)


def name_problem(name: str) -> str:
    """Returns why no file of a run may be called so, "" if it may."""
    segments = name.split("/")
    try:
        sizes = [len(segment.encode()) for segment in segments]
    except UnicodeEncodeError:
        return "is no UTF-8; rename it"
    size_bytes = sum(sizes) + len(sizes) - 1
    if not name:
        return "is empty"
    if size_bytes > NAME_BYTES_MAX:
        return f"has {size_bytes} bytes, at most {NAME_BYTES_MAX} are allowed"
    if name.startswith("/"):
        return "is absolute; it must be relative"
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        return "holds a control character; rename it"
    if "\\" in name:
        return "holds a backslash; folders are separated by /"
    if "" in segments:
        return "has an empty folder or file name"
    if "." in segments or ".." in segments:
        return "has a . or .. part"
    if max(sizes) > SEGMENT_BYTES_MAX:
        return f"has a part of {max(sizes)} bytes, at most {SEGMENT_BYTES_MAX} are allowed"
    return ""


def check_name(name: str, call: str) -> str:
    """Returns the name in NFC; raises InvalidArgument for one that no file can have. `call` begins the message."""
    if not isinstance(name, str):
        raise InvalidArgument(
            f"{call}: the name is of type {type(name).__name__}; names of files are strings",
            reason="FIELD_INVALID",
        )
    name = normal_name(name)
    problem = name_problem(name)
    if problem:
        raise InvalidArgument(f"{call}: the name {shown(name)} {problem}", reason="FIELD_INVALID")
    return name


def place_beneath(root: str | Path, name: str) -> Path:
    """Returns the path of a name beneath a folder; raises InvalidArgument for one that would lie elsewhere.

    Names come from a server: what it says must not make a client write outside of `root`.
    """
    check_name(name, "download")
    drive, _ = os.path.splitdrive(name)
    if drive or (os.name == "nt" and ":" in name):
        raise InvalidArgument(
            f"download: the name {shown(name)} names a drive", reason="FIELD_INVALID"
        )
    return Path(root).joinpath(*name.split("/"))
