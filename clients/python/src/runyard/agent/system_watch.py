"""Samples the machine for all runs of this agent, and writes what each run is to record into its journal `system`."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Protocol

from runyard import journal_format as form
from runyard.agent.disk import LocalDisk
from runyard.agent.mark import read_json
from runyard.agent.system.gpu import GpuSample
from runyard.agent.system.openmetrics import OpenMetricsSampler
from runyard.agent.system.sampler import ProcessSampler, SystemSampler
from runyard.journal import JournalWriter, RowSchema
from runyard.journal_walk import end_of

INTERVAL_S = 10.0
INTERVAL_MIN_S = 0.1
FIRST_BEATS_S = (0.25, 1.0)
"""Samples fall on whole multiples of the interval, the first of a run on those of these: runs are sampled together, the node once."""
SCHEMA_COUNT_MAX = 256
"""Sets of names that are remembered; an endpoint whose labels change all the time would make ever more."""
OWN_PREFIX = "system/proc."
"""What is of one process, as is `system/gpu.process.`; the rest is of the node, and recorded by one writer of a run on it."""
SEGMENT_BYTES = (64 << 10, 256 << 10)

_log = logging.getLogger("runyard.agent")


class GpuSource(Protocol):
    """The GPUs of one maker."""

    def sample(self) -> GpuSample:
        """Returns what they do; empty where there are none."""

    def close(self) -> None:
        """Lets the driver go."""


class SystemWatch:
    """One per agent. Sampling runs in a thread: a disk that hangs does not keep uploads waiting."""

    def __init__(
        self,
        *,
        gpus: Sequence[GpuSource] = (),
        time_unix_ns: Callable[[], int],
        make_system: Callable[[Sequence[str]], SystemSampler] = SystemSampler,
    ) -> None:
        """`make_system` gets folders, of whose disks the samples tell."""
        self._gpus = gpus
        self._make_system = make_system
        self._time_unix_ns = time_unix_ns
        self._runs: dict[str, _RunSamples] = {}
        self._system: SystemSampler | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def add(self, folder: str, run_path: str, start: Mapping[str, Any]) -> Callable[[], None]:
        """Samples for the process of a run folder from now on; returns what ends that."""
        wishes = start.get("system") or {}
        process = _identity(folder)
        interval_s = float(wishes.get("interval_s", INTERVAL_S) or 0)
        if process is None or not interval_s:
            return lambda: None
        pid, start_ticks = process
        self._runs[folder] = run = _RunSamples(
            folder,
            run_path,
            ProcessSampler(pid, start_ticks=start_ticks),
            max(INTERVAL_MIN_S, interval_s),
            _endpoints(wishes),
        )
        run.reckon(asyncio.get_running_loop().time())
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        return lambda: self._remove(folder)

    async def close(self) -> None:
        """Ends sampling."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for folder in list(self._runs):
            self._remove(folder)
        for one in self._gpus:
            one.close()

    def _remove(self, folder: str) -> None:
        run = self._runs.pop(folder, None)
        if run is not None:
            run.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._runs:
            self._wake.clear()
            now_s = loop.time()
            due = [run for run in self._runs.values() if run.due_s <= now_s]
            if due:
                try:
                    await loop.run_in_executor(None, self._sample, due, self._time_unix_ns())
                except Exception:  # the edge of the background task: uploads go on
                    _log.exception("system_metrics_failed")
                for run in due:
                    run.reckon(loop.time())
            next_s = min((run.due_s for run in self._runs.values()), default=now_s)
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.05, next_s - loop.time()))
            except asyncio.TimeoutError:
                continue

    def _sample(self, due: Sequence[_RunSamples], time_unix_ns: int) -> None:
        if self._system is None:
            self._system = self._make_system(["/", os.path.dirname(due[0].folder)])  # noqa: PTH120
        node = self._system.sample()
        cards = [one.sample() for one in self._gpus]
        # Of the writers of one run here, one tells of the node.
        tellers: dict[str, _RunSamples] = {}
        for run in list(self._runs.values()):
            tellers.setdefault(run.path, run)
        for run in due:
            metrics = run.process.sample(node)
            if not metrics:  # its process is gone
                continue
            if tellers.get(run.path, run) is run:
                for card in cards:
                    metrics.update(card.metrics)
                metrics.update(run.sample_endpoints())
            else:
                metrics = {k: v for k, v in metrics.items() if k.startswith(OWN_PREFIX)}
            for card in cards:
                metrics.update(card.of_processes(run.process.pids))
            run.write(metrics, time_unix_ns)


class _RunSamples:
    """What is sampled for one run folder, and its journal."""

    def __init__(
        self,
        folder: str,
        path: str,
        process: ProcessSampler,
        interval_s: float,
        endpoints: Sequence[OpenMetricsSampler],
    ) -> None:
        self.folder = folder
        self.path = path
        self.process = process
        self.due_s = 0.0
        self._interval_s = interval_s
        self._endpoints = endpoints
        self._sample_count = 0
        self._journal: JournalWriter | None = None
        self._schemas: dict[tuple[str, ...], RowSchema] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def reckon(self, now_s: float) -> None:
        """Says when the next sample is due."""
        beats = (*FIRST_BEATS_S, self._interval_s)
        beat_s = min(beats[min(self._sample_count, len(beats) - 1)], self._interval_s)
        self._sample_count += 1
        self.due_s = (math.floor(now_s / beat_s) + 1) * beat_s

    def sample_endpoints(self) -> dict[str, float]:
        """Returns what the run's own endpoints tell; each is waited for."""
        metrics: dict[str, float] = {}
        for endpoint in self._endpoints:
            metrics.update(endpoint.sample())
        return metrics

    def write(self, metrics: Mapping[str, float], time_unix_ns: int) -> None:
        """Appends a row to the journal; a disk that refuses is passed over."""
        with self._lock:
            if self._is_closed:
                return
            if self._journal is None:
                self._journal = _open_journal(Path(self.folder) / form.SYSTEM_JOURNAL)
            journal = self._journal
            if journal is None:
                self._is_closed = True
                return
            names = tuple(metrics)
            schema = self._schemas.get(names)
            if schema is None:
                if len(self._schemas) >= SCHEMA_COUNT_MAX:
                    self._schemas.clear()
                payload = json.dumps(names, ensure_ascii=False).encode()
                schema = self._schemas[names] = journal.make_schema(names, payload)
            with journal.lock:
                journal.append_row(schema, journal.sequence, time_unix_ns, list(metrics.values()))

    def close(self) -> None:
        """Ends the journal."""
        with self._lock:
            self._is_closed = True
            if self._journal is not None:
                self._journal.close()


def _open_journal(folder: Path) -> JournalWriter | None:
    """Returns the journal, to go on where an earlier agent ended; None if the disk refuses."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        _log.warning("system_metrics_not_kept %s: %s", folder, error)
        return None
    segment, sequence = end_of(folder)
    # A power cut may have taken records that the server has: their numbers are used, other samples must have others.
    mark = read_json(LocalDisk(), f"{folder}/mark.json") or {}
    sequence = max(sequence, int(mark.get("durable_sequence") or 0))
    return JournalWriter(folder, segment_bytes=SEGMENT_BYTES, goes_on_from=(segment, sequence))


def _identity(folder: str) -> tuple[int, int | None] | None:
    """Returns (pid, start in ticks) of the process that writes the run folder; None where it is not of this machine."""
    from runyard.process_identity import start_ticks_of, surroundings

    try:
        fields = json.loads(Path(folder, "writer.lock").read_bytes())
        pid, ticks = int(fields["pid"]), fields.get("start_ticks")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    around = surroundings()
    if any(fields.get(name) != value for name, value in around.items()):
        return None
    if ticks is not None and start_ticks_of(pid) != ticks:
        return None
    return pid, ticks


def _endpoints(wishes: Mapping[str, Any]) -> list[OpenMetricsSampler]:
    found = []
    filters = wishes.get("open_metrics_filters") or None  # none: all
    for name, url in (wishes.get("open_metrics_endpoints") or {}).items():
        try:
            found.append(OpenMetricsSampler(str(name), str(url), filters=filters))
        except ValueError as error:
            _log.error("open_metrics_endpoint_refused %s: %s", name, error)
    return found
