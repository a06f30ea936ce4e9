"""Asks what must hold (docs/testing.md) of the history of a world; each failure names its invariant."""

from __future__ import annotations

import json
import struct

from runyard_server.domain.errors import NotFound
from runyard_server.domain.run import RunKey, RunState
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.points import ReceiptRange
from tests.simulation.servers import Servers
from tests.simulation.trainer import Written
from tests.simulation.world import Disk, now


class Violation(AssertionError):
    """An invariant that does not hold."""


class MarkWatcher:
    """I4: a mark never passes what is durable, and never goes back. Asked at each write of a mark."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._highest: dict[str, int] = {}
        self.marks_seen = 0

    def watch(self, written: Written, content: bytes) -> None:
        """Looks at a mark.json as it is being written."""
        self.marks_seen += 1
        mark = int(json.loads(content)["durable_sequence"])
        before = self._highest.get(written.folder, 0)
        if mark < before:
            raise Violation(f"I4: mark of {written.run_id} went back from {before} to {mark}")
        self._highest[written.folder] = mark
        durable = contiguous(receipts_of(self._servers.points, run_key_of(self._servers, written)))
        if mark > durable:
            raise Violation(
                f"I4: mark of {written.run_id} says {mark}, durable without a gap is {durable}"
            )


async def check_healed(servers: Servers, written: Written, disk: Disk) -> None:
    """I1, I2, I3, I5, I8: after the world healed, the store holds what was written, each point once, and no more."""
    run_key = run_key_of(servers, written)
    if run_key is None:
        raise Violation(f"I8: run {written.run_id} never reached the server")
    stored = await _stored_points(servers.points, run_key)
    missing = {place for place in written.points if place not in stored}
    if missing:
        raise Violation(
            f"I1/I8: {written.run_id} lacks {len(missing)} points: {sorted(missing)[:5]}"
        )
    surplus = {place for place in stored if place not in written.points}
    if surplus:
        raise Violation(f"I3: {written.run_id} has points that nobody wrote: {sorted(surplus)[:5]}")
    wrong = {place for place, bits in stored.items() if written.points[place] != bits}
    if wrong:
        raise Violation(f"I3: {written.run_id} has other values at {sorted(wrong)[:5]}")
    _check_receipt(servers, written, run_key)
    await _check_document(servers, written, run_key)
    mark = json.loads(disk.files[f"{written.folder}/mark.json"])
    if not mark["is_complete"] or mark["durable_sequence"] != written.last_sequence:
        raise Violation(
            f"I8: mark of {written.run_id} is {mark}, last record {written.last_sequence}"
        )


def _check_receipt(servers: Servers, written: Written, run_key: RunKey) -> None:
    receipts = receipts_of(servers.points, run_key)
    durable = contiguous(receipts)
    last = max((receipt.last_sequence for receipt in receipts), default=0)
    if (durable, last) != (written.last_sequence, written.last_sequence):
        raise Violation(
            f"I5: receipt of {written.run_id} is whole to {durable}, last {last}; "
            f"written were {written.last_sequence}"
        )
    if len({receipt.writer for receipt in receipts}) != 1:
        raise Violation(f"I5: {written.run_id} has several writers: {receipts}")


async def _check_document(servers: Servers, written: Written, run_key: RunKey) -> None:
    document = await servers.metadata.service.get_run(path=None, run_key=run_key)
    if json.loads(document.config_json) != written.config:
        raise Violation(
            f"I3: config of {written.run_id} is {document.config_json}, written was {written.config}"
        )
    summaries = (await servers.points.read_summaries([run_key])).get(run_key, [])
    summary = {entry.key: json.loads(entry.value_json) for entry in summaries}
    if summary != written.summary:
        raise Violation(f"I3: summary of {written.run_id} is {summary}, not {written.summary}")
    expected = RunState.FINISHED if written.is_finished else RunState.CRASHED
    if document.state != expected:
        raise Violation(f"I6: {written.run_id} is {document.state}, expected {expected}")


def run_key_of(servers: Servers, written: Written) -> RunKey | None:
    """Returns the key that metadata gave to the run; None if it does not know it."""
    try:
        return now(servers.metadata.service.get_run(path=written.path, run_key=None)).run_key
    except NotFound:
        return None


def receipts_of(points: MemoryPoints, run_key: RunKey | None) -> list[ReceiptRange]:
    """Returns the receipts in the store, looking past all faults."""
    return [] if run_key is None else now(points.read_receipts(run_key))


def contiguous(receipts: list[ReceiptRange]) -> int:
    """Returns the sequence up to which every record is covered."""
    durable = 0
    for receipt in sorted(receipts, key=lambda r: r.first_sequence):
        if receipt.first_sequence > durable + 1:
            break
        durable = max(durable, receipt.last_sequence)
    return durable


async def _stored_points(points: MemoryPoints, run_key: RunKey) -> dict[tuple[str, int], bytes]:
    stats, _ = await points.list_metrics(run_key, name_contains="", after_name="", limit=1000)
    names = [one.name for one in stats]
    series, next_step = await points.read_series(
        run_key, names, first_step=None, last_step=None, limit=1_000_000
    )
    assert next_step is None
    stored: dict[tuple[str, int], bytes] = {}
    for name, one in zip(names, series, strict=True):
        for step, value in zip(one.steps.tolist(), one.values.tolist(), strict=True):
            if (name, step) in stored:
                raise Violation(f"I2: {name} at {step} is there twice")
            stored[name, step] = struct.pack("<d", value)
    return stored
