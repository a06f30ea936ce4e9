"""The web application's files, and its first page for its own addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard_server.gateway.auth import CallerGuard
from runyard_server.gateway.pages import Pages
from tests.unit.gateway.asgi import app_of, send

HTML = {"accept": "text/html,*/*"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<p>app</p>")
    (dist / "assets" / "app-1a2b.js").write_text("run()")
    (tmp_path / "secret.txt").write_text("secret")
    (dist / "link.txt").symlink_to(tmp_path / "secret.txt")
    return dist


@pytest.mark.parametrize("path", ["/", "/nico/project", "/nico/project/runs/a.b"])
async def test_addresses_of_the_application_get_its_first_page(root: Path, path: str) -> None:
    """Any address a person may open or reload gets the first page, checked anew each time."""
    reply = await send(app_of(Pages(root).answer), "GET", path, headers=HTML)
    assert (reply.status, reply.body) == (200, b"<p>app</p>")
    assert reply.headers["cache-control"] == "no-cache"


async def test_hashed_files_never_change(root: Path) -> None:
    """Files under assets/ may be kept for ever: their names change with their content."""
    reply = await send(app_of(Pages(root).answer), "GET", "/assets/app-1a2b.js")
    assert (reply.status, reply.body) == (200, b"run()")
    assert "immutable" in reply.headers["cache-control"]
    again = await send(
        app_of(Pages(root).answer),
        "GET",
        "/assets/app-1a2b.js",
        headers={"if-none-match": reply.headers["etag"]},
    )
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/link.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/\0",
    ],
)
async def test_nothing_outside_the_folder_is_served(root: Path, path: str) -> None:
    """Neither dots nor links lead out of the folder."""
    reply = await send(app_of(Pages(root).answer), "GET", path, headers={"accept": "image/*"})
    assert reply.status == 404
    assert b"secret" not in reply.body.replace(path.encode(), b"")


async def test_missing_asset_is_not_the_first_page(root: Path) -> None:
    """A script of an older build that is gone is a 404, not HTML that a browser would try to run."""
    reply = await send(app_of(Pages(root).answer), "GET", "/assets/old.js", headers=HTML)
    assert (reply.status, reply.reason) == (404, "FILE_NOT_FOUND")


async def test_application_that_is_not_built(tmp_path: Path) -> None:
    """Without a built application the page says how to build it."""
    pages = Pages(tmp_path)
    assert not pages.is_built
    reply = await send(app_of(pages.answer), "GET", "/", headers=HTML)
    assert reply.status == 503
    assert b"make web" in reply.body


async def test_what_runs_logged_as_html_is_shown_without_rights(root: Path) -> None:
    """The page for it has no origin and reaches nothing; only this application may frame it, and no other page is framed."""
    (root / "sandbox.html").write_text("<p>frame</p>")
    (root / "assets" / "sandbox.html").write_text("<p>no frame</p>")
    guarded = CallerGuard(app_of(Pages(root).answer))
    reply = await send(guarded, "GET", "/sandbox.html", headers=HTML)
    policy = reply.headers["content-security-policy"].split("; ")
    assert "sandbox allow-scripts" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert reply.headers["x-frame-options"] == "SAMEORIGIN"
    for path in ("/", "/assets/sandbox.html"):
        reply = await send(guarded, "GET", path, headers=HTML)
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert "frame-src 'self'" in reply.headers["content-security-policy"]
        assert reply.headers["x-frame-options"] == "DENY"


async def test_every_answer_carries_the_security_headers(root: Path) -> None:
    """Pages, errors and refusals all forbid frames, sniffing and scripts from elsewhere."""
    guarded = CallerGuard(app_of(Pages(root).answer))
    for headers in (HTML, {"host": "evil.example"}, {"origin": "http://evil.example"}):
        reply = await send(guarded, "GET", "/assets/none.js", headers=headers)
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
