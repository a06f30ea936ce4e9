"""Asks what must hold (docs/testing.md) of the history of a world; each failure names its invariant."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runyard import journal_format as form
from runyard.agent.start import read_start
from runyard_server.domain.points import Journal
from runyard_server.domain.run import LIVE_STATES, RunDocument, RunKey, RunState
from runyard_server.domain.writers import Writer
from runyard_server.storage.ports.console import LineFilter
from tests.simulation.disk import Disk
from tests.simulation.lineage import Lineage, read
from tests.simulation.world import now
from tests.simulation.written import Place, Written, allowed

if TYPE_CHECKING:
    from tests.simulation.servers import Servers


GOING_BACK_REASONS = ("STEP_NOT_REACHED", "RUN_NOT_FOUND", "RUN_ALREADY_EXISTS")
"""Why a rewind or a fork may be refused: its step, or its run, is not there (yet), or the run that it wants to start is."""

FRESH_S = 3.0
"""For how long query may show a run as it was before its last rewind: it asks metadata for it anew after 2 s."""


class Violation(AssertionError):
    """An invariant that does not hold."""


class MarkWatcher:
    """I4: a mark never passes what is durable, and never goes back. Asked at each write of a mark."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._highest: dict[tuple[str, Journal], int] = {}

    def watch(self, written: Written, journal: Journal, content: bytes) -> None:
        """Looks at a mark.json as it is being written."""
        fields = json.loads(content)
        mark = int(fields["durable_sequence"])
        place = (written.folder, journal)
        name = f"{written.name} ({journal.name})"
        before = self._highest.get(place, 0)
        if mark < before:
            raise Violation(f"I4: mark of {name} went back from {before} to {mark}")
        self._highest[place] = mark
        settled = durable_of(self._servers, written, journal) | refused_of(fields)
        whole = contiguous(settled)
        if mark > whole:
            raise Violation(f"I4: mark of {name} says {mark}, settled is up to {whole}")

    def power_was_cut(self, written: Written) -> None:
        """Takes note that the disk may hold older marks now."""
        for journal in Journal:
            self._highest.pop((written.folder, journal), None)


async def check_healed(
    servers: Servers, written: Sequence[Written], disk_of: dict[str, Disk], lineage: Lineage
) -> None:
    """I1, I2, I3, I5, I8 of one run with its writers: the store holds what was written, each point once, no more."""
    known = {one.folder: find_writer(servers, one) for one in written}
    writers = [(one, writer) for one in written if (writer := known[one.folder]) is not None]
    for one in written:
        one.is_refused = is_refused(one, disk_of[one.folder])
        if known[one.folder] is None and one.synced_sequence and not one.is_refused:
            raise Violation(f"I8: writer {one.name} never reached the server")
    if not writers:
        return
    run_key = writers[0][1].run_key
    stored = await _stored_points(servers, run_key)
    for one, writer in writers:
        if one.is_refused:
            # A late copy of its StartRun came when the step was there: it is known, and sends nothing.
            if receipts_of(servers, writer):
                raise Violation(f"I3: {one.name} was refused, and has records")
        else:
            _check_writer(servers, one, writer, disk_of[one.folder])
            await _check_lines(servers, one, writer, disk_of[one.folder])
        durable = durable_of(servers, one)
        _check_points(one, one.points(durable), stored.pop(writer.writer, {}))
        await _check_media(servers, one, writer)
    if stored:
        raise Violation(f"I3: {run_key} has points of writers {list(stored)}, whom nobody was")
    document = await servers.metadata.service.get_run(path=None, run_key=run_key)
    _check_settings(servers, document, writers, lineage.ancestors(document.path))
    await _check_histories(servers, document.path, lineage)
    is_told = all(_began(one, disk_of[one.folder]) and not one.is_refused for one, _ in writers)
    if is_told or document.state not in LIVE_STATES:
        _check_state(document, [one for one, _ in writers])
    # Else the START of one went with the power: only the monitor can tell of its end.


async def check_deleted(servers: Servers, written: Sequence[Written]) -> None:
    """Of a deleted run nothing is readable, whatever came late; its id is not to be had again."""
    for one in written:
        writer = find_writer(servers, one)
        if writer is None:
            continue  # it came after the deletion
        run_key = writer.run_key
        console, media = servers.points.console, servers.points.media
        left = (
            receipts_of(servers, writer),
            await _stored_points(servers, run_key),
            await console.count_lines(run_key),
            await media.list_media(run_key),
        )
        if any(left):
            raise Violation(f"deleted {one.path} is still readable")
    documents = now(
        servers.runs.transact(lambda tx: tx.find_run("sim", "world", written[0].run_id, will_change=False))
    )  # fmt: skip
    if documents is None or not documents.is_deleted:
        raise Violation(f"deleted {written[0].path} has left no tombstone: {documents}")


def _check_writer(servers: Servers, written: Written, writer: Writer, disk: Disk) -> None:
    """What was to become durable is, without a gap that nobody told of; the mark says so; nothing is left behind."""
    receipts = receipts_of(servers, writer)
    if receipts != durable_of(servers, written):
        raise Violation(f"I5: the receipt of {written.name} is not what was inserted")
    must = written.synced_sequence if written.is_cut else written.last_sequence
    missing = set(range(1, must + 1)) - receipts
    if missing:
        raise Violation(f"I1/I8: {written.name} lacks records {sorted(missing)[:5]} of {must}")
    if receipts and max(receipts) > written.last_sequence:
        raise Violation(f"I3: {written.name} has records beyond {written.last_sequence}")
    if not _began(written, disk):
        return  # its START went with the power: nobody but the server knows of it
    mark = _mark_of(written, disk)
    # What lay behind the last record that a power cut left, the disk cannot tell: the server's receipt shows it as a gap.
    known = min(max(receipts, default=0), mark["written_sequence"])
    gaps = set(range(1, known + 1)) - receipts - refused_of(mark)
    if gaps:
        raise Violation(f"I5: {written.name} lacks {sorted(gaps)[:5]}, and nobody says so: {mark}")
    if not mark["is_complete"] or writer.end is None:
        raise Violation(f"I8: {written.name} has not ended: {mark} {writer.end}")
    if not written.is_cut and {mark["durable_sequence"], writer.end.last_sequence} != {must}:
        raise Violation(f"I5: of {must} records of {written.name} told: {mark} {writer.end}")


async def _check_lines(servers: Servers, written: Written, writer: Writer, disk: Disk) -> None:
    """I1 and I3 of what was printed: each line is there in its last state, and no other."""
    printed = written.printed
    durable = durable_of(servers, written, Journal.CONSOLE)
    if _began(written, disk):  # else nobody but the server knows of it
        must = printed.synced_sequence if written.is_cut else printed.last_sequence
        mark = _read_json(disk, f"{written.folder}/{form.CONSOLE_JOURNAL}/mark.json")
        missing = set(range(1, must + 1)) - durable - (refused_of(mark) if mark else set())
        if missing:
            raise Violation(f"I1/I8: {written.name} lacks what it printed: {sorted(missing)[:5]}")
    where = LineFilter(writers=(writer.writer,))
    found = await servers.points.console.read_lines(
        writer.run_key, where, after=None, is_newest_first=False, limit=1 << 20, bytes_max=1 << 30
    )
    stored = dict(zip(found.lines, found.texts, strict=True))
    wanted = printed.lines(durable)
    if stored != wanted:
        wrong = sorted(n for n in {*stored, *wanted} if stored.get(n) != wanted.get(n))
        raise Violation(f"I1/I3: lines {wrong[:5]} of {written.name} are not as it printed them")


async def _check_media(servers: Servers, written: Written, writer: Writer) -> None:
    """I1 and I3 of media: what is durable is there as it was logged, and nothing else."""
    media, run_key = servers.points.media, writer.run_key
    keys = [(run_key, one.name) for one in await media.list_media(run_key)]
    steps = await media.choose_steps(keys, first_step=None, last_step=None, step_count_max=1 << 30)
    values = await media.read_values({key: one.steps for key, one in steps.items()})
    stored = {
        (one.value.name, one.value.step): json.loads(one.value.items_json)
        for found in values.values()
        for one in found
        if one.writer == writer.writer
    }
    wanted = written.media_values(durable_of(servers, written))
    if stored != wanted:
        wrong = sorted(p for p in {*stored, *wanted} if stored.get(p) != wanted.get(p))
        raise Violation(f"I1/I3: media of {written.name} at {wrong[:5]} are not as it logged them")


def _check_points(written: Written, wanted: dict[Place, bytes], stored: dict[Place, bytes]) -> None:
    missing = [place for place in wanted if place not in stored]
    if missing:
        raise Violation(f"I1/I8: {written.name} lacks {len(missing)} points: {missing[:5]}")
    surplus = [place for place in stored if place not in wanted]
    if surplus:
        raise Violation(f"I3: {written.name} has points that nobody wrote: {surplus[:5]}")
    wrong = [place for place, bits in stored.items() if wanted[place] != bits]
    if wrong:
        raise Violation(f"I3: {written.name} has other values at {wrong[:5]}")


async def _check_histories(servers: Servers, path: str, lineage: Lineage) -> None:
    """I1 to I3 of what query shows: the current history, with what rewinds took and forks inherited, and all attempts."""
    for is_all, wanted in ((False, lineage.current(path)), (True, lineage.every_attempt(path))):
        found = await read(servers, path, is_all_attempts=is_all)
        deadline_s = asyncio.get_running_loop().time() + FRESH_S
        while found != wanted and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(FRESH_S / 4)
            found = await read(servers, path, is_all_attempts=is_all)
        if found != wanted:
            kind = "attempts=all" if is_all else "the current history"
            missing = sorted(set(wanted) - set(found))[:3]
            surplus = sorted(set(found) - set(wanted))[:3]
            raise Violation(
                f"I1/I3: {kind} of {path} lacks {missing}, has {surplus} too many: "
                f"{len(found)} points in place of {len(wanted)}"
            )


def _check_settings(
    servers: Servers,
    document: RunDocument,
    writers: Sequence[tuple[Written, Writer]],
    ancestors: Sequence[Written],
) -> None:
    config: dict[str, Any] = json.loads(document.config_json)
    entries = now(servers.points.read_summaries([document.run_key])).get(document.run_key, [])
    summary = {entry.key: json.loads(entry.value_json) for entry in entries}
    for name, found, kind in (("config", config, "config"), ("summary", summary, "summary")):
        left = dict(found)
        for written, _ in writers:
            floor = written.synced_sequence if written.is_cut else written.last_sequence
            floor = 1 if written.is_refused else floor  # its START was taken in, and no more
            settings = written.config if kind == "config" else written.summary
            for key in dict.fromkeys(one.key for one in settings):
                may_be = allowed(settings, key, floor=floor)
                value = left.pop(key, None)
                if value not in may_be:
                    raise Violation(
                        f"I3: {name} {key} of {written.run_id} is {value}, not of {may_be}"
                    )
        if kind == "config":
            inherited = {(one.key, one.value) for parent in ancestors for one in parent.config}
            left = {key: value for key, value in left.items() if (key, value) not in inherited}
        if left:
            raise Violation(f"I3: {name} of {document.path} has {left}, which nobody set")


def _check_state(document: RunDocument, written: Sequence[Written]) -> None:
    """I6, as far as the ends of writers decide: who ended well and who vanished."""
    states = {RunState.FINISHED if one.is_finished else RunState.CRASHED for one in written}
    if any(one.is_finished and one.is_cut for one in written):
        states.add(RunState.CRASHED)  # FINISH was written, and may have gone
    if document.state not in states:
        raise Violation(f"I6: {document.path} is {document.state}, not of {states}")


def _began(written: Written, disk: Disk) -> bool:
    """Returns whether its folder still tells what to do: a START, or a mark that says that all is done."""
    if read_start(disk, f"{written.folder}/journal") is not None:
        return True
    return bool(_mark_of(written, disk).get("is_complete"))


def is_complete(written: Written, disk: Disk) -> bool:
    """Returns whether nothing is left to do for the writer, and nothing left lying that the server has."""
    mark = _mark_of(written, disk)
    if mark.get("is_complete"):
        return not segments_of(written, disk) or bool(refused_of(mark))
    return not _began(written, disk)


def segments_of(written: Written, disk: Disk) -> list[str]:
    """Returns the paths of the writer's segments that are still there."""
    return [path for path in disk.paths() if path.startswith(f"{written.folder}/journal/")]


def is_refused(written: Written, disk: Disk) -> bool:
    """Returns whether the server refused a writer that goes back to another's step when it began: nothing of it was sent."""
    mark = _mark_of(written, disk)
    if not written.goes_back or mark.get("server") != "refused" or mark["written_sequence"]:
        return False
    answer = _read_json(disk, f"{written.folder}/run.json")
    return not answer or (answer.get("error") or {}).get("reason") in GOING_BACK_REASONS


def _read_json(disk: Disk, path: str) -> dict[str, Any]:
    """Returns what a file holds; nothing, if it is not there or not whole after a power cut."""
    try:
        fields: dict[str, Any] = json.loads(disk.peek(path))
    except ValueError:
        return {}
    return fields


def _mark_of(written: Written, disk: Disk) -> dict[str, Any]:
    return _read_json(disk, f"{written.folder}/mark.json")


def find_writer(servers: Servers, written: Written) -> Writer | None:
    """Returns the writer that metadata made of it, or had made before it was purged; None if it never did."""
    found = now(servers.runs.transact(lambda tx: tx.find_writer_by_request(written.request_id)))
    if found is not None:
        servers.writers[written.request_id] = found
    return servers.writers.get(written.request_id)


def durable_of(servers: Servers, written: Written, journal: Journal = Journal.RUN) -> set[int]:
    """Returns the sequences of the writer's journal that were inserted."""
    writer = find_writer(servers, written)
    return set() if writer is None else servers.durable.of(writer.run_key, writer.writer, journal)


def receipts_of(servers: Servers, writer: Writer) -> set[int]:
    """Returns the sequences that the store's receipts hold."""
    found: set[int] = set()
    for receipt in now(servers.points.read_receipts(writer.run_key)):
        if receipt.writer == writer.writer:
            found.update(range(receipt.first_sequence, receipt.last_sequence + 1))
    return found


def refused_of(mark: dict[str, Any]) -> set[int]:
    """Returns the sequences that a mark says will never be durable."""
    return {n for first, last in mark["refused_ranges"] for n in range(first, last + 1)}


def contiguous(sequences: set[int]) -> int:
    """Returns the sequence up to which every record is there."""
    durable = 0
    while durable + 1 in sequences:
        durable += 1
    return durable


async def _stored_points(servers: Servers, run_key: RunKey) -> dict[int, dict[Place, bytes]]:
    """Returns the points by writer."""
    points = servers.points
    stats, _ = await points.list_metrics(run_key, name_contains="", after_name="", limit=1000)
    names = [one.name for one in stats]
    series, next_step = await points.read_series(
        run_key, names, first_step=None, last_step=None, limit=1_000_000
    )
    assert next_step is None
    stored: dict[int, dict[Place, bytes]] = {}
    for name, one in zip(names, series, strict=True):
        columns = zip(one.writers.tolist(), one.steps.tolist(), one.values.tolist(), strict=True)
        for writer, step, value in columns:
            places = stored.setdefault(writer, {})
            if (name, step) in places:
                raise Violation(f"I2: {name} at {step} of writer {writer} is there twice")
            places[name, step] = struct.pack("<d", value)
    return stored
