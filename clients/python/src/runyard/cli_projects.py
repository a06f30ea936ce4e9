"""The commands `runyard projects settings` and `runyard projects notifications`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import time
from typing import Any

from runyard.errors import UsageError

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_TIMES = ("crash_timeout_s", "stall_timeout_s", "trash_window_s")


def add_commands(commands: Any, reading: argparse.ArgumentParser) -> None:
    """Adds `runyard projects`."""
    projects = commands.add_parser("projects", help="look after projects").add_subparsers(
        required=True, metavar="COMMAND"
    )
    settings = projects.add_parser(
        "settings",
        parents=[reading],
        help="show or change the settings of a project",
        description="Shows the settings of a project, after the changes that the options ask for. "
        "A TIME looks like 90, 120s, 30m, 2h or 7d; 'default' goes back to the server's.",
    )
    settings.add_argument("project", metavar="ENTITY/PROJECT")
    times = {
        "--crash-timeout": "silence after which a run counts as crashed",
        "--stall-timeout": "time without a new step that flags a run as stalled; 0: never",
        "--trash-window": "how long deleted runs can be restored",
    }
    for option, text in times.items():
        settings.add_argument(option, type=_time_s, metavar="TIME", help=text)
    settings.add_argument(
        "--straggler-steps", type=int, metavar="N", help="0: the server's default"
    )
    settings.add_argument(
        "--end-rule", choices=("last", "primary"), help="which writers' end is the run's"
    )
    settings.add_argument(
        "--notify", action="append", default=[], metavar="NAME=URL",
        help="tell this receiver; of the same name, its address changes; repeatable",
    )  # fmt: skip
    settings.add_argument(
        "--format", choices=("json", "slack"), help="of the receivers that --notify names"
    )
    settings.add_argument(
        "--events", metavar="LIST", help="what these are told, with commas: failed,finished,alert"
    )
    settings.add_argument("--secret", help="key of the signature of what these are sent")
    settings.add_argument(
        "--no-notify", action="append", default=[], metavar="NAME", help="take this receiver away"
    )
    settings.set_defaults(call=_settings)
    notices = projects.add_parser(
        "notifications", parents=[reading], help="list notifications and what became of them"
    )
    notices.add_argument("project", metavar="ENTITY/PROJECT")
    notices.add_argument(
        "--state", action="append", default=[],
        choices=("pending", "sent", "dead", "suppressed"), help="only this state; repeatable",
    )  # fmt: skip
    notices.add_argument("--limit", type=int, default=50, help="most of them (default 50)")
    notices.set_defaults(call=_notifications)


def _settings(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        project = api.project(options.project)
        changes = _changes(options, project.settings)
        settings = project.update_settings(**changes) if changes else project.settings
    fields = dataclasses.asdict(settings)
    if options.json:
        print(json.dumps(fields, ensure_ascii=False))
        return 0
    targets = fields.pop("notification_targets")
    for name, value in fields.items():
        is_default = value is None or (name == "straggler_steps" and not value)
        shown = f"{value:g} s" if name in _TIMES and not is_default else value
        print(
            f"{name.removesuffix('_s') if name in _TIMES else name}: {'default' if is_default else shown}"
        )
    for target in targets:
        events = ",".join(target["events"]) or "failed,crashed,stalled,killed,alert"
        notes = [target["format"], "signed" if target["secret"] else "not signed", events]
        print(f"notify {target['name']}: {target['url']} ({'; '.join(notes)})")
    return 0


def _changes(options: argparse.Namespace, before: Any) -> dict[str, Any]:
    """Returns the members to change; raises UsageError for receivers that cannot be meant."""
    changes: dict[str, Any] = {}
    for name in ("crash_timeout", "stall_timeout", "trash_window"):
        value = getattr(options, name)
        if value is not None:
            changes[name + "_s"] = None if value < 0 else value
    for name in ("straggler_steps", "end_rule"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    if (changes.get("straggler_steps") or 0) < 0:
        raise UsageError(f"--straggler-steps {options.straggler_steps} is below 0")
    if not options.notify and (options.format or options.events or options.secret is not None):
        raise UsageError("--format, --events and --secret are of receivers: name one with --notify")
    if options.notify or options.no_notify:
        changes["notification_targets"] = _targets(options, before.notification_targets)
    return changes


def _targets(options: argparse.Namespace, before: Any) -> tuple[Any, ...]:
    from runyard.rpc_projects import NotificationTarget

    targets = {target.name: target for target in before}
    for name in options.no_notify:
        if targets.pop(name, None) is None:
            known = ", ".join(repr(one) for one in targets) or "none"
            raise UsageError(f"the project has no receiver {name!r}; it has {known}")
    for text in options.notify:
        name, equals, url = text.partition("=")
        if not (name and equals and url):
            raise UsageError(f"--notify {text!r} is not NAME=URL")
        given: dict[str, Any] = {"url": url}
        if options.format:
            given["format"] = options.format
        if options.events is not None:
            given["events"] = tuple(filter(None, options.events.split(",")))
        if options.secret is not None:
            given["secret"] = options.secret
        targets[name] = dataclasses.replace(
            targets.get(name, NotificationTarget(name, url)), **given
        )
    return tuple(targets.values())


def _notifications(options: argparse.Namespace) -> int:
    import itertools

    from runyard.api import Api

    if options.limit < 1:
        raise UsageError(f"--limit {options.limit} is not at least 1")
    with Api(options.base_url) as api:
        found = api.project(options.project).notifications(states=options.state)
        notices = list(itertools.islice(found, options.limit))
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in notices], ensure_ascii=False))
        return 0
    if not notices:
        print("no notifications")
    for one in notices:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.create_time_s))
        error = f": {one.last_error}" if one.last_error else ""
        print(f"{moment}  {one.state:<10}  {one.event:<9}  {one.run_path} -> {one.target}{error}")
    return 0


def _time_s(text: str) -> float:
    """Returns the seconds, -1 for the server's default."""
    if text == "default":
        return -1.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; it looks like 90, 120s, 30m, 2h or 7d, or is 'default'"
        )
    return float(match.group(1)) * _UNITS_S[match.group(2)]
