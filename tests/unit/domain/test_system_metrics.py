"""The table of system metrics: every name finds its unit and chart, and charts hold what belongs together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runyard_protos.query.v1 import query_pb2
from runyard_server.domain.system_metrics import METRICS, SystemSection, labels_of


@pytest.mark.parametrize(
    ("name", "unit", "title", "item"),
    [
        ("system/cpu", "%", "CPU in use", ""),
        ("system/disk./mnt/a.b.usageGB", "GB", "Space in use", "/mnt/a.b"),
        ("system/disk.nvme0n1.in", "MB", "Disk reads since sampling began", "nvme0n1"),
        ("system/disk.nvme0n1.inRate", "bytes/s", "Disk reads", "nvme0n1"),
        ("system/disk.{i}.inRate", "bytes/s", "Disk reads", "{i}"),
        ("system/gpu.7.powerWatts", "W", "GPU power", "GPU 7"),
        ("system/gpu.process.0.gpu", "%", "Utilization of the process's GPUs", "GPU 0"),
        ("system/openmetrics.dcgm.up.0", "", "dcgm.up", ""),
        ('system/openmetrics.dcgm.up{gpu="0"}', "", "dcgm.up", 'gpu="0"'),
        ("system/from.a.newer.agent", "", "from.a.newer.agent", ""),
    ],
)
def test_a_name_is_found_in_the_table(name: str, unit: str, title: str, item: str) -> None:
    """The name of a GPU, disk or endpoint finds the row that it is of; one that is in none is shown by itself."""
    labels = labels_of(name)
    assert (labels.unit, labels.title, labels.item) == (unit, title, item)


def test_processes_are_told_from_nodes() -> None:
    """What agents record for each writer is said to be of a process, the rest of a node."""
    names = {"system/proc.cpu": True, "system/gpu.process.0.gpu": True, "system/gpu.0.gpu": False}
    assert {name: labels_of(name).is_of_process for name in names} == names


def test_the_table_has_each_row_once() -> None:
    """No two rows have a name, no chart has two lines of a name, none lacks a description, other names are in none."""
    assert len({info.name_pattern for info in METRICS}) == len(METRICS)
    lines = [(info.section, info.title, info.unit, info.item) for info in METRICS]
    assert len(set(lines)) == len(lines)
    assert all(info.description for info in METRICS)
    assert {labels_of(name).section for name in ("loss", "system/gpu.x.temp")} == {
        SystemSection.OTHER
    }


def test_sections_are_those_of_the_contract() -> None:
    """The numbers are the contract's."""
    contract = {
        value.name.removeprefix("SYSTEM_SECTION_"): value.number
        for value in query_pb2.SystemSection.DESCRIPTOR.values
    }
    contract["OTHER"] = contract.pop("UNSPECIFIED")
    assert contract == {section.name: section.value for section in SystemSection}


def test_the_documentation_has_each_metric() -> None:
    """docs/system-metrics.md lists every metric with its unit and meaning, and no other."""
    text = (Path(__file__).parents[3] / "docs/system-metrics.md").read_text()
    listed = re.findall(r"^\| `(system/[^`]+)` \| (.*?) ?\| (.+) \|$", text, re.MULTILINE)
    assert sorted(listed) == sorted((m.name_pattern, m.unit, m.description) for m in METRICS)
