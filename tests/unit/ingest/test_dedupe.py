"""Dedupe against the model of a set: no sequence of calls makes it forget what is in flight or invent what is durable."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runyard_server.domain.points import Rejection
from runyard_server.domain.run import RunKey
from runyard_server.ingest.dedupe import BatchKey, Dedupe, Durable, batch_key
from tests.stores import batch, new_run_key, table

DURABLE_MAX = 3
keys = st.builds(
    BatchKey,
    run_key=st.integers(1, 2).map(RunKey),
    writer=st.integers(1, 2),
    first_sequence=st.integers(1, 3),
    last_sequence=st.integers(1, 3),
    shape=st.integers(0, 1),
)


class DedupeMachine(RuleBasedStateMachine):
    """The model: a dictionary of what is in flight, and a list of what is durable, most recently used last."""

    def __init__(self) -> None:
        super().__init__()
        self.dedupe: Dedupe[str] = Dedupe(durable_max=DURABLE_MAX)
        self.in_flight: dict[BatchKey, str] = {}
        self.durable: list[BatchKey] = []
        self.count = 0

    @rule(key=keys)
    def ask(self, key: BatchKey) -> None:
        found = self.dedupe.find(key)
        if key in self.durable:
            assert found == answer(key)
            self.durable.remove(key)
            self.durable.append(key)
        else:
            assert found == self.in_flight.get(key)

    @rule(key=keys)
    def begin(self, key: BatchKey) -> None:
        if self.dedupe.find(key) is None:
            self.count += 1
            self.in_flight[key] = f"insert {self.count}"
            self.dedupe.begin(key, self.in_flight[key])
        elif key in self.durable:
            self.durable.remove(key)
            self.durable.append(key)

    @precondition(lambda self: self.in_flight)
    @rule(number=st.integers(0, 99))
    def succeed(self, number: int) -> None:
        key = sorted(self.in_flight, key=repr)[number % len(self.in_flight)]
        del self.in_flight[key]
        self.dedupe.succeed(key, answer(key))
        self.durable.append(key)
        assert self.dedupe.take_evictions() == max(len(self.durable) - DURABLE_MAX, 0)
        self.durable = self.durable[-DURABLE_MAX:]

    @precondition(lambda self: self.in_flight)
    @rule(number=st.integers(0, 99))
    def fail(self, number: int) -> None:
        key = sorted(self.in_flight, key=repr)[number % len(self.in_flight)]
        del self.in_flight[key]
        self.dedupe.fail(key)

    @invariant()
    def nothing_in_flight_is_forgotten(self) -> None:
        for key, insert in self.in_flight.items():
            assert self.dedupe.find(key) == insert


def answer(key: BatchKey) -> Durable:
    return Durable((Rejection(f"metric {key.shape}", "METRIC_NAME_INVALID", "why", key.writer),))


TestDedupe = DedupeMachine.TestCase


def test_parts_of_one_record_are_not_repeats_of_each_other() -> None:
    """Batches of one range that hold other metrics have other keys; the same batch parsed again has the same."""
    run = new_run_key()
    first = batch(run, {"a": [(0, 1.0)]})
    assert batch_key(first) == batch_key(batch(run, {"a": [(0, 1.0)]}))
    assert batch_key(first) != batch_key(batch(run, {"b": [(0, 1.0)]}))
    longer = replace(first, tables=(table([0], [(0, 0, 1), (1, 0, 1)], [[1.0, 2.0]]),))
    assert batch_key(first) != batch_key(longer)
