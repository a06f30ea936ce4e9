"""The command `runyard stop`: asks a run to stop, and tells each step until it has."""

from __future__ import annotations

import argparse
import json
import re
import time
from typing import Any

from runyard.paths import run_path
from runyard.settings import Settings, resolve

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_STOP_KINDS = {
    "stop_requested": "requested",
    "stop_acknowledged": "acknowledged",
    "stop_draining": "draining",
    "stop_forced": "forced",
}


def add_commands(commands: Any, reading: argparse.ArgumentParser) -> None:
    """Adds `runyard stop`."""
    stop = commands.add_parser(
        "stop",
        parents=[reading],
        help="ask a run to stop",
        description=(
            "Asks a run to stop: its script is told (run.on_stop, run.should_stop, else as by Ctrl-C), may save what it "
            "needs within the grace time, then gets SIGTERM and, with --kill, SIGKILL 10 s later."
        ),
    )
    stop.add_argument("path", metavar="RUN", help="entity/project/run_id")
    stop.add_argument(
        "--grace",
        type=_grace_s,
        metavar="TIME",
        help="time before SIGTERM: 90, 60s, 5m (default 60s)",
    )
    stop.add_argument("--kill", action="store_true", help="let SIGKILL follow 10 s after SIGTERM")
    stop.add_argument("--reason", default="", help="why; shown to all")
    stop.add_argument(
        "--wait", action="store_true", help="print each step, and return when the run has ended"
    )
    stop.set_defaults(call=_stop)


def _stop(options: argparse.Namespace) -> int:
    from runyard import rpc, rpc_lives, rpc_stops, rpc_trash

    settings = resolve({"base_url": options.base_url}, Settings())
    connection = rpc.Connection(settings.base_url, settings.api_key)
    path = run_path(options.path, settings)
    try:
        before = max((event.number for event in rpc_lives.list_events(connection, path)), default=0)
        state = rpc_stops.request_stop(
            connection,
            path,
            grace_s=options.grace,
            may_kill=options.kill,
            reason=options.reason,
            requested_by=rpc_trash.who(),
        )
        if options.wait:
            state = _watch(connection, path, after=before, is_json=options.json)
    finally:
        connection.close()
    if options.json:
        fields = {"path": state.path, "state": state.state, "stage": state.stage}
        print(json.dumps({**fields, "exit_code": state.exit_code}))
    elif not options.wait:
        print(f"{state.path}: {state.state}, stop {state.stage or 'requested'}")
    return 0


def _watch(connection: Any, path: str, *, after: int, is_json: bool) -> Any:
    """Prints what happens to the run until it has ended; returns its state. The request stays when this is interrupted."""
    from runyard import rpc_lives, rpc_stops

    while True:
        state = rpc_stops.stop_state(connection, path)  # before the events: none is missed
        for event in rpc_lives.list_events(connection, path):
            if event.number <= after:
                continue
            after = event.number
            word = _STOP_KINDS.get(event.kind, event.to_state)
            if word and not is_json:
                print(_line(word, event), flush=True)
        if not state.is_live:
            return state
        time.sleep(rpc_stops.POLL_INTERVAL_S)


def _line(word: str, event: Any) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(event.time_s))
    by = f"by {event.actor}" if event.actor else ""
    evidence = " ".join(event.evidence.split())
    return f"{moment}  {word:<12}  {by}{': ' if by and evidence else ''}{evidence[:300]}".rstrip()


def _grace_s(text: str) -> float:
    from runyard.rpc_stops import GRACE_MAX_S

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    grace_s = float(match.group(1)) * _UNITS_S[match.group(2)] if match else -1.0
    if not 0 <= grace_s <= GRACE_MAX_S:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time of at most a day; it looks like 90, 60s, 5m or 1h"
        )
    return grace_s
