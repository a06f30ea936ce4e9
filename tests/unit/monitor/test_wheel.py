"""The wheel: what is due comes up, once, however often it was moved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runyard_server.monitor.wheel import OUT, Wheel


class Item:
    def __init__(self, name: int) -> None:
        self.name = name
        self.slot = OUT


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.one_of(st.none(), st.floats(0.0, 30.0)), st.floats(0.0, 5.0)
        ),
        max_size=60,
    )
)
def test_each_item_comes_up_at_its_latest_time(
    moves: list[tuple[int, float | None, float]],
) -> None:
    """Within a width of the time it was put to last, never before that width, and not when it was taken out."""
    wheel: Wheel[Item] = Wheel(width_s=1.0)
    items = [Item(name) for name in range(5)]
    wanted: dict[int, float] = {}
    now_s = 0.0
    for name, delay_s, pause_s in moves:
        if delay_s is None:
            wheel.take_out(items[name])
            wanted.pop(name, None)
        else:
            wheel.put(items[name], now_s + delay_s)
            wanted[name] = now_s + delay_s
        now_s += pause_s
        found = [item.name for item in wheel.due(now_s)]
        assert sorted(
            name for name, at_s in wanted.items() if at_s // 1.0 <= now_s // 1.0
        ) == sorted(found)
        for name in found:
            del wanted[name]
