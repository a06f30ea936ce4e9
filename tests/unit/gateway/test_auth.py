"""No page of another site reaches the listener, whatever name it goes by."""

from __future__ import annotations

import pytest

from runyard_server.domain.errors import PermissionDenied
from runyard_server.gateway.auth import Caller, check_caller, is_loopback_host, security_headers


def caller(**said: str | None) -> Caller:
    fields: dict[str, str | None] = {
        "host": "127.0.0.1:8080",
        "origin": None,
        "fetch_site": None,
        "fetch_mode": None,
    }
    method = said.pop("method", "POST") or "POST"
    return Caller(method=method, **{**fields, **said})


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.9.9.9:1"],
)
def test_names_of_this_machine_pass(host: str) -> None:
    """curl, the SDK and a browser on this machine (or through a tunnel to another port) are answered."""
    check_caller(caller(host=host))
    check_caller(caller(host=host, origin=f"http://{host}", fetch_site="same-origin"))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evillocalhost",
        "foo.localhost",
        "192.168.1.5:8080",
        "0.0.0.0:8080",
        "[::]:8080",
        "127.0.0.1:8080@evil.example",
        "127.0.0.1:8080 evil",
        "2130706433",
        "127.0.0.1:999999",
        "",
        None,
    ],
)
def test_rebound_names_are_refused(host: str | None) -> None:
    """A page whose own name resolves to 127.0.0.1 (DNS rebinding) sends its name as Host, and is refused."""
    with pytest.raises(PermissionDenied) as caught:
        check_caller(caller(host=host))
    assert caught.value.reason == "ORIGIN_NOT_ALLOWED"
    assert caught.value.metadata["field"] == "host"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:8080",
        "http://127.0.0.1:3000",
        "http://localhost:8080",
        "http://127.0.0.1:8080.evil.example",
        "null",
        "",
        "http://127.0.0.1:8080, http://evil.example",
        "file://",
    ],
)
def test_pages_of_other_origins_are_refused(origin: str) -> None:
    """A fetch or a form of another site, another local port or a sandboxed frame carries its Origin, and is refused."""
    with pytest.raises(PermissionDenied, match="origin"):
        check_caller(caller(origin=origin))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_browsers_word_on_the_site_is_believed(site: str) -> None:
    """A request without Origin that the browser marks as another site's (an image, a script) is refused."""
    with pytest.raises(PermissionDenied, match="sec-fetch-site"):
        check_caller(caller(method="GET", fetch_site=site, fetch_mode="no-cors"))


def test_following_a_link_is_allowed() -> None:
    """A link in a chat or a mail may open a page; a form of another site may not post by the same way."""
    check_caller(caller(method="GET", fetch_site="cross-site", fetch_mode="navigate"))
    with pytest.raises(PermissionDenied):
        check_caller(caller(method="POST", fetch_site="cross-site", fetch_mode="navigate"))


def test_loopback_host_never_raises_on_garbage() -> None:
    """Bytes that are no host are no loopback host."""
    assert not is_loopback_host("[::1")
    assert not is_loopback_host("\x00")
    assert not is_loopback_host("[1.2.3]")


def test_pages_load_scripts_from_here_only() -> None:
    """The policy names no other source of scripts, no inline script, and no frame around us."""
    policy = security_headers(["http://127.0.0.1:9000"])["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["script-src"] == "'self'"
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert rules["connect-src"] == "'self' http://127.0.0.1:9000"
