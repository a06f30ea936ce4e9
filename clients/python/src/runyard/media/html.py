"""Html: a page or a piece of one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from runyard.errors import InvalidArgument
from runyard.media.value import Content, Item, Media, checked_caption, existing_path

WHAT = "Html"
HTML_BYTES_MAX = 64 << 20
INJECTED = (
    '<base target="_blank"><style>body{margin:8px;font:13px/1.5 system-ui,sans-serif}'
    "table{border-collapse:collapse}td,th{padding:2px 8px;text-align:left}</style>"
)
"""What `inject` puts into the head: links open in a tab of their own, and text looks as on the page around it."""


class Html(Media):
    """HTML to log: text, an open file, or the path of a file that ends in .html or .htm."""

    kind = "html"

    def __init__(
        self,
        data: Any,
        inject: bool = True,
        *,
        caption: str | None = None,
        data_is_not_path: bool = False,
    ) -> None:
        self.caption = checked_caption(caption, WHAT)
        text = _text_of(data, is_path_taken=not data_is_not_path)
        self.html = _injected(text) if inject else text
        raw = self.html.encode("utf-8", "replace")
        if len(raw) > HTML_BYTES_MAX:
            raise InvalidArgument(
                f"{WHAT} has {len(raw)} bytes, at most {HTML_BYTES_MAX} are allowed",
                reason="FIELD_TOO_LARGE",
            )
        self._content = Content("html", raw)

    def item(self) -> Item:
        """Returns what is told of the page."""
        item: Item = {"file": self._content}
        return item | {"caption": self.caption} if self.caption else item


def _text_of(data: Any, *, is_path_taken: bool) -> str:
    is_path = isinstance(data, os.PathLike) or (
        isinstance(data, str)
        and is_path_taken
        and data.lower().endswith((".html", ".htm"))
        and "<" not in data
    )
    if is_path:
        path: Path = existing_path(data, WHAT)
        if path.stat().st_size > HTML_BYTES_MAX:
            raise InvalidArgument(
                f"{WHAT}: {path} has {path.stat().st_size} bytes, at most {HTML_BYTES_MAX} are allowed",
                reason="FIELD_TOO_LARGE",
            )
        data = path.read_bytes()
    elif hasattr(data, "read"):
        data = data.read()
    if isinstance(data, (bytes, bytearray)):
        return bytes(data).decode("utf-8", "replace")
    if not isinstance(data, str):
        raise InvalidArgument(
            f"{WHAT}: a value of type {type(data).__name__}; it takes text, an open file or the path of one"
        )
    return data


def _injected(text: str) -> str:
    """Returns the page with our lines at the start of its head, or in front where it has none."""
    for tag in ("head", "html"):
        found = re.search(rf"<{tag}(\s[^>]*)?>", text, re.IGNORECASE)
        if found:
            lines = INJECTED if tag == "head" else f"<head>{INJECTED}</head>"
            return text[: found.end()] + lines + text[found.end() :]
    return INJECTED + text
