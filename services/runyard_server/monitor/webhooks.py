"""Webhooks as bytes: what is sent, how it is signed, when it is tried again, and which addresses are never called; pure."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from runyard_server.domain.notifications import OutgoingNotice
from runyard_server.domain.projects import NotificationFormat

SIGNATURE_HEADER: Final = "X-Runyard-Signature"
DELIVERY_HEADER: Final = "X-Runyard-Delivery"
EVENT_HEADER: Final = "X-Runyard-Event"
SLACK_TEXT_LENGTH_MAX: Final = 2_900
"""A section of a Slack message takes 3,000 characters."""
_EMOJI = {
    "failed": "❌",
    "crashed": "💥",
    "killed": "⏹",
    "finished": "✅",
    "preempted": "⏸",
    "stalled": "⏳",
}
_SETTLED_STATUSES = frozenset({400, 401, 403, 404, 405, 410, 413, 415, 422})
"""Statuses that another try of the same message will not change."""


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One POST."""

    url: str
    body: bytes
    headers: Mapping[str, str]


def make_request(
    notice: OutgoingNotice, *, base_url: str, now_unix_s: int, agent: str
) -> WebhookRequest:
    """Returns the request that tells of the notice; `base_url` is where people find the web application, "" if not known."""
    link = run_link(notice.run_path, base_url)
    if notice.target.format is NotificationFormat.SLACK:
        message = slack_message(notice, link)
    else:
        message = json_message(notice, link)
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": agent,
        EVENT_HEADER: notice.event_name,
        DELIVERY_HEADER: str(notice.number),
    }
    if notice.target.secret:
        headers[SIGNATURE_HEADER] = sign(body, notice.target.secret, now_unix_s=now_unix_s)
    return WebhookRequest(notice.target.url, body, headers)


def sign(body: bytes, secret: str, *, now_unix_s: int) -> str:
    """Returns `t=TIME,v1=HEX`: HMAC-SHA256 over "TIME." and the body, as Stripe signs its webhooks."""
    mac = hmac.new(secret.encode(), f"{now_unix_s}.".encode() + body, hashlib.sha256)
    return f"t={now_unix_s},v1={mac.hexdigest()}"


def json_message(notice: OutgoingNotice, link: str) -> dict[str, Any]:
    """Returns the message of NOTIFICATION_FORMAT_JSON; fields are only ever added."""
    event = notice.event
    transition = event.transition
    return {
        "version": 1,
        "id": str(notice.number),
        "event": notice.event_name,
        "time": _iso(event.record_time_unix_ns),
        "project": notice.project_path,
        "run": {"path": notice.run_path, "name": notice.run_display_name, "url": link},
        "attempt": event.attempt,
        "writer": event.writer,
        "actor": event.actor,
        "title": event.title or headline(notice),
        "text": event.evidence,
        "level": event.level.value if event.level else "",
        "state": transition.to_state.value if transition else "",
        "state_before": transition.from_state.value if transition and transition.from_state else "",
        "cause": transition.cause.value if transition else "",
    }


def slack_message(notice: OutgoingNotice, link: str) -> dict[str, Any]:
    """Returns the message of NOTIFICATION_FORMAT_SLACK, as incoming webhooks take it."""
    title = notice.event.title or headline(notice)
    name = _slack_text(notice.run_display_name)
    shown = f"<{link}|{name}>" if link else f"*{name}*"
    lines = [f"{_EMOJI.get(notice.event_name, '🔔')} {shown}: {_slack_text(title)}"]
    if notice.event.evidence:
        evidence = _slack_text(notice.event.evidence)[-SLACK_TEXT_LENGTH_MAX // 2 :]
        lines.append(f"```{evidence}```")
    lines.append(f"_{_slack_text(notice.run_path)}_")
    text = "\n".join(lines)
    section = {"type": "section", "text": {"type": "mrkdwn", "text": text[:SLACK_TEXT_LENGTH_MAX]}}
    return {"text": f"{notice.run_display_name}: {title}", "blocks": [section]}


def headline(notice: OutgoingNotice) -> str:
    """Returns what happened, in a few words."""
    transition = notice.event.transition
    if transition is not None:
        return f"{notice.event_name} ({transition.cause.value.replace('_', ' ')})"
    return notice.event_name


def run_link(run_path: str, base_url: str) -> str:
    """Returns the address of the run's page; "" where nobody said where the application is."""
    if not base_url:
        return ""
    entity, project, run_id = (quote(part, safe="") for part in run_path.split("/"))
    return f"{base_url.rstrip('/')}/{entity}/{project}/runs/{run_id}"


def is_worth_repeating(status: int) -> bool:
    """Returns whether the same message may be taken later; redirects are not followed, and count as refused."""
    return status not in _SETTLED_STATUSES and not 300 <= status < 400


def pause_s(try_count: int, *, first_s: float, most_s: float, draw: float) -> float:
    """Returns the pause before the next try: doubled each time, with `draw` (0 to 1) of jitter, never above `most_s`."""
    base = min(most_s, first_s * 2.0 ** min(try_count, 30))
    return base * (0.5 + 0.5 * draw)


def refused_address(addresses: Sequence[str]) -> str:
    """Returns the first address that is not one of the public network, "" if all are.

    A name may resolve to several, and whoever owns the name chooses which: one bad one spoils all.
    """
    return next((text for text in addresses if not _is_public(text)), "")


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.split("%", 1)[0])
    if isinstance(address, ipaddress.IPv6Address):
        # Forms of IPv6 that carry an IPv4 address inside: mapped, 6to4, Teredo, NAT64.
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(str(inner))
    return address.is_global and not address.is_multicast


def _slack_text(text: str) -> str:
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("```", "'''")
    )


def _iso(unix_ns: int) -> str:
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).isoformat(timespec="milliseconds")
