"""The example configurations load with the program that they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard_server.process.config import load
from runyard_server.process.modules import target_names
from runyard_server.process.wiring import SECTIONS

CONFIGS = Path(__file__).parents[3] / "deploy" / "config"


def test_laptop_config_runs_everything() -> None:
    """The example for one machine is good as it stands."""
    config = load(SECTIONS, file=CONFIGS / "laptop.toml", environment={}, flags={})
    assert config.targets == target_names()


@pytest.mark.parametrize("target", target_names())
def test_cluster_config_serves_each_target_alone(target: str) -> None:
    """One file does for every process of a cluster; only the target differs."""
    flags = {"process.targets": target}
    config = load(SECTIONS, file=CONFIGS / "cluster.toml", environment={}, flags=flags)
    assert config.targets == (target,)


def test_every_target_has_a_section() -> None:
    """Each service's limits can be set."""
    assert set(target_names()) <= set(SECTIONS)
