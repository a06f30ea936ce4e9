"""Serves the web application: its files as built, and its first page for every address that is one of its own."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from runyard_server.domain.errors import NotFound
from runyard_server.gateway.replies import error_reply

INDEX: Final = "index.html"
ASSETS_PREFIX: Final = "assets/"
"""The build puts a hash of the content into these names, so that they never change."""
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_REVALIDATE: Final = "no-cache"

SANDBOX: Final = "sandbox.html"
"""Shows HTML that a run logged, within a frame: an origin of its own, which reaches neither this one nor any other."""
_SANDBOX_HEADERS: Final = {
    "content-security-policy": (
        "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; media-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'"
    ),
    "x-frame-options": "SAMEORIGIN",
}

_NOT_BUILT: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>runyard</title></head>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem">
<h1 style="font-size: 1.3rem">The web application is not built</h1>
<p>The server runs and takes runs; only its pages are missing. In the repository, run</p>
<pre style="background: #8882; padding: .8rem 1rem; border-radius: 6px">make web</pre>
<p>and reload this page, or set <code>gateway.web_dir</code> to a folder that holds a built one.</p>
<p>Everything can be read without it too: <code>runyard runs ls</code>, <code>runyard.Api()</code>, or
<code>POST /runyard.metadata.v1.MetadataService/ListProjects</code> with the body <code>{}</code>.</p>
</body></html>
"""


class Pages:
    """Answers GET requests from the folder of the built web application."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    @property
    def is_built(self) -> bool:
        """Returns whether there is a web application to serve."""
        return (self._root / INDEX).is_file()

    async def answer(self, request: Request) -> Response:
        """Returns the file at the path, or the first page for the application's own addresses, or says what is missing."""
        relative = request.url.path.lstrip("/")
        found = await asyncio.to_thread(self._find, relative)
        if found is not None:
            is_asset = relative.startswith(ASSETS_PREFIX)
            answer = _file(request, *found, cache=_IMMUTABLE if is_asset else _REVALIDATE)
            if found[0] == self._root / SANDBOX:
                answer.headers.update(_SANDBOX_HEADERS)
            return answer
        if relative.startswith(ASSETS_PREFIX) or not _wants_page(request):
            return error_reply(
                NotFound(
                    "FILE_NOT_FOUND",
                    f"there is no {request.url.path[:256]!r} here",
                    metadata={"file": request.url.path[:256]},
                )
            )
        index = await asyncio.to_thread(self._find, INDEX)
        if index is None:
            return HTMLResponse(_NOT_BUILT, status_code=503, headers={"cache-control": "no-store"})
        return _file(request, *index, cache=_REVALIDATE)

    def _find(self, relative: str) -> tuple[Path, os.stat_result] | None:
        """Returns the file of that relative path and its stat, None if there is none inside the folder."""
        if not relative or "\0" in relative:
            return None
        try:
            path = (self._root / relative).resolve()
            if not path.is_relative_to(self._root):
                return None
            found = path.stat()
        except OSError:
            return None
        return (path, found) if stat.S_ISREG(found.st_mode) else None


def default_web_dir() -> Path:
    """Returns where the built web application lies: inside the package if it was packed, else in the repository."""
    packed = Path(__file__).parent / "web"
    if packed.is_dir():
        return packed
    return Path(__file__).resolve().parents[3] / "clients" / "web" / "dist"


def _file(request: Request, path: Path, found: os.stat_result, *, cache: str) -> Response:
    response = FileResponse(path, stat_result=found, headers={"cache-control": cache})
    etag = response.headers["etag"]
    known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
    if etag in known or f"W/{etag}" in known:
        return Response(status_code=304, headers={"etag": etag, "cache-control": cache})
    return response


def _wants_page(request: Request) -> bool:
    accepted = request.headers.get("accept", "*/*")
    return "text/html" in accepted or accepted.strip() == "*/*"
