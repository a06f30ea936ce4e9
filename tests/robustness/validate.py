"""Asks I1, I2, I3, I5 and I8 of what real processes logged and what can be read back."""

from __future__ import annotations

from tests.integration.readback import Readback, bits
from tests.robustness.traffic import METRICS, Trainer, value_of


def check_run(reader: Readback, trainer: Trainer) -> int:
    """Returns how many rows of the run are stored; raises if one is missing, twice, or not as it was logged.

    A process that was killed may have logged one row more than it could say.
    """
    logged = trainer.rows_logged()
    history = reader.history(trainer.path)
    counts = set()
    for metric in METRICS:
        points = history.get(metric, [])
        steps = [step for step, _ in points]
        assert len(set(steps)) == len(steps), (
            f"I2: {trainer.run_id} {metric}: a step is there twice"
        )
        missing = sorted(set(range(logged)) - set(steps))
        assert not missing, f"I1/I8: {trainer.run_id} {metric}: lacks {len(missing)}: {missing[:5]}"
        assert steps == list(range(len(steps))), f"I3: {trainer.run_id} {metric}: {steps[-3:]}"
        wrong = [
            step
            for step, stored in points
            if stored != bits(value_of(trainer.run_id, metric, step))
        ]
        assert not wrong, f"I3: {trainer.run_id} {metric}: other values at {wrong[:5]}"
        counts.add(len(steps))
    assert len(counts) == 1, f"I1: {trainer.run_id}: a row is there in part: {counts}"
    rows = counts.pop()
    assert rows - logged <= (1 if trainer.is_killed else 0), f"I3: {rows} stored, {logged} logged"
    reader.assert_receipt_is_whole(trainer.path, points=rows * len(METRICS))
    return rows
