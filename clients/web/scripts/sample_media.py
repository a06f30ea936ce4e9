"""Fills a running server with media to look at: images with boxes and masks, sounds, HTML, histograms, plots, a table.

`.venv/bin/python clients/web/scripts/sample_media.py --grpc=127.0.0.1:8081`; it speaks to the services as an agent does.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import struct
import sys
import time
import urllib.request
import wave
import zlib
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sample_runs import DEADLINE_S, Server, Writer, finish, start, write

from runyard_protos.files.v1 import files_pb2, files_pb2_grpc
from runyard_protos.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from runyard_protos.metadata.v1 import metadata_pb2_grpc
from runyard_protos.monitor.v1 import monitor_pb2_grpc

PROJECT = "media"
CLASSES = {"0": "background", "1": "circle", "2": "square", "3": "stripe"}


class Recorder:
    """Uploads files of one run and logs values that name them."""

    def __init__(self, server: Server, files: files_pb2_grpc.FilesServiceStub, name: str) -> None:
        self.server, self.files = server, files
        self.writer: Writer = start(server, PROJECT, name, config={"lr": 0.01})

    def put(self, content: bytes, kind: str, name: str, step: int, ext: str) -> dict[str, Any]:
        """Uploads a file; returns the fields of an item that name it."""
        digest = hashlib.sha256(content)
        path = f"media/{kind}/{name}_{step}_{digest.hexdigest()[:12]}.{ext}"
        request = files_pb2.CreateUploadRequest(
            run_path=self.writer.run.path,
            name=path,
            size_bytes=len(content),
            sha256=digest.digest(),
        )
        plan = self.files.CreateUpload(request, timeout=DEADLINE_S)
        if not plan.is_present:
            put = urllib.request.Request(plan.part_urls[0], data=content, method="PUT")
            with urllib.request.urlopen(put, timeout=DEADLINE_S) as answer:
                etag = answer.headers["ETag"]
            done = files_pb2.CompleteUploadRequest(upload_id=plan.upload_id, part_etags=[etag])
            self.files.CompleteUpload(done, timeout=DEADLINE_S)
        return {"file": path, "format": ext, "size_bytes": len(content), "sha256": digest.hexdigest()}  # fmt: skip

    def log(self, step: int, name: str, kind: str, items: list[dict[str, Any]] | None = None, bins: Any = None) -> None:  # fmt: skip
        """Logs one value."""
        self.writer.sequence += 1
        value = ingest_pb2.MediaValue(
            sequence=self.writer.sequence,
            name=name,
            step=step,
            time_unix_ns=time.time_ns(),
            kind=ingest_pb2.MediaKind.Value(f"MEDIA_KIND_{kind.upper()}"),
            items_json=json.dumps(items) if items is not None else "",
            histogram=bins,
        )
        request = ingest_pb2.WriteBatchRequest(
            run_key=self.writer.run.run_key,
            writer=self.writer.writer,
            first_sequence=self.writer.sequence,
            last_sequence=self.writer.sequence,
            media_values=[value],
        )
        reply = self.server.ingest.WriteBatch(request, timeout=DEADLINE_S)
        if reply.rejections:
            raise SystemExit(str(reply.rejections))


def main() -> None:
    """Fills the server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--grpc", default="127.0.0.1:8081")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    channel = grpc.insecure_channel(arguments.grpc)
    server = Server(
        ingest_pb2_grpc.IngestServiceStub(channel),
        metadata_pb2_grpc.MetadataServiceStub(channel),
        monitor_pb2_grpc.MonitorServiceStub(channel),
    )
    files = files_pb2_grpc.FilesServiceStub(channel)
    names = ("shapes-baseline-1", "shapes-wide-2", "shapes-deep-3")
    for number, name in enumerate(names[: arguments.runs]):
        fill(Recorder(server, files, name), number)
    sys.stdout.write("sample media written\n")


def fill(recorder: Recorder, number: int) -> None:
    """One run with everything."""
    rng = np.random.default_rng(number)
    write(recorder.server, recorder.writer, {"train/loss": 2 * np.exp(-np.arange(200) / 60)})
    for step in range(0, 200, 20):
        recorder.log(
            step, "examples/shapes", "image", [shape(recorder, rng, step, i) for i in range(8)]
        )
        recorder.log(
            step, "examples/digits", "image", [digit(recorder, rng, step, i) for i in range(24)]
        )
    recorder.log(199, "examples/one", "image", [shape(recorder, rng, 199, 99, size=320)])
    for step in range(200):
        values = rng.normal(0.02 * step, 1 + step / 80, 4_000) if number < 2 else rng.exponential(1 + step / 50, 4_000)  # fmt: skip
        counts, edges = np.histogram(values, 64)
        bins = ingest_pb2.Histogram(edges=edges, counts=counts, non_finite_count=int(step == 60) * 3)  # fmt: skip
        recorder.log(step, "weights/layer.1", "histogram", bins=bins)
    recorder.log(100, "weights/single", "histogram", bins=bins)
    for step in (50, 150):
        recorder.log(step, "sounds/tones", "audio", [tone(recorder, step, hz) for hz in (220, 440)])
    page = recorder.put(HTML.encode(), "html", "report", 199, "html")
    recorder.log(199, "report", "html", [page])
    plots(recorder, rng)
    recorder.log(199, "predictions", "table", [table(recorder, rng)])
    finish(recorder.server, recorder.writer, 0, "")


HTML = """<html><body style="font-family: sans-serif; padding: 12px"><h2>A report</h2><p>Made by a script:
<b id="x">not run</b>; this page reached outside: <b id="y">no</b></p>
<script>document.getElementById("x").textContent = "run, origin " + self.origin;
try { parent.document.body; document.getElementById("y").textContent = "YES"; } catch (e) {}
fetch("/.well-known/runyard").then(() => { document.getElementById("y").textContent = "YES"; }, () => {});</script></body></html>"""


def png(pixels: np.ndarray) -> bytes:
    """Returns the pixels (HW grey or HWC, 8 bits) as PNG."""
    height, width = pixels.shape[:2]
    colour = {1: 0, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # fmt: skip

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")  # fmt: skip


def shape(recorder: Recorder, rng: np.random.Generator, step: int, place: int, size: int = 160) -> dict[str, Any]:  # fmt: skip
    """An image with a circle and a square, their boxes, and a mask."""
    y, x = np.mgrid[0:size, 0 : int(size * 1.25)]
    picture = np.stack([x * 0.4 + 60, y * 0.5 + 40, 90 + 0 * x], -1)
    mask = np.zeros(x.shape, np.uint8)
    cx, cy, r = rng.uniform(0.25, 0.5) * size, rng.uniform(0.3, 0.7) * size, size * 0.17
    circle = (x - cx) ** 2 + (y - cy) ** 2 < r**2
    sx, sy, side = rng.uniform(0.65, 0.9) * size, rng.uniform(0.1, 0.55) * size, size * 0.3
    square = (x > sx) & (x < sx + side) & (y > sy) & (y < sy + side)
    picture[circle], picture[square] = (240, 220, 120), (120, 160, 250)
    mask[circle], mask[square], mask[(y // 6) % 9 == 0] = 1, 2, 3
    picture += rng.normal(0, 8, picture.shape)
    item = recorder.put(png(np.clip(picture, 0, 255).astype(np.uint8)), "image", f"shapes_{place}", step, "png")  # fmt: skip
    grey = recorder.put(png(mask), "mask", f"mask_{place}", step, "png")
    width, height = x.shape[1], x.shape[0]

    def box(left: float, top: float, size_: float, kind: int, score: float) -> dict[str, Any]:
        position = {"minX": left / width, "maxX": (left + size_) / width, "minY": top / height, "maxY": (top + size_) / height}  # fmt: skip
        return {"position": position, "class_id": kind, "box_caption": f"{CLASSES[str(kind)]} {score:.2f}", "scores": {"p": score}}  # fmt: skip

    truth = [box(cx - r, cy - r, 2 * r, 1, 1.0), box(sx, sy, side, 2, 1.0)]
    guess = [box(cx - r + 4, cy - r - 3, 2 * r, 1, 0.91), box(sx - 6, sy + 3, side, 1 if place % 3 == 0 else 2, 0.64)]  # fmt: skip
    return {
        **item, "width": width, "height": height, "caption": f"sample {place}: a circle and a square",
        "boxes": {"predictions": {"box_data": guess, "class_labels": CLASSES}, "truth": {"box_data": truth, "class_labels": CLASSES}},
        "masks": {"segments": {**grey, "width": width, "height": height, "class_labels": CLASSES}},
    }  # fmt: skip


def digit(recorder: Recorder, rng: np.random.Generator, step: int, place: int) -> dict[str, Any]:
    """A grey image of 8 x 8 pixels."""
    y, x = np.mgrid[0:8, 0:8]
    ring = np.abs(np.hypot(x - 3.5, y - 3.5) - 2.4 + rng.normal(0, 0.2))
    pixels = np.clip(255 * (1.1 - ring) + rng.normal(0, 20, (8, 8)), 0, 255).astype(np.uint8)
    item = recorder.put(png(pixels), "image", f"digits_{place}", step, "png")
    return {**item, "width": 8, "height": 8, "caption": f"{place % 10} as {(place + step) % 10}"}


def tone(recorder: Recorder, step: int, hz: int) -> dict[str, Any]:
    """A second of a sine."""
    rate = 16_000
    samples = (12_000 * np.sin(np.arange(rate) * 2 * math.pi * hz / rate)).astype("<i2")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    item = recorder.put(content.getvalue(), "audio", f"tone_{hz}", step, "wav")
    return {**item, "caption": f"{hz} Hz", "sample_rate": rate, "channels": 1, "duration_s": 1.0}


def plots(recorder: Recorder, rng: np.random.Generator) -> None:
    """One value of each chart."""

    def log(name: str, chart: str, encoding: dict[str, str], data: dict[str, list[Any]], **more: Any) -> None:  # fmt: skip
        rows = len(next(iter(data.values())))
        item = {"chart": chart, "title": name.title(), "encoding": encoding, "data": data, "row_count": rows, **more}  # fmt: skip
        recorder.log(199, f"plots/{name}", "plot", [item])

    x = np.linspace(0, 6, 80).round(3).tolist()
    log("line", "line", {"x": "time", "y": "height"}, {"time": x, "height": np.sin(x).tolist()})
    log("scatter", "scatter", {"x": "a", "y": "b"}, {"a": rng.normal(size=900).tolist(), "b": rng.normal(size=900).tolist()}, total_count=9_000)  # fmt: skip
    names = [f"feature number {i}" for i in range(14)]
    log("bar", "bar", {"label": "name", "value": "importance"}, {"name": names, "importance": np.sort(rng.random(14) - 0.2)[::-1].tolist()})  # fmt: skip
    counts, edges = np.histogram(rng.gamma(2, 2, 2_000), 30)
    log("histogram", "histogram", {"low": "low", "high": "high", "count": "count"}, {"low": edges[:-1].tolist(), "high": edges[1:].tolist(), "count": counts.tolist()}, x_title="loss")  # fmt: skip
    series = {"fpr": [], "tpr": [], "class": []}  # type: dict[str, list[Any]]
    for power, kind in ((0.2, "cat"), (0.4, "dog"), (0.7, "bird")):
        grid = np.linspace(0, 1, 60)
        series["fpr"] += grid.tolist()
        series["tpr"] += (grid**power).tolist()
        series["class"] += [kind] * 60
    log("roc", "roc_curve", {"x": "fpr", "y": "tpr", "series": "class"}, series)
    classes = ["zero", "one", "two", "three", "four", "five", "six"]
    pairs = [(a, p, int(90 if a == p else rng.integers(0, 14))) for a in range(7) for p in range(7)]
    log("confusion", "confusion_matrix", {"actual": "actual", "predicted": "predicted", "count": "count"}, {"actual": [a for a, _, _ in pairs], "predicted": [p for _, p, _ in pairs], "count": [c for _, _, c in pairs]}, classes=classes)  # fmt: skip
    big = {"x": list(range(6_000)), "y": np.cumsum(rng.normal(size=6_000)).tolist()}
    file = recorder.put(json.dumps(big).encode(), "plot", "walk", 199, "json")
    item = {**file, "chart": "line", "title": "A walk, from a file", "encoding": {"x": "x", "y": "y"}, "row_count": 6_000}  # fmt: skip
    recorder.log(199, "plots/walk", "plot", [item])
    figure = recorder.put(b'{"data":[],"layout":{}}', "plot", "figure", 199, "json")
    recorder.log(199, "plots/plotly", "plot", [{**figure, "chart": "plotly", "title": "A figure"}])


def table(recorder: Recorder, rng: np.random.Generator, rows: int = 5_000) -> dict[str, Any]:
    """A table with all types of columns."""
    pictures = [json.dumps({"kind": "image", **digit(recorder, rng, 199, i)}) for i in range(40)]
    columns = {
        "id": ("number", pa.array(np.arange(rows) + 2**53)),
        "image": ("media", pa.array([pictures[i % 40] if i % 7 else None for i in range(rows)])),
        "guess": ("string", pa.array([["cat", "dog", "a bird with a very long description that does not fit"][i % 3] for i in range(rows)])),
        "score": ("number", pa.array(np.where(np.arange(rows) % 50 == 3, np.nan, rng.random(rows)))),
        "is_right": ("boolean", pa.array(rng.random(rows) < 0.8)),
        "at": ("datetime", pa.array(1_760_000_000_000_000 + np.arange(rows) * 1_500_000, pa.timestamp("us", "UTC"))),
        "logits": ("list", pa.array([json.dumps(rng.normal(size=3).round(3).tolist()) for _ in range(rows)])),
        "extra": ("object", pa.array([json.dumps({"n": i, "x": {"$float": "NaN"}}) for i in range(rows)])),
    }  # fmt: skip
    described = [{"name": name, "type": kind} for name, (kind, _) in columns.items()]
    made = pa.table({name: column for name, (_, column) in columns.items()})
    made = made.replace_schema_metadata({"runyard": json.dumps({"version": 1, "columns": described})})  # fmt: skip
    content = io.BytesIO()
    pq.write_table(made, content)
    item = recorder.put(content.getvalue(), "table", "predictions", 199, "parquet")
    return {**item, "row_count": rows, "columns": described}


if __name__ == "__main__":
    main()
