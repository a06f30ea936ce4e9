"""The watch: the node is sampled once for all runs, one writer of a run tells of it, and a later agent goes on."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from runyard import journal_format as form
from runyard.agent.system.sampler import SystemSampler
from runyard.agent.system_watch import SystemWatch
from runyard.journal_walk import Place, segments_of, walk
from runyard.process_identity import own_identity

INTERVAL_S = 0.1


def folder_of(root: Path, name: str) -> Path:
    """Makes a run folder that this process writes."""
    folder = root / name
    folder.mkdir()
    (folder / "writer.lock").write_bytes(own_identity())
    return folder


def rows(folder: Path) -> list[dict[str, float]]:
    """Returns the samples in a run folder."""
    found = []
    for one in walk(segments_of(folder / form.SYSTEM_JOURNAL)):
        if isinstance(one, Place) and one.frame.kind == form.ROW:
            found.append(dict(zip(one.frame.names, one.frame.values, strict=True)))
    return found


async def watched(
    folders: Sequence[tuple[Path, str]], start: dict[str, Any], *, row_count: int
) -> int:
    """Samples until each folder has so many rows; returns how often the node was sampled."""
    looks: list[float] = []

    def clock() -> float:
        looks.append(time.monotonic())
        return looks[-1]

    watch = SystemWatch(
        time_unix_ns=time.time_ns, make_system=lambda paths: SystemSampler(paths, clock=clock)
    )
    for folder, path in folders:
        watch.add(str(folder), path, {"system": {"interval_s": INTERVAL_S, **start}})
    async with asyncio.timeout(30):
        while not all(
            (folder / form.SYSTEM_JOURNAL).exists() and len(rows(folder)) >= row_count
            for folder, _ in folders
        ):
            await asyncio.sleep(INTERVAL_S / 4)
    await watch.close()
    return len(looks)


async def test_the_node_is_sampled_once_for_all(tmp_path: Path) -> None:
    """Runs that began at different moments are sampled together: the node is read once each time, however many there are."""
    folders = [(folder_of(tmp_path, f"run-{n}"), f"e/p/{n}") for n in range(8)]
    looks = await watched(folders, {}, row_count=5)
    samples = max(len(rows(folder)) for folder, _ in folders)
    assert samples <= looks <= samples + 2
    assert all("system/memory_percent" in row for folder, _ in folders for row in rows(folder))


async def test_one_writer_of_a_run_tells_of_the_node(tmp_path: Path) -> None:
    """Of several writers of one run on a node, the first tells of the node and asks the endpoints; each tells of itself."""
    folders = [(folder_of(tmp_path, f"run-{n}"), "e/p/r") for n in range(3)]
    with endpoint() as (url, asked):
        await watched(folders, {"open_metrics_endpoints": {"x": url}}, row_count=3)
    first, *others = [rows(folder) for folder, _ in folders]
    assert all("system/memory_percent" in row for row in first)
    assert all(row["system/openmetrics.x.answers.0"] == 42 for row in first)
    assert len(asked) <= len(first) + 1
    for row in (row for own in others for row in own):
        assert row["system/proc.memory.rssMB"] > 1
        assert all(name.startswith("system/proc.") for name in row)


async def test_a_later_agent_goes_on(tmp_path: Path) -> None:
    """A later watch numbers its records behind those on the disk, and behind those that the server has though the disk lost them."""
    folder = folder_of(tmp_path, "run-1")
    await watched([(folder, "e/p/r")], {}, row_count=2)
    (folder / form.SYSTEM_JOURNAL / "mark.json").write_text(json.dumps({"durable_sequence": 1_000}))
    before = len(rows(folder))
    await watched([(folder, "e/p/r")], {}, row_count=before + 2)
    sequences = [
        one.frame.sequence
        for one in walk(segments_of(folder / form.SYSTEM_JOURNAL), from_sequence=1_001)
        if isinstance(one, Place) and one.frame.kind == form.ROW
    ]
    assert min(number for number in sequences if number > 100) > 1_000


async def test_another_process_is_not_sampled(tmp_path: Path) -> None:
    """A run whose process is gone, or is of another machine, has no samples."""
    folder = folder_of(tmp_path, "run-1")
    fields = json.loads(own_identity())
    (folder / "writer.lock").write_text(json.dumps({**fields, "start_ticks": 1}))
    watch = SystemWatch(time_unix_ns=time.time_ns)
    watch.add(str(folder), "e/p/r", {})
    await watch.close()
    assert [path.name for path in folder.iterdir()] == ["writer.lock"]


@contextmanager
def endpoint() -> Iterator[tuple[str, list[str]]]:
    """Serves one metric; gives its address and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = b"answers 42\n"
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
