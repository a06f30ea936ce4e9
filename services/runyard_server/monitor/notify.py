"""Sends notifications: leases what is due from metadata, posts it, and reports what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, quote, urlsplit

from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError
from runyard_server.domain.notifications import (
    NotificationReport,
    NotificationState,
    OutgoingNotice,
)
from runyard_server.monitor import webhooks
from runyard_server.monitor.webhooks import WebhookRequest

ANSWER_BYTES_MAX = 200
_ERROR_LENGTH_MAX = 500
_PATH_SAFE = "%/?:@!$&'()*+,;=~"
"""What stays as it is in a target; the rest, spaces and letters beyond ASCII among it, is escaped."""

NOTICES = Counter("runyard_notifications_total", "Tries to send notifications.", ["result"])

log = logging.getLogger("runyard.monitor")


@dataclass(frozen=True, slots=True)
class NotifyConfig:
    """How notifications are sent."""

    poll_interval_s: float = 2.0
    """How often metadata is asked for what is due."""
    lease_s: float = 60.0
    """How long another replica leaves alone what this one took."""
    concurrency_max: int = 8
    """Messages being sent at once."""
    call_timeout_s: float = 10.0
    """Longest wait for a receiver to take a message."""
    try_count_max: int = 12
    """Tries before a notification is given up: 1.4 to 2.8 hours with the pauses below."""
    first_pause_s: float = 5.0
    """Pause after the first failed try; it doubles each time."""
    longest_pause_s: float = 6 * 3600.0
    """The longest pause."""
    is_private_allowed: bool = False
    """Whether receivers may have addresses that are not public (loopback, 10.0.0.0/8, link-local ...).

    Off, so that nobody who may edit a project can have the server call what only the server can reach.
    """
    base_url: str = ""
    """Where people find the web application, for links. Empty: the address that this process serves, if it does."""


class NoticeSource(Protocol):
    """What is asked of metadata; rpc.siblings.Siblings has it."""

    async def lease_notifications(self, *, limit: int, lease_s: float) -> list[OutgoingNotice]:
        """Returns notifications that are due; nobody else gets them until the lease ends."""
        ...

    async def report_notifications(self, reports: Sequence[NotificationReport]) -> None:
        """Tells what became of notifications."""
        ...


class Refused(Exception):  # a verdict on an address, not an error of the program
    """The receiver's address may not be called; the text says why."""


class Notifier:
    """Sends until cancelled. Each notification is sent at least once; DELIVERY_HEADER tells repeats."""

    def __init__(
        self,
        config: NotifyConfig,
        *,
        source: NoticeSource,
        clock: Clock,
        base_url: Callable[[], str],
        version: str,
    ) -> None:
        self._config = config
        self._source = source
        self._clock = clock
        self._base_url = base_url
        self._agent = f"runyard/{version}"
        self._is_away = False

    async def run(self) -> None:
        """Sends what is due, again and again."""
        while True:
            sent_count = await self.send_due()
            if sent_count < self._config.concurrency_max:
                await asyncio.sleep(self._config.poll_interval_s)

    async def send_due(self) -> int:
        """Sends one round of what is due; returns how many were tried."""
        try:
            notices = await self._source.lease_notifications(
                limit=self._config.concurrency_max, lease_s=self._config.lease_s
            )
        except DomainError as error:
            self._note_away(error.message)
            return 0
        self._is_away = False
        if not notices:
            return 0
        reports = await asyncio.gather(*(self._send(notice) for notice in notices))
        # Unreported ones come again when their lease ends: sent twice rather than never.
        with contextlib.suppress(DomainError):
            await self._source.report_notifications(reports)
        return len(notices)

    async def _send(self, notice: OutgoingNotice) -> NotificationReport:
        if not notice.target.url:
            return self._give_up(notice, "the project has no target of this name any more")
        request = webhooks.make_request(
            notice,
            base_url=self._config.base_url or self._base_url(),
            now_unix_s=self._clock.now_unix_ns() // 10**9,
            agent=self._agent,
        )
        try:
            async with asyncio.timeout(3 * self._config.call_timeout_s):
                addresses = await self._resolve(request.url)
                status, text = await asyncio.to_thread(
                    post, request, addresses[0], timeout_s=self._config.call_timeout_s
                )
        except Refused as error:
            return self._give_up(notice, str(error))
        except (OSError, TimeoutError, http.client.HTTPException) as error:
            return self._try_later(notice, f"{type(error).__name__}: {error}")
        except ValueError as error:  # a name with a part of over 63 letters, say
            return self._give_up(notice, f"the address cannot be called: {error}")
        if 200 <= status < 300:
            NOTICES.labels("sent").inc()
            return NotificationReport(notice.number, NotificationState.SENT)
        problem = f"HTTP {status}: {text}".strip()
        if webhooks.is_worth_repeating(status):
            return self._try_later(notice, problem)
        return self._give_up(notice, problem)

    async def _resolve(self, url: str) -> list[str]:
        """Returns the addresses of the receiver; raises Refused if one may not be called.

        The call goes to an address that was looked at here: a name that changes its mind gains nothing.
        """
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(ascii_host(parts), port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        bad = webhooks.refused_address(addresses)
        if bad and not self._config.is_private_allowed:
            raise Refused(
                f"{parts.hostname} has the address {bad}, which is not public; notify.is_private_allowed lets the "
                "server call such"
            )
        return addresses

    def _try_later(self, notice: OutgoingNotice, problem: str) -> NotificationReport:
        if notice.try_count + 1 >= self._config.try_count_max:
            return self._give_up(notice, f"given up after {notice.try_count + 1} tries; {problem}")
        NOTICES.labels("repeat").inc()
        pause_s = webhooks.pause_s(
            notice.try_count,
            first_s=self._config.first_pause_s,
            most_s=self._config.longest_pause_s,
            draw=self._clock.random_bits(16) / 2**16,
        )
        return NotificationReport(
            notice.number,
            NotificationState.PENDING,
            problem[:_ERROR_LENGTH_MAX],
            self._clock.now_unix_ns() + round(pause_s * 1e9),
        )

    def _give_up(self, notice: OutgoingNotice, problem: str) -> NotificationReport:
        NOTICES.labels("dead").inc()
        fields = {"run": notice.run_path, "target": notice.target.name, "problem": problem}
        log.warning("notification_given_up", extra={"fields": fields})
        return NotificationReport(
            notice.number, NotificationState.DEAD, problem[:_ERROR_LENGTH_MAX]
        )

    def _note_away(self, message: str) -> None:
        if not self._is_away:
            log.info("notifications_wait", extra={"fields": {"message": message}})
        self._is_away = True


def post(request: WebhookRequest, address: str, *, timeout_s: float) -> tuple[int, str]:
    """Posts to that address of the receiver; returns (status, the beginning of a refusal). Follows no redirect.

    Returns or raises within twice the time, whatever the receiver does: half for the connection, half for the rest.
    Raises OSError (TimeoutError among them), HTTPException, and ValueError for an address that cannot be written in a request.
    """
    parts = urlsplit(request.url)
    name = ascii_host(parts)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    host = f"[{name}]" if ":" in name else name
    headers = {**request.headers, "Host": f"{host}:{parts.port}" if parts.port else host}
    sock = _connect(parts, address, name, timeout_s)
    is_late = threading.Event()
    deadline = threading.Timer(timeout_s, _cut, [sock, is_late])
    deadline.daemon = True
    deadline.start()
    try:
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        connection = http.client.HTTPConnection(name)
        connection.sock = sock
        connection.request("POST", quote(path, safe=_PATH_SAFE), request.body, headers)
        response = connection.getresponse()
        is_taken = 200 <= response.status < 300
        # One read: of a long answer the rest is not listened to.
        answer = b"" if is_taken else response.read1(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException):
        if not is_late.is_set():
            raise
    else:
        if not is_late.is_set():  # an answer that was cut may look whole
            return response.status, answer.decode("utf-8", "replace")
    finally:
        deadline.cancel()
        sock.close()
    raise TimeoutError(f"no whole answer within {timeout_s:g} s")


def ascii_host(parts: SplitResult) -> str:
    """Returns the receiver's name as DNS and HTTP write it; raises ValueError for one that cannot be."""
    assert parts.hostname is not None
    return parts.hostname.encode("idna").decode()


def _connect(parts: SplitResult, address: str, name: str, timeout_s: float) -> socket.socket:
    """Returns a connection to the address; the certificate, looked at in the handshake, must be that of the name."""
    is_tls = parts.scheme == "https"
    sock = socket.create_connection((address, parts.port or (443 if is_tls else 80)), timeout_s)
    if not is_tls:
        return sock
    context = ssl.create_default_context()
    return context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)


def _cut(sock: socket.socket, is_late: threading.Event) -> None:
    """Ends what waits on the socket: its own time-out begins anew with each byte that drips in."""
    is_late.set()
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
