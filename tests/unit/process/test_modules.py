"""The table of modules gives one order, and says what is wrong with a wrong one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.process.modules import (
    MODULES,
    Module,
    TargetProblem,
    order_modules,
    remote_services,
    select_targets,
    target_names,
)

TARGETS = target_names()


@given(st.lists(st.sampled_from(TARGETS), min_size=1))
def test_each_module_comes_after_what_it_needs(targets: list[str]) -> None:
    """Whatever is asked for, in whatever order, every module is made once and after its needs."""
    ordered = order_modules(select_targets(targets))
    assert len(set(ordered)) == len(ordered)
    rows = {module.name: module for module in MODULES}
    for position, name in enumerate(ordered):
        assert set(rows[name].needs) <= set(ordered[:position])
    assert set(targets) <= set(ordered)


def test_all_means_every_target() -> None:
    """ "all" stands for every service, also beside other names."""
    assert select_targets(["query", "all"]) == TARGETS
    assert remote_services(TARGETS) == ()


def test_unknown_target_is_named_with_the_known_ones() -> None:
    """The error names what was asked and what there is."""
    with pytest.raises(TargetProblem, match=r"'querry'.*query"):
        select_targets(["querry"])


def test_no_target_is_refused() -> None:
    """An empty list is a mistake, not a process without services."""
    with pytest.raises(TargetProblem, match="no target"):
        select_targets([])


def test_cycle_is_drawn() -> None:
    """A cycle in the table is shown as a path."""
    table = (Module("a", "", needs=("b",)), Module("b", "", needs=("a",)))
    with pytest.raises(TargetProblem, match="a -> b -> a"):
        order_modules(["a"], table)


def test_need_that_is_not_in_the_table_is_named() -> None:
    """A row that needs an unknown one says which row it was."""
    with pytest.raises(TargetProblem, match="'a' needs unknown module 'x'"):
        order_modules(["a"], (Module("a", "", needs=("x",)),))


def test_services_elsewhere_are_those_asked_and_not_here() -> None:
    """A process that runs ingest alone must know where metadata is; a gateway must know all."""
    assert remote_services(["ingest"]) == ("metadata",)
    assert remote_services(["ingest", "metadata"]) == ("query", "files")
    assert set(remote_services(["gateway"])) == set(TARGETS) - {"gateway"}
