"""`run.watch` with real torch modules: histograms of what NumPy finds in the same tensors, at the steps of the script."""

from __future__ import annotations

import runyard
from tests.integration.yard import Yard
from tests.integrations_real.frameworks import Trainer, histograms, needs, points

pytestmark = needs("torch")
FREQ, STEPS = 3, 7
PATH = "local/integrations/watched"


def test_gradients_and_parameters_are_recorded(
    trainer: Trainer, yard: Yard, api: runyard.Api
) -> None:
    """Every third pass all are counted, on the step that the script ends itself; NaN are told; unwatch ends it."""
    told = trainer.run("torch_watch", "watched").facts
    for kind in ("gradients", "parameters"):
        assert len(told[kind]) == 3
        for name in told[kind][0]:
            found = histograms(yard, PATH, f"{kind}/{name}")
            assert [step for step, *_ in found] == [0, 3, 6]
            for (_, counts, edges, odd), expected in zip(
                found, (one[name] for one in told[kind]), strict=True
            ):
                assert odd == expected["odd"]
                assert sum(counts) == expected["count"]
                if counts and max(counts) < expected["count"]:
                    assert (edges[0], edges[-1]) == (expected["min"], expected["max"])
    assert sorted(told["gradients"][0]) == ["0.bias", "0.weight", "2.weight"]
    assert not histograms(yard, PATH, "gradients/2.bias")
    ((step, counts, _, _),) = histograms(yard, PATH, "gradients/model1.weight")
    assert (step, sum(counts)) == (0, 2)
    rows = list(api.run(PATH).scan_history(require="any"))
    assert [step for step, _ in points(rows, "loss")] == list(range(STEPS))
    assert points(rows, "after") == [(STEPS, 1.0)]
    compiled = histograms(yard, PATH, "gradients/model2.weight")
    assert len(compiled) == 1 and sum(compiled[0][1]) == 6
