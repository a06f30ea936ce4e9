"""Media values of real processes, seen at the server: all of them, once, after kills, and refused ones told."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.readback import wait_until
from tests.integration.yard import SHAPES, Yard

TIMEOUT_S = 60
SCRIPT = """
import os, sys, time
import runyard
from runyard import journal_format as form
run = runyard.init(project="media", id=sys.argv[1])
def log(step, name, kind, **content):
    run._records.write(form.MEDIA, {"step": step, "time_unix_ns": time.time_ns(), "name": name, "kind": kind, **content})
for step in range(20):
    name = f"media/image/examples/digits_{step}.png"
    path = os.path.join(run.dir, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"image %d" % step)
    run._records.write_file(__import__("pathlib").Path(path), name, "now", is_copy=True)
    log(step, "examples/digits", "image", items=[{"file": name, "format": "png", "caption": f"step {step}"}])
    log(step, "weights", "histogram", histogram={"edges": [0.0, 1.0, step + 1.5], "counts": [step, 1.5], "non_finite_count": step})
    run.log({"loss": 1 / (step + 1)}, step=step)
log(3, "bad", "histogram", histogram={"edges": [1.0, 0.0], "counts": [1]})
print("logged", flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module", params=SHAPES)
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    with Yard(tmp_path_factory.mktemp(f"yard-media-{request.param}"), request.param) as running:
        yield running


@pytest.mark.parametrize("end", ["finished", "killed"])
def test_media_arrive_whole(yard: Yard, tmp_path: Path, end: str) -> None:
    """Every value is there once with its file, whether the process finished or was killed; a bad one is refused alone."""
    run_id = f"{end}-{yard.shape}"
    path = f"local/media/{run_id}"
    script = subprocess.run(
        [sys.executable, "-c", SCRIPT, run_id, end],
        cwd=tmp_path,
        env=yard.environment(tmp_path / "runs"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert "logged" in script.stdout, script.stderr

    def state() -> str:
        reply = yard.call("metadata.v1.MetadataService/GetRun", {"path": path})
        return str(reply["run"]["state"])

    wanted = {"finished": "RUN_STATE_FINISHED", "killed": "RUN_STATE_CRASHED"}[end]
    wait_until(lambda: state() == wanted, 30, f"the run to be {wanted}")
    listed = yard.call("query.v1.QueryService/ListMedia", {"runPath": path})
    assert [(one["name"], one["kind"], one["stepCount"]) for one in listed["media"]] == [
        ("examples/digits", "MEDIA_KIND_IMAGE", "20"),
        ("weights", "MEDIA_KIND_HISTOGRAM", "20"),
    ]
    asked = {"runPaths": [path], "names": ["examples/digits", "weights"], "stepCountMax": 1000}
    images, weights = yard.call("query.v1.QueryService/QueryMedia", asked)["series"]
    assert [int(one["value"].get("step", 0)) for one in images["values"]] == list(range(20))
    last = images["values"][-1]
    (item,) = json.loads(last["value"]["itemsJson"])
    assert (last["fileRunPath"], item["caption"]) == (path, "step 19")
    bins = weights["values"][-1]["value"]["histogram"]
    assert (bins["edges"], bins["counts"], bins["nonFiniteCount"]) == (
        [0, 1, 20.5],
        [19, 1.5],
        "19",
    )
    file = yard.call("files.v1.FilesService/GetFile", {"runPath": path, "name": item["file"]})
    with urllib.request.urlopen(file["downloadUrl"]) as reply:
        assert reply.read() == b"image 19"
    (writer,) = yard.call("query.v1.QueryService/GetReceipt", {"runPath": path})["writers"]
    assert "gaps" not in writer
    assert writer["pointsRejected"] == "1"
    (mark,) = (tmp_path / "runs").glob("*/mark.json")
    (rejection,) = json.loads(mark.read_text())["rejections"]
    assert rejection["metric"] == "bad"
    assert "0.0 behind 1.0" in rejection["message"]
