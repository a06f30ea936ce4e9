"""What the start of a run tells of where it came from, without credentials, and how each part is switched off."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runyard.console.redaction import is_secret_name, redact_arguments
from runyard.host import describe_host, environment_facts, git_state, without_credentials
from runyard.host_text import host_lines
from runyard.settings import ResolvedSettings, Settings, resolve


def extra(settings: ResolvedSettings, environ: dict[str, str]) -> dict[str, Any]:
    found = json.loads(describe_host(settings, environ).get("extra_json", "{}"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--lr", "0.1"], ["--lr", "0.1"]),
        (["--api-key=abc", "--x=1"], ["--api-key=[redacted]", "--x=1"]),
        (["--token", "abc", "rest"], ["--token", "[redacted]", "rest"]),
        (["--hub-token", "--lr", "3"], ["--hub-token", "--lr", "3"]),
        (["wandb.api_key=abc", "model.lr=1"], ["wandb.api_key=[redacted]", "model.lr=1"]),
        (["--max-tokens", "4096", "--tokenizer", "bert"], ["--max-tokens", "4096", "--tokenizer", "bert"]),
        (["--password", "1234"], ["--password", "[redacted]"]),
        (["s3://me:geheim@host/b"], ["s3://me:[redacted]@host/b"]),
        (["--url=http://me:geheim@host"], ["--url=http://me:[redacted]@host"]),
        (["--seed", "-1", "--decay", "-1e-4"], ["--seed", "-1", "--decay", "-1e-4"]),
    ],
)  # fmt: skip
def test_credentials_in_arguments(given: list[str], shown: list[str]) -> None:
    """Values of options that look like credentials are left out; what belongs to training stays."""
    assert shown == redact_arguments(given)


def test_environment_by_name() -> None:
    """Only variables that the names and globs allow are kept, and none that looks like a credential."""
    environ = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "CUDA_API_KEY": "geheim",
        "TOKENIZERS_PARALLELISM": "false",
        "SLURM_JWT": "geheim",
        "HOME": "/h",
        "HF_HOME": "http://me:geheim@cache/",
    }
    found = environment_facts(environ, ("CUDA_*", "TOKENIZERS_*", "SLURM_*", "HF_HOM?"))
    assert found == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "HF_HOME": "http://me:[redacted]@cache/",
        "TOKENIZERS_PARALLELISM": "false",
    }
    assert is_secret_name("HF_TOKEN") and not is_secret_name("TOKENIZERS_PARALLELISM")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:tok@git.example/@group/r.git", "https://git.example/@group/r.git"),
        ("https://tok@git.example", "https://git.example"),
        ("git@git.example:o/r.git", "git@git.example:o/r.git"),
        ("/srv/r.git", "/srv/r.git"),
    ],
)
def test_addresses_of_repositories(address: str, expected: str) -> None:
    """User and password are left out of an address; an @ in its path stays."""
    assert expected == without_credentials(address)


def test_a_folder_that_may_not_be_searched(tmp_path: Path) -> None:
    """A repository's files that are no such tell nothing, and nothing fails."""
    (tmp_path / ".git").write_text("not a pointer")
    assert git_state(tmp_path) == {}


def test_each_part_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Command, git, machine and environment are told, and each is left out alone when its setting says so."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True, timeout=20)
    git = ["git", "-C", tmp_path, "-c", "user.name=n", "-c", "user.email=e@f"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "m"], check=True, timeout=20)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--api-key", "geheim"])
    environ = {"CUDA_X": "1", "SLURM_JOB_ID": "7"}
    told = ResolvedSettings(save_machine=True, save_git=True)
    found = extra(told, environ)
    assert found["arguments"] == ["--api-key", "[redacted]"]
    assert set(found["git"]) == {"branch", "commit"} and found["slurm"] == {"job_id": "7"}
    assert found["environment"] == {"CUDA_X": "1", "SLURM_JOB_ID": "7"}
    for setting, keys in (
        ("save_command", {"program", "arguments"}),
        ("save_git", {"git"}),
        ("save_machine", {"machine", "container", "kubernetes", "slurm"}),
        ("save_environment", {"environment"}),
    ):
        without = extra(dataclasses.replace(told, **{setting: False}), environ)  # type: ignore[arg-type]  # a switch
        assert set(without) == set(found) - keys
    hidden = describe_host(dataclasses.replace(told, save_command=False), environ)
    assert "command" not in hidden


def test_how_the_machine_is_sampled_is_told_where_it_is_not_as_usual() -> None:
    """A run without system metrics says why; one that is sampled as usual says nothing."""
    usual = ResolvedSettings()
    assert "sampling" not in extra(usual, {})
    unsampled = dataclasses.replace(usual, system_interval_s=0.0)
    assert extra(unsampled, {})["sampling"] == {"interval_s": 0.0}
    offline = dataclasses.replace(usual, mode="offline")
    assert extra(offline, {})["sampling"] == {"is_offline": True}


def test_the_settings(tmp_path: Path) -> None:
    """Switches come from the environment, from Settings, and under the names of wandb; sizes and lists are read."""
    environ = {
        "RUNYARD_SAVE_CODE": "false",
        "RUNYARD_GIT_DIFF_BYTES_MAX": "1 MiB",
        "RUNYARD_ENVIRONMENT_NAMES": "FOO_*, BAR",
    }
    found = resolve({}, Settings(disable_git=True), environment=environ, home=tmp_path)
    assert (found.save_code, found.save_git, found.save_machine) == (False, False, True)
    assert (found.git_diff_bytes_max, found.environment_names) == (1 << 20, ("FOO_*", "BAR"))
    argued = resolve({"save_code": True}, environment=environ, home=tmp_path)
    assert (argued.save_code, argued.save_git) == (True, True)


def test_the_lines_for_a_person() -> None:
    """What is known is said in a line each; what is not known has none."""
    lines = host_lines(
        {
            "command": "python train.py",
            "cpu_count": 8,
            "machine": {"cpu_model": "EPYC", "cpu_total": 64, "memory_bytes": 2**31},
            "gpu": {"names": ["H100", "H100"], "cuda_version": "12.4", "driver_version": "550"},
            "git": {
                "branch": "main", "commit": "a" * 40, "is_dirty": True, "changed_count": 2,
                "diff": {"file": "diff.patch"}, "remote": "https://h/r",
            },
            "environment": {"RANK": "0"},
        }
    )  # fmt: skip
    assert lines == [
        ("command", "python train.py"),
        ("git", "main at aaaaaaaaaa, 2 files changed (diff.patch), https://h/r"),
        ("cpu", "8 of 64 × EPYC"),
        ("memory", "2.0 GiB"),
        ("gpu", "2 × H100, CUDA 12.4, driver 550"),
        ("environment", "RANK=0"),
    ]
    assert host_lines({}) == []
