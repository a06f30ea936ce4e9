"""Notifications from end to end: real runs that fail, stall, alert and are stopped, and a receiver that is told."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard import Api
from runyard.errors import InvalidArgument, NotFound
from tests.integration.readback import readback, wait_until
from tests.integration.test_ends import training
from tests.integration.test_stops import PROGRAM
from tests.integration.yard import SHAPES, CallError, Yard
from tests.unit.monitor.receiver import Receiver, receiving

SECRET = "between us"
TOLD_WITHIN_S = 40.0
HEAD = """
import time
import runyard
run = runyard.init(entity="nico", project="ends")
run.log({"loss": 0.5})
"""
METADATA = "metadata.v1.MetadataService"


@pytest.fixture(scope="module", params=SHAPES)
def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    """A yard that may call receivers on this machine."""
    folder = tmp_path_factory.mktemp(f"told-{request.param}")
    with Yard(folder, request.param, settings=["notify.is_private_allowed=true"]) as yard:
        yield yard


def watch(yard: Yard, url: str, **settings: Any) -> None:
    """Makes the receiver a target of the project, and changes its other settings."""
    try:
        yard.call(f"{METADATA}/CreateProject", {"entity": "nico", "name": "ends"})
    except CallError as error:
        assert error.status == 409, error.body
    targets = [{"name": "ops", "url": url, "secret": SECRET}]
    project = {
        "path": "nico/ends",
        "settings": {"notificationTargets": targets, **settings},
    }
    reply = yard.call(f"{METADATA}/UpdateProject", {"project": project, "updateMask": "settings"})
    shown = reply["project"]["settings"]["notificationTargets"][0]
    assert (shown["url"], shown["secret"]) == (url, "***")


def wait_for(receiver: Receiver, event: str) -> dict[str, Any]:
    """Returns the message of the event; its signature must be right."""

    def found() -> list[Any]:
        return [one for one in receiver.deliveries if json.loads(one.body)["event"] == event]

    wait_until(lambda: bool(found()), TOLD_WITHIN_S, f"a notification of {event}")
    (delivery,) = found()
    time_part, mac = delivery.headers["X-Runyard-Signature"].split(",")
    signed = time_part.removeprefix("t=").encode() + b"." + delivery.body
    assert mac == "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert abs(time.time() - int(time_part.removeprefix("t="))) < 2 * TOLD_WITHIN_S
    return dict(json.loads(delivery.body))


def test_a_failed_run_is_told_of_and_so_is_its_alert(told: Yard, tmp_path: Path) -> None:
    """The alert and the failure arrive, signed, with the run and the traceback; both are listed as sent."""
    script = HEAD + 'run.alert("too hot", "92 °C", level="WARN")\nraise ValueError("worse")\n'
    with receiving() as receiver:
        watch(told, receiver.url)
        with training(told, tmp_path, script, "alerts") as one:
            one.wait_for_end()
            alert, failure = wait_for(receiver, "alert"), wait_for(receiver, "failed")
        assert (alert["title"], alert["text"], alert["level"]) == ("too hot", "92 °C", "warn")
        assert failure["run"]["path"] == alert["run"]["path"] == one.path
        assert (failure["state"], failure["cause"]) == ("failed", "unhandled_exception")
        assert "ValueError: worse" in failure["text"]

        def are_sent() -> bool:
            reply = told.call(f"{METADATA}/ListNotifications", {"projectPath": "nico/ends"})
            mine = [n for n in reply["notifications"] if n["runPath"] == one.path]
            assert SECRET not in json.dumps(reply)
            return [n["state"] for n in mine] == ["NOTIFICATION_STATE_SENT"] * 2

        wait_until(are_sent, TOLD_WITHIN_S, "both to be listed as sent")


def test_a_stalled_run_is_told_of_and_then_stopped(told: Yard, tmp_path: Path) -> None:
    """A run that beats without a new step is told of; a stop ends it, and each step of the stop is an event."""
    with receiving() as receiver, readback(told.grpc) as reader:
        watch(told, receiver.url, stallTimeout="10s")
        script = HEAD + "print('up', flush=True)\nfor _ in range(2400): time.sleep(0.05)\n"
        with training(told, tmp_path, script, "stalls") as one:
            one.wait_for("up")
            assert wait_for(receiver, "stalled")["run"]["path"] == one.path
            told.call(f"{METADATA}/RequestStop", {"runPath": one.path, "requestedBy": "ann"})
            one.wait_for_end(30)
            assert wait_for(receiver, "killed")["cause"] == "user_request"
        reader.wait_for_state(one.path, "KILLED", timeout_s=10)
        events = told.call(f"{METADATA}/ListRunEvents", {"runPath": one.path})["events"]
        kinds = [event["kind"].removeprefix("RUN_EVENT_KIND_") for event in events]
        steps = [kind for kind in kinds if kind.startswith("STOP_")]
        assert steps == ["STOP_REQUESTED", "STOP_ACKNOWLEDGED", "STOP_DRAINING"]
        states = [
            event["transition"]["to"].removeprefix("RUN_STATE_")
            for event in events
            if "transition" in event
        ]
        assert states[-3:] == ["RUNNING", "STOPPING", "KILLED"]


@pytest.mark.parametrize(
    "method",
    [
        f"{METADATA}/LeaseNotifications",
        f"{METADATA}/RenewMonitorReplica",
        "ingest.v1.IngestService/PurgeRuns",
        "files.v1.FilesService/PurgeRuns",
    ],
)
def test_calls_between_services_are_not_answered_over_http(told: Yard, method: str) -> None:
    """They are as unknown as methods that do not exist."""
    with pytest.raises(CallError) as refused:
        told.call(method)
    assert refused.value.status == 404
    assert refused.value.body["code"] == "unimplemented"


def command(yard: Yard, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs `runyard projects …` to its end."""
    return subprocess.run(
        [PROGRAM, "projects", *words], env=yard.environment(Path("/nowhere")), capture_output=True,
        text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_settings_from_the_command_line_and_from_python(told: Yard) -> None:
    """What one sets the other reads; what is not named stays, a secret too; wrong values are named."""
    told.call(f"{METADATA}/CreateProject", {"entity": "nico", "name": "set"})
    words = ["--crash-timeout", "120s", "--stall-timeout", "30m", "--end-rule", "primary"]
    target = ["--notify", "ops=https://example.com/a", "--secret", SECRET, "--events", "failed"]
    done = command(told, "settings", "nico/set", *words, *target)
    assert done.returncode == 0, done.stderr
    assert "crash_timeout: 120 s" in done.stdout
    assert SECRET not in done.stdout
    done = command(told, "settings", "nico/set", "--notify", "ops=https://example.com/b")
    assert done.returncode == 0, done.stderr
    with Api(told.base_url) as api:
        project = api.project("nico/set")
        settings = project.update_settings(crash_timeout_s=None, trash_window_s=60)
        assert settings == project.settings
        times = (settings.crash_timeout_s, settings.stall_timeout_s, settings.trash_window_s)
        assert (times, settings.end_rule) == ((None, 1800.0, 60.0), "primary")
        (ops,) = settings.notification_targets
        assert (ops.url, ops.secret, ops.events) == ("https://example.com/b", "***", ("failed",))
        assert list(project.notifications()) == []
        with pytest.raises(InvalidArgument, match="crash_timeout is 2 s"):
            project.update_settings(crash_timeout_s=2)
        with pytest.raises(NotFound):
            api.project("nico/never")
    for wrong in (["--notify", "x"], ["--no-notify", "who"], ["--secret", "alone"]):
        done = command(told, "settings", "nico/set", *wrong)
        assert done.returncode == 1 and done.stderr.startswith("runyard: "), done.stderr
    assert command(told, "settings", "nico/set", "--crash-timeout", "soon").returncode == 2
    assert command(told, "notifications", "nico/set").stdout == "no notifications\n"
