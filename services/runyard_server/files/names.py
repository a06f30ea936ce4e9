"""What a file may be called, what type it is said to have, and when a browser may show it instead of saving it."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from typing import Final
from urllib.parse import quote

from runyard_server.domain.errors import InvalidArgument

NAME_BYTES_MAX: Final = 1024
SEGMENT_BYTES_MAX: Final = 255
DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"
_CONTENT_TYPE_LENGTH_MAX: Final = 255
_CONTENT_TYPE: Final = re.compile(
    r"[a-zA-Z0-9!#$&^_.+-]+/[a-zA-Z0-9!#$&^_.+-]+(\s*;\s*[a-zA-Z0-9!#$&^_.+-]+=[^;\x00-\x1f\x7f]+)*"
)
# What a browser shows without running anything of it. HTML, SVG, XML and scripts are not among it: shown inline, a file
# of one user would act in the name of another.
_SHOWN: Final = frozenset(
    {
        "application/json",
        "application/pdf",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/csv",
        "text/plain",
    }
)
# Python's own table: the machine's differs from one to the next, and calls model.pt a page table of SNESdev.
_TYPES: Final = mimetypes.MimeTypes(filenames=())
_SHOWN_KINDS: Final = ("audio/", "video/")
_TEXT_SUFFIXES: Final = frozenset(
    {"log", "md", "py", "toml", "yaml", "yml", "cfg", "ini", "sh", "rst", "txt", "patch", "diff"}
)


def check_file_name(name: str) -> str:
    """Returns the name in NFC if a file of a run may have it, else raises InvalidArgument."""
    normal = unicodedata.normalize("NFC", name)
    problem = find_path_problem(normal)
    if problem:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"file name {name[:256]!r} {problem}",
            metadata={"field": "name", "value": name[:256], "limit": NAME_BYTES_MAX},
        )
    return normal


def find_path_problem(normal: str) -> str:
    """Returns what keeps a text in NFC from being the path of a file in a folder; nothing if it can be one."""
    size_bytes = len(normal.encode("utf-8", "surrogatepass"))
    segments = normal.split("/")
    problem = ""
    if not normal:
        problem = "is empty"
    elif size_bytes > NAME_BYTES_MAX:
        problem = f"has {size_bytes} bytes, at most {NAME_BYTES_MAX} are allowed"
    elif normal.startswith("/"):
        problem = "is absolute; it must be relative"
    elif any(unicodedata.category(c) in ("Cc", "Cs") for c in normal):
        problem = "holds a control character"
    elif "\\" in normal:
        problem = "holds a backslash; folders are separated by /"
    elif "" in segments:
        problem = "has an empty folder or file name"
    elif "." in segments or ".." in segments:
        problem = "has a . or .. part"
    elif any(
        len(segment.encode("utf-8", "surrogatepass")) > SEGMENT_BYTES_MAX for segment in segments
    ):
        problem = f"has a part of more than {SEGMENT_BYTES_MAX} bytes"
    return problem


def choose_content_type(name: str, announced: str) -> str:
    """Returns the announced media type, or one guessed from the name; raises InvalidArgument for what is none."""
    if not announced:
        suffix = name.rpartition(".")[2].lower()
        if suffix in _TEXT_SUFFIXES:
            return "text/plain"
        return _TYPES.guess_type(name)[0] or DEFAULT_CONTENT_TYPE
    if len(announced) > _CONTENT_TYPE_LENGTH_MAX or not _CONTENT_TYPE.fullmatch(announced):
        raise InvalidArgument(
            "FIELD_INVALID",
            f"content_type {announced[:256]!r} is no media type of at most {_CONTENT_TYPE_LENGTH_MAX} characters, "
            "such as text/plain",
            metadata={"field": "content_type", "value": announced[:256]},
        )
    return announced


def download_headers(name: str, content_type: str, *, as_attachment: bool) -> tuple[str, str]:
    """Returns Content-Type and Content-Disposition for a download.

    A type that a browser might run is never shown inline, whatever is asked.
    """
    kind = content_type.partition(";")[0].strip().lower()
    is_shown = kind in _SHOWN or kind.startswith(_SHOWN_KINDS)
    disposition = "inline" if is_shown and not as_attachment else "attachment"
    if kind.startswith("text/") and "charset" not in content_type.lower():
        content_type = f"{content_type}; charset=utf-8"
    return content_type, f"{disposition}; {_file_name_parameters(name)}"


def _file_name_parameters(name: str) -> str:
    """Returns the parameters of RFC 6266: a plain name for old clients, the full one in UTF-8."""
    last = name.rpartition("/")[2]
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in last)
    return f"filename=\"{plain}\"; filename*=UTF-8''{quote(last, safe='')}"
