"""Configuration: all problems at once, the order of the sources, round trip of units."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.process.config import ConfigProblems, ServerConfig, environment_key, load
from runyard_server.process.config_reader import (
    HIDDEN,
    format_duration,
    format_size,
    hide_password,
    parse_duration_s,
    parse_size_bytes,
)


@dataclass(frozen=True, slots=True)
class Shed:
    """A section inside a section."""

    tools_max: int = 3
    lock_limit_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Yard:
    """A section with one field of each kind."""

    flush_interval_s: float = 0.2
    block_bytes_max: int = 8 * 1024 * 1024
    rows_max: int = 400_000
    ratio: float = 0.5
    is_strict: bool = True
    name: str = "yard"
    labels: tuple[str, ...] = ("a",)
    limit_s: float | None = None
    secret_key: str = "hunter2"
    url: str = "http://user:pass@host:1/db"
    shed: Shed = field(default_factory=Shed)


SECTIONS: dict[str, type] = {"yard": Yard}


def load_text(
    tmp_path: Path, text: str, environment: dict[str, str] | None = None, **flags: str
) -> ServerConfig:
    file = tmp_path / "server.toml"
    file.write_text(text)
    return load(SECTIONS, file=file, environment=environment or {}, flags=flags)


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    """One start shows every mistake, each with its source, key and what to write instead."""
    text = """
[proces]
http = "x"
[process]
http = "0.0.0.0:80"
grpc = "localhost"
log_level = "loud"
targets = ["querry"]
[yard]
flush_interval = 5
block_bytes_max = "8MB"
rows_max = "many"
is_strict = "yes"
labels = [1]
flush_intervall = "1s"
"""
    with pytest.raises(ConfigProblems) as caught:
        load_text(tmp_path, text, {"RUNYARD_SERVER_YARD_NAMES": "x", "PATH": "/bin"})
    listed = "\n".join(caught.value.problems)
    for part in (
        "unknown section [proces]; did you mean process?",
        "process.http: '0.0.0.0:80' is not a loopback address",
        "API keys come later",
        "process.grpc: 'localhost' is not of the form HOST:PORT",
        "process.log_level is 'loud': choose from debug, info, warning, error",
        "unknown target 'querry'",
        "yard.flush_interval is 5 without a unit",
        "yard.block_bytes_max is '8MB', which is no size",
        "yard.rows_max is 'many', which is no whole number",
        "yard.is_strict is 'yes', which is neither true nor false",
        "yard.labels is [1], which is no list of texts",
        "unknown key yard.flush_intervall; did you mean yard.flush_interval?",
        "environment: unknown key RUNYARD_SERVER_YARD_NAMES",
    ):
        assert part in listed
    assert len(caught.value.problems) == 12


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    """Of several sources of one key the flag wins, then the environment, then the file."""
    text = '[yard]\nname = "file"\nflush_interval = "1s"\nrows_max = 1\n'
    variables = {environment_key("yard.name"): "environment", environment_key("yard.rows_max"): "2"}
    config = load(
        SECTIONS,
        file=_write(tmp_path, text),
        environment=variables,
        flags={"yard.name": "flag"},
    )
    yard = config.section("yard", Yard)
    assert (yard.name, yard.rows_max, yard.flush_interval_s) == ("flag", 2, 1.0)
    assert config.explicit_keys == {"yard.name", "yard.rows_max", "yard.flush_interval"}


def test_effective_values_hide_secrets(tmp_path: Path) -> None:
    """/config and --print-config show everything but secrets and passwords in URLs."""
    shown = load_text(tmp_path, "").effective["yard"]
    assert shown["secret_key"] == HIDDEN
    assert shown["url"] == "http://user:(hidden)@host:1/db"
    assert "hunter2" not in json.dumps(shown)
    assert (shown["flush_interval"], shown["block_bytes_max"]) == ("200ms", "8MiB")


def test_effective_values_load_again(tmp_path: Path) -> None:
    """What --print-config shows is a configuration that gives the same values."""
    first = load_text(tmp_path, '[yard]\nflush_interval = "1.5m"\nlabels = ["x", "y"]\n')
    tables = {name: dict(table) for name, table in first.effective.items()}
    for key in ("secret_key", "url"):
        del tables["yard"][key]
    second = load_text(tmp_path, tomli_w.dumps(tables))
    assert second.section("yard", Yard) == first.section("yard", Yard)
    assert second.process == first.process


def test_sections_inside_sections(tmp_path: Path) -> None:
    """A dataclass in a dataclass is a table in a table; one key of it leaves the others at their defaults."""
    text = "[yard.shed]\ntools_max = 5\n"
    assert load_text(tmp_path, text).section("yard", Yard).shed == Shed(tools_max=5)
    variables = {environment_key("yard.shed.lock_limit"): "2s"}
    assert load_text(tmp_path, "", variables).section("yard", Yard).shed == Shed(lock_limit_s=2.0)
    with pytest.raises(ConfigProblems, match=r"unknown key yard\.shed\.tool_max; did you mean"):
        load_text(tmp_path, "[yard.shed]\ntool_max = 5\n")


def test_missing_and_broken_files_are_problems(tmp_path: Path) -> None:
    """A file that is not there or not TOML is named."""
    with pytest.raises(ConfigProblems, match="cannot be read"):
        load(SECTIONS, file=tmp_path / "none.toml", environment={}, flags={})
    with pytest.raises(ConfigProblems, match="is not TOML"):
        load_text(tmp_path, "[yard")


def test_target_alone_must_know_its_siblings(tmp_path: Path) -> None:
    """A service that asks another one elsewhere needs its address; with it the configuration is good."""
    with pytest.raises(
        ConfigProblems, match=r"addresses\.metadata is missing: monitor asks metadata"
    ):
        load_text(tmp_path, '[process]\ntargets = ["monitor"]\n')
    text = '[process]\ntargets = ["monitor"]\n[addresses]\nmetadata = "127.0.0.1:9001"\n'
    assert load_text(tmp_path, text).targets == ("monitor",)


def test_same_port_twice_is_refused(tmp_path: Path) -> None:
    """HTTP and gRPC cannot share a port; two free ones may both be asked for by 0."""
    with pytest.raises(ConfigProblems, match="give each its own port"):
        load_text(tmp_path, '[process]\nhttp = "127.0.0.1:1"\ngrpc = "localhost:1"\n')
    load_text(tmp_path, '[process]\nhttp = "127.0.0.1:0"\ngrpc = "127.0.0.1:0"\n')


@given(st.integers(0, 10**9).map(lambda ms: ms / 1000) | st.floats(0.001, 1e6))
def test_durations_round_trip(duration_s: float) -> None:
    """A duration is read as it was written, to the last bit that people write."""
    assert parse_duration_s(format_duration(duration_s)) == pytest.approx(duration_s, rel=1e-12)


@given(st.integers(0, 2**50))
def test_sizes_round_trip(size_bytes: int) -> None:
    """A size is read as it was written."""
    assert parse_size_bytes(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize("text", ["", "5", "5 s", "s", "-1s", "1d", "1e3s", "1s1s"])
def test_wrong_durations(text: str) -> None:
    """Nothing without a plain number and a known unit is a duration."""
    with pytest.raises(ValueError, match="no duration"):
        parse_duration_s(text)


def test_passwords_in_urls_are_hidden() -> None:
    """Only the password goes; a URL without one stays."""
    assert hide_password("postgresql://u:p@h/d") == "postgresql://u:(hidden)@h/d"
    assert hide_password("http://h:8123/d") == "http://h:8123/d"


def _write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "server.toml"
    file.write_text(text)
    return file
