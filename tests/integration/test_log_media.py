"""A script logs every kind of media; the server gives each back with its step and its bytes, also after kill -9."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pil

from tests.integration.readback import wait_until
from tests.integration.yard import Yard

TIMEOUT_S = 90
SCRIPT = """
import os, sys
import numpy as np
import runyard
run = runyard.init(project="media", id=sys.argv[1])
pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
run.log({"loss": 1.0})
run.log({
    "loss": 0.5,
    "val/images": [runyard.Image(pixels + i, caption=f"c{i}", masks={"m": {"mask_data": pixels}}) for i in range(3)],
    "sound": runyard.Audio(np.zeros(800), sample_rate=8000),
    "video": runyard.Video(np.zeros((2, 3, 4, 5))),
    "page": runyard.Html("<b>hello</b>"),
    "table": runyard.Table(columns=["id", "image"], data=[[1, runyard.Image(pixels, caption="cell")], [2, None]]),
    "weights": runyard.Histogram([0.0, 1.0, float("nan")], num_bins=2),
    "confusion": runyard.plot.confusion_matrix(y_true=[0, 1], preds=[1, 1], class_names=["a", "b"]),
})
print("logged", flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""
KINDS = {
    "confusion": "PLOT", "page": "HTML", "sound": "AUDIO", "table": "TABLE", "val/images": "IMAGE", "video": "VIDEO",
    "weights": "HISTOGRAM",
}  # fmt: skip


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with Yard(tmp_path_factory.mktemp("yard-log-media"), "all") as running:
        yield running


@pytest.mark.parametrize("end", ["finished", "killed"])
def test_every_kind_is_given_back(
    yard: Yard, tmp_path_factory: pytest.TempPathFactory, end: str
) -> None:
    """Kinds, steps, descriptions, and the bytes of each file, checked by their SHA-256 and decoded."""
    folder = tmp_path_factory.mktemp(end)
    path = f"local/media/{end}"
    script = subprocess.run(
        [sys.executable, "-c", SCRIPT, end, end],
        cwd=folder,
        env=yard.environment(folder / "runs"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert "logged" in script.stdout, script.stderr

    def file(name: str) -> bytes:
        told = yard.call("files.v1.FilesService/GetFile", {"runPath": path, "name": name})
        with urllib.request.urlopen(told["downloadUrl"]) as reply:
            return bytes(reply.read())

    def state() -> str:
        reply = yard.call("metadata.v1.MetadataService/GetRun", {"path": path})
        return str(reply["run"]["state"])

    wanted = {"finished": "RUN_STATE_FINISHED", "killed": "RUN_STATE_CRASHED"}[end]
    wait_until(lambda: state() == wanted, 30, f"the run to be {wanted}")
    listed = yard.call("query.v1.QueryService/ListMedia", {"runPath": path})["media"]
    assert {one["name"]: one["kind"].removeprefix("MEDIA_KIND_") for one in listed} == KINDS
    asked = {"runPaths": [path], "names": sorted(KINDS)}
    series = yard.call("query.v1.QueryService/QueryMedia", asked)["series"]
    values = {one["name"]: one["values"][0]["value"] for one in series}
    assert {value["step"] for value in values.values()} == {"1"}
    histogram = values.pop("weights")["histogram"]
    assert (histogram["counts"], histogram["nonFiniteCount"]) == ([1, 1], "1")
    items: dict[str, list[dict[str, Any]]] = {
        name: json.loads(value["itemsJson"]) for name, value in values.items()
    }
    bodies = {}
    for name, found in items.items():
        for item in found if name != "confusion" else ():
            bodies[item["file"]] = body = file(item["file"])
            assert hashlib.sha256(body).hexdigest() == item["sha256"]
            assert len(body) == item["size_bytes"]
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for index, item in enumerate(items["val/images"]):
        assert item["caption"] == f"c{index}"
        for raw, expected in (
            (bodies[item["file"]], pixels + index),
            (file(item["masks"]["m"]["file"]), pixels),
        ):
            with Pil.open(io.BytesIO(raw)) as picture:
                assert np.array_equal(np.asarray(picture), expected)
    assert items["sound"][0]["duration_s"] == 0.1 and items["video"][0]["frame_count"] == 2
    assert bodies[items["page"][0]["file"]].endswith(b"<b>hello</b>")
    assert items["confusion"][0]["data"] == {"actual": [0, 1], "predicted": [1, 1], "count": [1, 1]}
    rows = pq.read_table(io.BytesIO(bodies[items["table"][0]["file"]])).to_pylist()
    assert [row["id"] for row in rows] == [1, 2] and rows[1]["image"] is None
    asked = {
        "runPath": path,
        "file": items["table"][0]["file"],
        "sortColumn": "id",
        "isDescending": True,
    }
    page = yard.call("query.v1.QueryService/QueryTable", asked)
    assert [column["type"] for column in page["columns"]] == ["number", "media"]
    assert json.loads(page["rowsJson"][0]) == [2, None]
    assert json.loads(page["rowsJson"][1])[1]["caption"] == "cell"
    cell = json.loads(rows[0]["image"])
    assert cell["kind"] == "image" and hashlib.sha256(file(cell["file"])).hexdigest() == cell["sha256"]  # fmt: skip
