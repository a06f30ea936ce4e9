"""Notifications go out to a real receiver on this machine: signed, repeated, given up, and never where they must not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.events import AlertLevel, RunEvent, RunEventKind
from runyard_server.domain.notifications import (
    NotificationReport,
    NotificationState,
    OutgoingNotice,
)
from runyard_server.domain.projects import NotificationFormat, NotificationTarget
from runyard_server.domain.run import RunState, RunTransition, TransitionCause
from runyard_server.monitor import notify, webhooks
from runyard_server.monitor.notify import Notifier, NotifyConfig
from tests.ports import free_port
from tests.stores import ManualClock
from tests.unit.monitor.receiver import Receiver, receiving

NS = 1_000_000_000
TRANSITION = RunTransition(
    RunState.RUNNING,
    RunState.FAILED,
    TransitionCause.UNHANDLED_EXCEPTION,
    "ValueError: <bad> & worse",
    "writer 1 (main)",
    1_700_000_000 * NS,
    2,
)


def make_notice(url: str, **changes: object) -> OutgoingNotice:
    notice = OutgoingNotice(
        number=7,
        project_path="ann/p",
        run_path="ann/p/x y",
        run_display_name="calm-river-1",
        event_name="failed",
        event=RunEvent.of(TRANSITION),
        target=NotificationTarget("ops", url, secret="s3cret"),
        try_count=0,
    )
    return replace(notice, **changes)  # type: ignore[arg-type]  # members of OutgoingNotice


class Desk:
    """What metadata would be asked: notices to send, and the reports that came back."""

    def __init__(self, *notices: OutgoingNotice) -> None:
        self.notices = list(notices)
        self.reports: list[NotificationReport] = []

    async def lease_notifications(self, *, limit: int, lease_s: float) -> list[OutgoingNotice]:
        leased, self.notices = self.notices[:limit], self.notices[limit:]
        return leased

    async def report_notifications(self, reports: Sequence[NotificationReport]) -> None:
        self.reports.extend(reports)


async def send(notice: OutgoingNotice, **config: object) -> NotificationReport:
    """Sends one notice once and returns what is reported of it."""
    desk = Desk(notice)
    options = {"is_private_allowed": True, "call_timeout_s": 5.0, **config}
    notifier = Notifier(
        NotifyConfig(**options),  # type: ignore[arg-type]  # members of NotifyConfig
        source=desk,
        clock=ManualClock(),
        base_url=lambda: "http://yard.example",
        version="1.2.3",
    )
    assert await notifier.send_due() == 1
    (report,) = desk.reports
    return report


@pytest.fixture
def receiver() -> Receiver:
    """A receiver that takes everything."""
    with receiving() as one:
        yield one  # type: ignore[misc]  # a fixture that cleans up


async def test_a_signed_message_arrives(receiver: Receiver) -> None:
    """The body tells what happened with a link; its signature verifies by the documented rule, and no other secret's does."""
    report = await send(make_notice(receiver.url))
    assert NotificationReport(7, NotificationState.SENT) == report
    (delivery,) = receiver.deliveries
    assert delivery.path == "/hook?a=1"
    message = json.loads(delivery.body)
    assert {
        "event": "failed",
        "state": "failed",
        "state_before": "running",
        "cause": "unhandled_exception",
        "text": "ValueError: <bad> & worse",
        "project": "ann/p",
        "run": {
            "path": "ann/p/x y",
            "name": "calm-river-1",
            "url": "http://yard.example/ann/p/runs/x%20y",
        },
        "time": "2023-11-14T22:13:20.000+00:00",
    }.items() <= message.items()
    fields = dict(
        part.split("=", 1) for part in delivery.headers[webhooks.SIGNATURE_HEADER].split(",")
    )
    signed = fields["t"].encode() + b"." + delivery.body
    assert fields["v1"] == hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert fields["v1"] != hmac.new(b"other", signed, hashlib.sha256).hexdigest()
    assert (
        delivery.headers[webhooks.DELIVERY_HEADER],
        delivery.headers[webhooks.EVENT_HEADER],
    ) == ("7", "failed")


async def test_slack_gets_what_it_takes(receiver: Receiver) -> None:
    """A Slack target gets text and blocks, with what Slack reads as markup escaped, and no signature without a secret."""
    target = NotificationTarget("chat", receiver.url, NotificationFormat.SLACK)
    await send(make_notice(receiver.url, target=target))
    (delivery,) = receiver.deliveries
    message = json.loads(delivery.body)
    assert message["text"] == "calm-river-1: failed (unhandled exception)"
    section = message["blocks"][0]["text"]["text"]
    assert "ValueError: &lt;bad&gt; &amp; worse" in section
    assert "<http://yard.example/ann/p/runs/x%20y|calm-river-1>" in section
    assert webhooks.SIGNATURE_HEADER not in delivery.headers


async def test_an_alert_has_its_own_title(receiver: Receiver) -> None:
    """Title, text and level are those that the script gave."""
    event = RunEvent(
        RunEventKind.ALERT, "at step 7", "writer 1", 0, 1, title="NaN", level=AlertLevel.ERROR
    )
    await send(make_notice(receiver.url, event=event, event_name="alert"))
    message = json.loads(receiver.deliveries[0].body)
    assert (message["title"], message["text"], message["level"]) == ("NaN", "at step 7", "error")


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_what_may_pass_later_is_tried_again(receiver: Receiver, status: int) -> None:
    """A status that may heal puts the next try off, longer each time; the last try gives up and says so."""
    receiver.answers = [(status, {}, b"busy")]
    first = await send(make_notice(receiver.url))
    assert (NotificationState.PENDING, f"HTTP {status}: busy") == (first.state, first.error)
    later = await send(make_notice(receiver.url, try_count=5))
    assert first.next_try_time_unix_ns and later.next_try_time_unix_ns
    assert later.next_try_time_unix_ns > first.next_try_time_unix_ns
    last = await send(make_notice(receiver.url, try_count=11))
    assert NotificationState.DEAD is last.state
    assert "given up after 12 tries; HTTP" in last.error


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_what_will_never_pass_is_given_up(receiver: Receiver, status: int) -> None:
    """A status that another try cannot change ends it."""
    receiver.answers = [(status, {}, b"no such hook")]
    report = await send(make_notice(receiver.url))
    assert (NotificationState.DEAD, f"HTTP {status}: no such hook") == (report.state, report.error)


async def test_redirects_are_not_followed(receiver: Receiver) -> None:
    """A receiver that points elsewhere is refused: nothing is sent there."""
    with receiving() as other:
        receiver.answers = [(302, {"Location": other.url}, b"")]
        report = await send(make_notice(receiver.url))
        assert NotificationState.DEAD is report.state
        assert other.deliveries == []


async def test_a_huge_answer_is_not_read(receiver: Receiver) -> None:
    """Of an answer of 64 MiB a few words are kept."""
    receiver.answers = [(500, {}, b"x" * (64 << 20))]
    report = await send(make_notice(receiver.url))
    assert len(report.error) <= 500
    assert NotificationState.PENDING is report.state


async def test_a_mute_receiver_is_given_up_in_time(receiver: Receiver) -> None:
    """One that never answers costs the time-out, and is tried again."""
    receiver.is_mute = True
    report = await send(make_notice(receiver.url), call_timeout_s=0.2)
    assert NotificationState.PENDING is report.state
    assert "Timeout" in report.error or "timed out" in report.error


async def test_an_answer_that_drips_is_cut_off() -> None:
    """A receiver that sends a byte now and then, for ever, holds no thread: the whole call has a deadline."""
    ended = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not ended.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        request = webhooks.make_request(
            make_notice(f"http://127.0.0.1:{listener.getsockname()[1]}/"),
            base_url="",
            now_unix_s=0,
            agent="test",
        )
        call = asyncio.to_thread(notify.post, request, "127.0.0.1", timeout_s=0.4)
        try:
            with pytest.raises(TimeoutError, match="no whole answer"):
                await asyncio.wait_for(call, 10)
        finally:
            ended.set()
            thread.join(10)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "..", "x..y"])
async def test_a_name_that_cannot_be_is_given_up(host: str) -> None:
    """Such a target ends its notification, not the monitor."""
    report = await send(make_notice(f"http://{host}/"))
    assert NotificationState.DEAD is report.state
    assert "cannot be called" in report.error


async def test_a_path_of_any_letters_is_escaped(receiver: Receiver) -> None:
    """An address as a person types it is called, and not taken for a broken request."""
    await send(make_notice(f"http://127.0.0.1:{receiver.port}/h\u00f6ok x?a=\u00fc%20"))
    assert [one.path for one in receiver.deliveries] == ["/h%C3%B6ok%20x?a=%C3%BC%20"]


async def test_nobody_there_is_tried_again() -> None:
    """A port where nothing listens, and a name that does not exist, may be there later."""
    for url in (f"http://127.0.0.1:{free_port()}/", "http://no-such-name.invalid/"):
        report = await send(make_notice(url))
        assert NotificationState.PENDING is report.state, report


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433"])
async def test_private_addresses_are_not_called(receiver: Receiver, host: str) -> None:
    """Unless configured, what has no public address gets nothing, however the address is written."""
    url = f"http://{host}:{receiver.port}/"
    report = await send(make_notice(url), is_private_allowed=False)
    assert receiver.deliveries == []
    if report.state is NotificationState.DEAD:  # else the system did not take it for an address
        assert "which is not public" in report.error


async def test_a_target_that_is_gone_is_told_of() -> None:
    """A notification whose target was removed is given up."""
    report = await send(make_notice(""))
    assert NotificationState.DEAD is report.state
    assert "no target of this name" in report.error


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "64:ff9b::7f00:1", "2001:db8::1",
    ],
)  # fmt: skip
def test_these_addresses_are_not_public(address: str) -> None:
    """Loopback, private, link-local, shared, multicast and documentation addresses, and those that carry one inside."""
    assert webhooks.refused_address(["93.184.216.34", address]) == address


def test_public_addresses_are() -> None:
    """Addresses of the public network are called."""
    assert webhooks.refused_address(["93.184.216.34", "2606:4700::1111"]) == ""


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_pauses_grow_to_a_limit(try_count: int, draw: float) -> None:
    """Between half and all of twice the last, never above the longest, never nothing."""
    pause = webhooks.pause_s(try_count, first_s=5.0, most_s=600.0, draw=draw)
    assert 2.5 <= pause <= 600.0


@given(st.text(), st.text(), st.text())
def test_any_text_makes_a_message(name: str, title: str, evidence: str) -> None:
    """Whatever a run is called and says, both messages can be made, and Slack's stays within its limit."""
    event = RunEvent(RunEventKind.ALERT, evidence, "w", 0, 1, title=title, level=AlertLevel.INFO)
    notice = make_notice("http://x/", run_display_name=name, event=event)
    assert json.loads(json.dumps(webhooks.json_message(notice, "")))
    section = webhooks.slack_message(notice, "")["blocks"][0]["text"]["text"]
    assert len(section) <= 3_000
