"""What a process is told: a TOML file, the environment and flags, the later ones winning, checked as a whole before anything starts."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from runyard_server.domain.addresses import check_listen_address, parse_address
from runyard_server.process.config_reader import Reader
from runyard_server.process.modules import (
    TargetProblem,
    order_modules,
    remote_services,
    select_targets,
)

ENVIRONMENT_PREFIX: Final = "RUNYARD_SERVER_"
LOG_FORMATS: Final = ("auto", "json", "console")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """What the process is and where it listens."""

    targets: tuple[str, ...] = ("all",)
    """Services to run here: "all", or names as --list-targets shows them."""
    data_dir: str = ".runyard"
    """Folder that holds everything that the process keeps on disk; one process at a time."""
    http: str = "127.0.0.1:8080"
    """Where HTTP is answered: loopback only. Port 0 takes any free one."""
    grpc: str = "127.0.0.1:8081"
    """Where gRPC is answered: loopback only. Port 0 takes any free one."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_format: str = "auto"
    """json, console, or auto: console on a terminal, else json."""


@dataclass(frozen=True, slots=True)
class AddressesConfig:
    """Where services answer that do not run in this process, as HOST:PORT of their gRPC listeners."""

    ingest: str = ""
    """The write path."""
    query: str = ""
    """Reads."""
    metadata: str = ""
    """Runs."""
    monitor: str = ""
    """Liveness."""
    files: str = ""
    """Files."""

    def known(self) -> dict[str, str]:
        """Returns the addresses that are set, by service."""
        names = ("ingest", "query", "metadata", "monitor", "files")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


class ConfigProblems(Exception):
    """The configuration cannot be used; holds all that is wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"the configuration has {count}:\n{lines}")
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The whole configuration, checked."""

    process: ProcessConfig
    targets: tuple[str, ...]
    addresses: AddressesConfig
    effective: Mapping[str, Mapping[str, Any]]
    """All values in force by section, secrets hidden."""
    explicit_keys: frozenset[str]
    """Keys that a source set; the others have their defaults."""
    _sections: Mapping[str, object]

    def section(self, name: str, kind: type[_T]) -> _T:
        """Returns the configuration of one section."""
        found = self._sections[name]
        assert isinstance(found, kind), f"section {name} is a {type(found).__name__}"
        return found


OWN_SECTIONS: Final[Mapping[str, type]] = {"process": ProcessConfig, "addresses": AddressesConfig}


def load(
    sections: Mapping[str, type],
    *,
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, str],
) -> ServerConfig:
    """Returns the configuration; raises ConfigProblems with everything that is wrong.

    `sections` are those of the services and stores; the process's own are added. `flags` are keys
    (such as process.http) with their texts.
    """
    reader = Reader({**OWN_SECTIONS, **sections})
    if file is not None:
        _take_file(reader, file)
    _take_environment(reader, environment)
    for key, value in flags.items():
        reader.take(key, value, "flag")
    built = {
        name: _build(reader, name, kind) for name, kind in {**OWN_SECTIONS, **sections}.items()
    }
    process, addresses = built["process"], built["addresses"]
    targets: tuple[str, ...] = ()
    if isinstance(process, ProcessConfig) and isinstance(addresses, AddressesConfig):
        targets = _check_process(reader, process)
        _check_addresses(reader, addresses, targets)
    _check_stores(reader, targets)
    if reader.problems:
        raise ConfigProblems(reader.problems)
    assert isinstance(process, ProcessConfig) and isinstance(addresses, AddressesConfig)
    return ServerConfig(
        process=process,
        targets=targets,
        addresses=addresses,
        effective=reader.effective(),
        explicit_keys=frozenset(key for key in reader.settings if reader.is_set(key)),
        _sections=built,
    )


def environment() -> Mapping[str, str]:
    """Returns the process's environment; the only place that looks at it."""
    return dict(os.environ)


def environment_key(key: str) -> str:
    """Returns the environment variable that sets a key: RUNYARD_SERVER_PROCESS_HTTP for process.http."""
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "_")


def _take_file(reader: Reader, file: Path) -> None:
    try:
        table = tomllib.loads(file.read_text())
    except OSError as error:
        reader.problems.append(f"{file}: cannot be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reader.problems.append(f"{file}: is not TOML: {error}")
    else:
        reader.take_table(table, str(file))


def _take_environment(reader: Reader, variables: Mapping[str, str]) -> None:
    keys = {environment_key(key): key for key in reader.settings}
    for name, value in sorted(variables.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            reader.take(keys.get(name, name), value, "environment")


def _build(reader: Reader, name: str, kind: type) -> object:
    try:
        return reader.build(name, kind)
    except (ValueError, AssertionError) as error:
        # A section's own check of its fields together, in its __post_init__.
        reader.problems.append(f"[{name}]: {error}")
        return None


def _check_process(reader: Reader, process: ProcessConfig) -> tuple[str, ...]:
    listens = {}
    for key in ("http", "grpc"):
        try:
            listens[key] = check_listen_address(getattr(process, key))
        except ValueError as error:
            reader.problems.append(f"process.{key}: {error}")
    if len(listens) == 2 and listens["http"] == listens["grpc"] and listens["http"].port:
        reader.problems.append(
            f"process.http and process.grpc are both {process.http}: give each its own port"
        )
    if process.log_level not in LOG_LEVELS:
        reader.problems.append(_not_one_of("process.log_level", process.log_level, LOG_LEVELS))
    if process.log_format not in LOG_FORMATS:
        reader.problems.append(_not_one_of("process.log_format", process.log_format, LOG_FORMATS))
    if not process.data_dir:
        reader.problems.append("process.data_dir is empty: name a folder")
    try:
        targets = select_targets(process.targets)
        order_modules(targets)
    except TargetProblem as error:
        reader.problems.append(f"process.targets: {error}")
        return ()
    return targets


def _check_addresses(reader: Reader, addresses: AddressesConfig, targets: Sequence[str]) -> None:
    known = addresses.known()
    given = {f"addresses.{service}": address for service, address in known.items()}
    for key in ("gateway.grpc_address", "monitor.address"):
        if told := _values(reader)(key):
            given[key] = told
    for key, address in given.items():
        try:
            parse_address(address)
        except ValueError as error:
            reader.problems.append(f"{key}: {error}")
    for service in remote_services(targets):
        if service not in known:
            reader.problems.append(
                f"addresses.{service} is missing: {', '.join(targets)} asks {service}, which does not run in this "
                f"process; give its HOST:PORT, or add the target {service}"
            )


def _check_stores(reader: Reader, targets: Sequence[str]) -> None:
    value = _values(reader)
    needing = [name for name in targets if "clickhouse" in order_modules([name])]
    sharing = [name for name in ("ingest", "query", "metadata") if name not in targets]
    if needing and sharing and not value("clickhouse.url"):
        reader.problems.append(
            f"clickhouse.url is missing: {', '.join(needing)} must share one ClickHouse with {', '.join(sharing)}, and the "
            "embedded one serves one process only; give a server's URL, or run these targets together"
        )
    keys = [key for key in ("s3.access_key", "s3.secret_key") if not value(key)]
    if value("s3.endpoint") and keys:
        reader.problems.append(f"s3.endpoint is given without {' and '.join(keys)}")
    given = [key for key in ("s3.access_key", "s3.secret_key") if value(key)]
    if given and not value("s3.endpoint"):
        reader.problems.append(
            f"{' and '.join(given)} given without s3.endpoint: the local S3 server draws its own keys"
        )
    if value("edge.deadline_default", 0.0) > value("edge.deadline_max", 0.0):
        reader.problems.append("edge.deadline_default is above edge.deadline_max")


def _values(reader: Reader) -> Callable[..., Any]:
    def value(key: str, default: Any = "") -> Any:
        return reader.value(key) if key in reader.settings else default

    return value


def _not_one_of(key: str, value: str, allowed: Sequence[str]) -> str:
    return f"{key} is {value!r}: choose from {', '.join(allowed)}"
