"""Carries a stop out at one writer: hands it to the training process, waits for the grace time, then sends signals."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from typing import TYPE_CHECKING, Callable

from runyard.agent.mark import read_json
from runyard.agent.ports import Disk, ProcessEnd, ProcessWatch, StartedRun, StopOrder, Transport
from runyard.agent.process_watch import signal_name
from runyard.agent.retry import Repeater
from runyard.errors import Error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ACKNOWLEDGED, DRAINING, TERMINATED, KILLED = "ACKNOWLEDGED", "DRAINING", "TERMINATED", "KILLED"
"""Stages that an agent tells of: names of a StopStage without its prefix."""
KILL_WAIT_S = 10.0
"""Time between SIGTERM and SIGKILL."""
STAGE_REPEAT_COUNT_MAX = 3
"""How often a stage that the server answers with an error is told again: it is worth no more."""
SETTLE_WAIT_S = 5.0
"""Longest time for which the stages of a stop hold up the end of the run."""
_TOLD = {
    "callback": "the callback that the script gave to on_stop() was called",
    "polling": "the script reads should_stop",
    "interrupt": "the main thread was interrupted as by Ctrl-C",
}
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

_log = logging.getLogger("runyard.agent")


class Stopping:
    """The stop of one run at one writer. Orders come again with each beat; a stage is told once."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        run: StartedRun,
        *,
        transport: Transport,
        repeater: Repeater,
        watch: ProcessWatch | None,
        time_unix_ns: Callable[[], int],
    ) -> None:
        self._disk = disk
        self._path = f"{folder}/stop.json"
        self._run = run
        self._transport = transport
        self._repeater = repeater
        self._watch = watch
        self._time_unix_ns = time_unix_ns
        self._order: StopOrder | None = None
        self._how = ""
        self._signals: list[int] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last_stage: asyncio.Task[None] | None = None
        self._before: Mapping[str, Any] = read_json(disk, self._path) or {}
        """What an agent before this one wrote."""

    def order(self, order: StopOrder) -> None:
        """Takes an order; the grace time and the permission to kill of the latest hold."""
        if order == self._order:
            return
        self._order = order
        self._changed.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._carry_out())

    def told(self, payload: bytes) -> None:
        """Takes a STOP_TOLD record: the training process knows."""
        how = str(json.loads(payload).get("how") or "")
        self._how = _TOLD.get(how, how or "the script was told")
        self._tell(DRAINING, self._how)

    def evidence(self, end: ProcessEnd) -> str:
        """Returns how the stop brought about such an end; "" if it did not."""
        if end.signal == _KILL and _KILL not in self._signals:
            return ""
        parts = [self._how] if self._how else []
        parts += [f"the agent sent {signal_name(number)}" for number in self._signals]
        if not parts and self._before:
            parts = ["it was asked to stop"]
        if not parts:
            return ""
        who = self._order.requested_by if self._order is not None else ""
        who = who or str(self._before.get("requested_by") or "a user")
        return f"{who} asked for it; {'; '.join(parts)}"

    async def settle(self) -> None:
        """Ends the sending of signals, and returns when the server knows every stage, or will not take one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._last_stage is not None:
            await asyncio.wait([self._last_stage], timeout=SETTLE_WAIT_S)

    async def stop(self) -> None:
        """Ends everything at once."""
        tasks = [task for task in (self._task, self._last_stage) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_out(self) -> None:
        order = self._hand_over()
        self._tell(ACKNOWLEDGED, f"the agent has the request of {order.requested_by or 'a user'}")
        start_s = asyncio.get_running_loop().time() - self._elapsed_s(order)
        await self._wait_until(lambda order: start_s + order.grace_s)
        order = self._current()
        if not self._send(signal.SIGTERM):
            return
        self._tell(TERMINATED, f"SIGTERM after the grace time of {order.grace_s:g} s")
        kill_time_s = asyncio.get_running_loop().time() + KILL_WAIT_S
        never_s = kill_time_s + 10 * 365 * 86_400
        await self._wait_until(lambda order: kill_time_s if order.may_kill else never_s)
        if self._send(_KILL):
            self._tell(KILLED, f"SIGKILL {KILL_WAIT_S:g} s after SIGTERM")

    async def _wait_until(self, time_of: Callable[[StopOrder], float]) -> None:
        """Returns at the time that the latest order means; hands over what is new in orders that come meanwhile."""
        loop = asyncio.get_running_loop()
        while True:
            pause_s = time_of(self._current()) - loop.time()
            if pause_s <= 0:
                return
            try:
                await asyncio.wait_for(self._changed.wait(), min(pause_s, 3600.0))
            except asyncio.TimeoutError:
                continue
            self._hand_over()

    def _hand_over(self) -> StopOrder:
        """Writes stop.json, which the training process looks for."""
        self._changed.clear()
        order = self._current()
        is_same = self._before.get("request_time_unix_ns") == order.request_time_unix_ns
        acknowledge_time = self._before.get("acknowledge_time_unix_ns") if is_same else None
        fields = {
            "version": 1,
            "requested_by": order.requested_by,
            "reason": order.reason,
            "request_time_unix_ns": order.request_time_unix_ns,
            "grace_s": order.grace_s,
            "may_kill": order.may_kill,
            "acknowledge_time_unix_ns": acknowledge_time or self._time_unix_ns(),
        }
        content = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
        try:
            self._disk.replace(self._path, content, is_synced=False)
        except OSError as error:  # the signals come all the same
            _log.error("stop_not_written %s: %s; make room there", self._path, error)
        _log.info("stop_ordered %s by %s: %s", self._run.path, order.requested_by, order.reason)
        return order

    def _elapsed_s(self, order: StopOrder) -> float:
        """Returns how long ago an earlier agent took the same order."""
        if self._before.get("request_time_unix_ns") != order.request_time_unix_ns:
            return 0.0
        since_ns = int(self._before.get("acknowledge_time_unix_ns") or self._time_unix_ns())
        return min(max(0.0, (self._time_unix_ns() - since_ns) / 1e9), order.grace_s)

    def _send(self, number: int) -> bool:
        if self._watch is None:
            _log.warning(
                "stop_not_forced %s: this system gives no safe way to signal its process",
                self._run.path,
            )
            return False
        if not self._watch.send_signal(number):
            return False
        self._signals.append(number)
        return True

    def _current(self) -> StopOrder:
        assert self._order is not None
        return self._order

    def _tell(self, stage: str, evidence: str) -> None:
        """Tells the server of a stage, after those before it."""
        loop = asyncio.get_running_loop()
        self._last_stage = loop.create_task(self._record(stage, evidence, self._last_stage))

    async def _record(self, stage: str, evidence: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        run, transport = self._run, self._transport
        try:
            await self._repeater.call(
                lambda: transport.record_stop_stage(run.run_key, run.writer, stage, evidence),
                repeat_count_max=STAGE_REPEAT_COUNT_MAX,
            )
        except Error as error:
            _log.warning(
                "stop_stage_refused %s %s: %s %s", run.path, stage, error.reason, error.message
            )
