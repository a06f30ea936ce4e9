"""Limits of requests: bounded work for any request, and errors that name the field, the value and the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.errors import InvalidArgument
from runyard_server.query import planner
from runyard_server.query.planner import Steps

NAMES = st.lists(st.text(min_size=1, max_size=20), max_size=1200, unique=True)


@given(NAMES, st.integers(0, 2**32 - 1))
def test_a_series_plan_is_bounded(metrics: list[str], limit: int) -> None:
    """Any request is refused, or its reply holds at most 400,000 points, each metric read once."""
    try:
        plan = planner.plan_series([*metrics, *metrics], Steps(), limit)
    except InvalidArgument as error:
        assert not metrics or len(metrics) > planner.METRICS_MAX
        assert error.metadata["field"] == "metrics"
        return
    assert tuple(metrics) == plan.metrics
    assert 1 <= plan.limit <= planner.SERIES_POINTS_MAX
    assert plan.limit * len(plan.metrics) <= planner.SERIES_POINTS_PER_REPLY_MAX


@given(st.integers(0, 1100), st.integers(0, 1100), st.integers(0, 2**32 - 1))
def test_a_buckets_plan_is_bounded(runs: int, metrics: int, count: int) -> None:
    """Any request is refused with a reason, or its reply holds at most 500,000 buckets."""
    paths = [f"e/p/r{i}" for i in range(runs)]
    names = [f"m{i}" for i in range(metrics)]
    try:
        plan = planner.plan_buckets(paths, names, Steps(), count)
    except InvalidArgument as error:
        expected = "QUERY_TOO_LARGE" if runs and metrics else "FIELD_INVALID"
        assert error.reason in (expected, "QUERY_TOO_LARGE")
        assert {"field", "value", "limit"} <= set(error.metadata)
        return
    buckets = len(plan.run_paths) * len(plan.metrics) * plan.bucket_count_max
    assert buckets <= planner.BUCKETS_PER_REPLY_MAX
    assert 2 <= plan.bucket_count_max <= planner.BUCKETS_MAX


@pytest.mark.parametrize(
    ("asked", "used"), [(0, 1_500), (1, 2), (2, 2), (10_000, 10_000), (10_001, 10_000)]
)
def test_bucket_counts_are_clamped(asked: int, used: int) -> None:
    """0 means 1,500; more than 10,000 means 10,000; steps on both sides of 0 need two."""
    assert used == planner.plan_buckets(["e/p/r"], ["loss"], Steps(), asked).bucket_count_max


@pytest.mark.parametrize(
    ("name", "reason"), [("", "FIELD_INVALID"), ("x" * 513, "FIELD_INVALID"), ("é" * 257, "FIELD_INVALID")]
)  # fmt: skip
def test_names_that_no_metric_has_are_refused(name: str, reason: str) -> None:
    """Names have 1 to 512 bytes of UTF-8."""
    with pytest.raises(InvalidArgument) as caught:
        planner.plan_series(["loss", name], Steps(), 0)
    assert reason == caught.value.reason
    assert planner.plan_series(["x" * 512], Steps(), 0).metrics


def test_a_star_among_keys_stands_for_all() -> None:
    """A "*" makes other keys needless; keys are unique and at most 1,000."""
    assert planner.check_keys("config_keys", ["a", "*", "b"]) == ("*",)
    assert planner.check_keys("config_keys", ["a", "b", "a"]) == ("a", "b")
    with pytest.raises(InvalidArgument, match="1001"):
        planner.check_keys("config_keys", [str(i) for i in range(1001)])
