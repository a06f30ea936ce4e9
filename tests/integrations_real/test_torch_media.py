"""Tensors of torch as media: of any type of number, with gradients, channels first, batches."""

from __future__ import annotations

import io
import json
import urllib.request
from typing import Any

import numpy as np
from PIL import Image as Pil

from tests.integration.yard import Yard
from tests.integrations_real.frameworks import Trainer, histograms, needs

pytestmark = needs("torch")
PATH = "local/integrations/torch-media"


def test_tensors_become_media(trainer: Trainer, yard: Yard) -> None:
    """Pixels are those of the tensors; what is no media says what to make of it."""
    told = trainer.run("torch_media", "torch-media").facts
    names = ["batch", "confusion", "grey", "picture", "sound"]
    asked = {"runPaths": [PATH], "names": names}
    series = yard.call("query.v1.QueryService/QueryMedia", asked)["series"]
    items: dict[str, dict[str, Any]] = {
        one["name"]: json.loads(one["values"][0]["value"]["itemsJson"])[0] for one in series
    }
    assert sorted(items) == names
    for name in ("picture", "grey"):
        file = {"runPath": PATH, "name": items[name]["file"]}
        address = yard.call("files.v1.FilesService/GetFile", file)["downloadUrl"]
        with urllib.request.urlopen(address) as reply, Pil.open(io.BytesIO(reply.read())) as found:
            assert np.asarray(found).tolist() == told[name]
    assert (items["batch"]["width"], items["batch"]["height"]) == (8 * 10 + 2, 2 * 10 + 2)
    assert (items["sound"]["channels"], items["sound"]["duration_s"]) == (2, 5.0)
    assert items["confusion"]["data"] == {"actual": [0, 1], "predicted": [1, 1], "count": [1, 1]}
    ((step, counts, _, _),) = histograms(yard, PATH, "values")
    assert (step, counts) == (0, [16.0] * 4)
    assert "runyard.Histogram or a runyard.Image" in told["refused"]
