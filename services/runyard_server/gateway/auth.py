"""Who may speak to the HTTP listener: this machine's own programs and pages, no other site's page, whatever its name resolves to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runyard_server import telemetry
from runyard_server.domain.errors import PermissionDenied
from runyard_server.gateway.replies import error_reply

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?")
_READS: Final = frozenset({"GET", "HEAD"})
_VALUE_LENGTH_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request says of where it comes from; None where it does not say."""

    method: str
    host: str | None
    origin: str | None
    fetch_site: str | None
    fetch_mode: str | None


def check_caller(caller: Caller) -> None:
    """Returns if the request may pass, else raises PermissionDenied ORIGIN_NOT_ALLOWED.

    The Host must name loopback, so that a page whose name was rebound to 127.0.0.1 is refused (DNS rebinding). The
    Origin, where there is one, must be that very Host, so that pages of other sites and of other local ports are refused.
    Any port will do in Host, so that a tunnel (ssh -L) may end at another one. A browser's own word on the
    site of the caller (Sec-Fetch-Site) is believed when it warns; only following a link to a page may cross sites.
    """
    host = caller.host or ""
    if not is_loopback_host(host):
        raise _refusal(
            "host", host, "only names of this machine are answered: 127.0.0.1, localhost and [::1]"
        )
    if caller.origin is not None and caller.origin.lower() != f"http://{host}".lower():
        raise _refusal(
            "origin", caller.origin, f"only pages of http://{host[:_VALUE_LENGTH_MAX]} may call"
        )
    is_link = caller.fetch_mode == "navigate" and caller.method in _READS
    if caller.fetch_site in ("cross-site", "same-site") and not is_link:
        raise _refusal("sec-fetch-site", caller.fetch_site, "pages of other sites may not call")


def is_loopback_host(host: str) -> bool:
    """Returns whether a Host header names this machine only: localhost, 127.0.0.0/8 or [::1], with or without a port."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def security_headers(blob_origins: Iterable[str]) -> Mapping[str, str]:
    """Returns the headers of every answer; pages may load from here and, for files, from `blob_origins`, nothing else."""
    blob_origins = tuple(blob_origins)
    sources = " ".join(["'self'", *blob_origins])
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        # Charts and tables set style attributes.
        "style-src": "'self' 'unsafe-inline'",
        "font-src": "'self' data:",
        "img-src": f"{sources} data: blob:",
        "media-src": f"{sources} blob:",
        "connect-src": sources,
        # PDFs (the object store never sends pages of users to be shown: files/names.py), and sandbox.html, whose own headers take
        # every right from it.
        "frame-src": sources,
        "worker-src": "'self' blob:",
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return {
        "content-security-policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }


class CallerGuard:
    """Stands before the whole HTTP listener: refuses strange callers and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, *, blob_origins: Iterable[str] = ()) -> None:
        self._app = app
        self._headers = security_headers(blob_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request (ASGI)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for key, value in self._headers.items():
                    headers.setdefault(key, value)
            await send(message)

        try:
            check_caller(_caller(scope))
        except PermissionDenied as error:
            telemetry.HTTP_REFUSED.labels(error.metadata.get("field", "")).inc()
            await error_reply(error)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def _caller(scope: Scope) -> Caller:
    headers = Headers(scope=scope)
    hosts = headers.getlist("host")
    origins = headers.getlist("origin")
    return Caller(
        method=str(scope.get("method", "GET")),
        # Two Host headers are an attack or a bug: neither is believed.
        host=hosts[0] if len(hosts) == 1 else None,
        origin=", ".join(origins) if origins else None,
        fetch_site=headers.get("sec-fetch-site"),
        fetch_mode=headers.get("sec-fetch-mode"),
    )


def _refusal(field: str, value: str, rule: str) -> PermissionDenied:
    shown = value[:_VALUE_LENGTH_MAX]
    return PermissionDenied(
        "ORIGIN_NOT_ALLOWED",
        f"{field} {shown!r} is refused: {rule}",
        metadata={"field": field, "value": shown},
    )
