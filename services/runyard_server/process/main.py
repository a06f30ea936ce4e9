"""The command runyard-server: one program, of which a process runs all services or some."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from runyard_server import telemetry
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import StartRefused
from runyard_server.process.config import ConfigProblems, ServerConfig, environment, load
from runyard_server.process.data_folder import DataFolder
from runyard_server.process.lifecycle import Lifecycle, LifecycleConfig, PartFailed, describe
from runyard_server.process.modules import ALL, MODULES

log = logging.getLogger("runyard.process")

EXIT_FAILED: Final = 1
EXIT_MISUSED: Final = 2
SAME_SIGNAL_S: Final = 0.3
"""A signal this soon after the first is the same one come twice: the terminal's and a parent's."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and ends the process with its exit code.

    The process ends by os._exit once everything is closed and flushed: embedded ClickHouse keeps threads that do not
    take part in an orderly end of the interpreter.
    """
    try:
        code = run_command(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else EXIT_MISUSED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after an orderly stop, 1 if something failed, 2 if the command or configuration is wrong."""
    options = _parse(arguments)
    if options.list_targets:
        _print_targets()
        return 0
    # The services are imported only when one is to run: --help and --list-targets answer at once.
    from runyard_server.process import wiring
    from runyard_server.process.allocator import limit_allocator

    limit_allocator()

    try:
        config = load(
            wiring.SECTIONS, file=options.config, environment=environment(), flags=_flags(options)
        )
    except ConfigProblems as error:
        print(f"runyard-server: {error}", file=sys.stderr)
        return EXIT_MISUSED
    if options.print_config:
        print(json.dumps(config.effective, indent=2))
    if options.verify_config:
        print(f"the configuration is good: targets {', '.join(config.targets)}")
    if options.print_config or options.verify_config:
        return 0
    process = config.process
    is_json = {"json": True, "console": False}.get(process.log_format)
    telemetry.configure_logging(level=process.log_level, is_json=is_json)
    return _serve(config)


def _serve(config: ServerConfig) -> int:
    from runyard_server.process import wiring

    folder = DataFolder(Path(config.process.data_dir).absolute())
    try:
        folder.acquire()
        with asyncio.Runner() as runner:
            runner.run(_run(config, folder.path, wiring))
    except StartRefused as error:
        return _fail("start", str(error))
    except PartFailed as error:
        return _fail(error.part, error.reason)
    except Exception as error:
        log.exception(telemetry.EVENT_PROCESS_FAILED, extra={"fields": {"part": "process"}})
        return _fail("process", describe(error))
    finally:
        folder.release()
    log.info(telemetry.EVENT_PROCESS_STOPPED, extra={"fields": {"pid": os.getpid()}})
    return 0


async def _run(config: ServerConfig, folder: Path, wiring: Any) -> None:
    stop = asyncio.Event()
    _catch_signals(stop)
    clock = SystemClock()
    assembly = await wiring.assemble(
        config,
        folder=folder,
        clock=clock,
        version=importlib.metadata.version("runyard-server"),
        environment=environment(),
    )
    await Lifecycle(assembly, config.section("lifecycle", LifecycleConfig)).run(stop)


def _catch_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    first_s = 0.0

    def on_signal(number: signal.Signals) -> None:
        nonlocal first_s
        if stop.is_set():
            if loop.time() - first_s < SAME_SIGNAL_S:
                return
            fields = {"signal": number.name, "hint": "a second signal ends at once"}
            log.warning(telemetry.EVENT_PROCESS_STOPPED, extra={"fields": fields})
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + number)
        log.info(telemetry.EVENT_PROCESS_STOPPING, extra={"fields": {"signal": number.name}})
        first_s = loop.time()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def _fail(part: str, reason: str) -> int:
    """Says why the process ends, as its last log line, and returns its exit code."""
    log.error(telemetry.EVENT_PROCESS_FAILED, extra={"fields": {"part": part, "reason": reason}})
    return EXIT_FAILED


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="runyard-server",
        description="The runyard services: all in one process, or some of them.",
        epilog="Every key of the configuration can also be set by the environment: process.http by "
        "RUNYARD_SERVER_PROCESS_HTTP. A flag beats the environment, the environment beats the file.",
    )
    version = importlib.metadata.version("runyard-server")
    parser.add_argument("--version", action="version", version=f"runyard-server {version}")
    parser.add_argument(
        "--target", metavar="NAMES", help=f"services to run, by commas (default: {ALL})"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder of all data (default: .runyard)")
    parser.add_argument(
        "--http", metavar="HOST:PORT", help="HTTP listener (default: 127.0.0.1:8080)"
    )
    parser.add_argument(
        "--grpc", metavar="HOST:PORT", help="gRPC listener (default: 127.0.0.1:8081)"
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="one key of the configuration, such as ingest.flush_interval=100ms; may be repeated",
    )
    parser.add_argument("--list-targets", action="store_true", help="print the services and end")
    parser.add_argument(
        "--verify-config", action="store_true", help="check the configuration and end"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print all values in force and end"
    )
    options = parser.parse_args(arguments)
    for setting in options.set:
        if "=" not in setting:
            parser.error(f"--set {setting!r} is not of the form KEY=VALUE")
    return options


def _flags(options: argparse.Namespace) -> Mapping[str, str]:
    flags: dict[str, str] = dict(setting.split("=", 1) for setting in options.set)
    named = {
        "process.targets": options.target,
        "process.data_dir": options.data_dir,
        "process.http": options.http,
        "process.grpc": options.grpc,
    }
    flags.update({key: value for key, value in named.items() if value is not None})
    return flags


def _print_targets() -> None:
    print(f"{ALL:<10} every service below, in one process")
    for module in MODULES:
        if module.is_target:
            print(f"{module.name:<10} {module.summary}")


if __name__ == "__main__":
    main()
