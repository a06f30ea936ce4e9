"""Carries one run folder from its START record to its end on the server."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

from runyard import journal_format as form
from runyard.agent import endings
from runyard.agent import mark as marks
from runyard.agent.deleted import RUN_DELETED, drop_data
from runyard.agent.lifeline import Lifeline
from runyard.agent.next_step import next_step
from runyard.agent.ports import Beat, Ending, StartedRun
from runyard.agent.start import keep_days, store_wait_s
from runyard.agent.stopping import Stopping
from runyard.agent.world import Server, World
from runyard.errors import Error

if TYPE_CHECKING:
    from runyard.agent.artifacts import ArtifactUploads
    from runyard.agent.columns import Piece
    from runyard.agent.files import FileUploads
    from runyard.agent.reader import JournalFollower
    from runyard.agent.side_journals import SideJournals
    from runyard.agent.uploader import Uploader

COMPLETE, REFUSED, BLOCKED, CURRENT = "complete", "refused", "blocked", "current"
WAITING = "waiting"
"""Outcomes; BLOCKED needs a newer agent, CURRENT is sent so far while its process goes on (foreground only), WAITING has ended, and
what is left of it waits for the object store."""
GATHER_S = 0.2
"""A journal that grew is read again after this, so that batches are not tiny."""
POLL_MIN_S, POLL_MAX_S = 0.03, 0.1
"""A quiet journal is looked at in pauses that grow from the one to the other."""
WRITER_LOOK_S = 0.5
"""Pause between two looks whether the training process lives."""
STATUS_WAIT_S = 2.0
"""Longest wait for the status of a process that let go of its lock without a word: it is dying, or became another program."""
CORRECTION_WAIT_S = 60.0
"""How long after its own word a process is watched for ending otherwise."""
REMOVE_INTERVAL_S = 1.0
TICK_S = 1.0

_log = logging.getLogger("runyard.agent")


class RunUpload:
    """One run folder. `is_foreground`: what is there is sent once, also while the process lives and offline."""

    def __init__(
        self,
        folder: str,
        start: Mapping[str, Any],
        *,
        world: World,
        server: Server,
        is_foreground: bool = False,
    ) -> None:
        self.folder = folder
        self.server = server
        self.mark = marks.Mark(world.disk, folder, time_unix_ns=world.time_unix_ns)
        self.is_writer_alive = True
        self._start_record = start
        self._world = world
        self._is_foreground = is_foreground
        self._journal: JournalFollower | None = None
        self._life = Lifeline(world.disk, folder, None)
        self._told: Ending | None = None
        self._stopping: Stopping | None = None
        self._sides: SideJournals | None = None
        self._artifacts: ArtifactUploads | None = None
        self._preemption_notice = ""
        self._uploader: Uploader | None = None
        self._reach_message = ""
        self._deletion: Error | None = None

    @property
    def bytes_settled(self) -> int:
        """Returns how many bytes of the journal this upload has got durable, or set aside."""
        return self._uploader.bytes_settled if self._uploader is not None else 0

    async def run(self) -> str:
        """Returns the outcome when nothing is left to do. When cancelled, the mark says how far it came."""
        if self.mark.is_complete:
            return COMPLETE
        if self._world.processes is not None:
            self._life = Lifeline(self._world.disk, self.folder, self._world.processes)
        try:
            outcome, started = await self._upload()
            if self._deletion is not None:
                await self._drop(self._deletion)
            if outcome in (COMPLETE, WAITING) and started is not None and not self._is_foreground:
                await self._correct(started)
            return outcome
        finally:
            self._life.close()

    async def _upload(self) -> tuple[str, StartedRun | None]:
        stop_listening = self.server.reach.listen(self._tell_reach)
        self.mark.server = marks.CONNECTING
        self._tell_reach()
        self.mark.write()
        ticking = asyncio.get_running_loop().create_task(self._tick())
        try:
            started = await self._register()
            if started is None:
                return REFUSED, None
            return await self._follow(started), started
        finally:
            ticking.cancel()
            if not self.mark.is_complete:
                self._life.keep()
            stop_listening()
            self.mark.write()

    async def _tick(self) -> None:
        """Shows in the mark that this agent is at work, as long as something is left to do."""
        while True:
            await asyncio.sleep(TICK_S)
            self._life.keep()
            journal = self._journal
            is_ending = journal is not None and journal.finish is not None
            if self._artifacts is not None and self._artifacts.is_busy:
                self._artifacts.tell()
            if is_ending or self.mark.durable_sequence < self.mark.written_sequence:
                self.mark.touch()

    async def _register(self) -> StartedRun | None:
        server, disk = self.server, self._world.disk
        try:
            run = await server.repeater.call(lambda: server.transport.start_run(self._start_record))
            step, summary_json = await next_step(self._start_record, run, server), ""
            if run.is_resumed:
                summary_json = await server.repeater.call(
                    lambda: server.transport.read_summary(run.path)
                )
        except Error as error:
            if self._was_known():
                self._refuse(error)
                return None
            marks.write_refusal(disk, self.folder, reason=error.reason, message=error.message)
            self.mark.server, self.mark.message = marks.REFUSED, error.message
            _log.error("run_refused %s: %s %s", self.folder, error.reason, error.message)
            return None
        marks.write_answer(
            disk,
            self.folder,
            run,
            base_url=server.base_url,
            next_step=step,
            summary_json=summary_json,
        )
        _log.info("run_started %s key %d writer %d", run.path, run.run_key, run.writer)
        return run

    async def _follow(self, run: StartedRun) -> str:
        # Only now, so that StartRun does not wait for numpy.
        from runyard.agent.artifacts import ArtifactUploads
        from runyard.agent.content_upload import ContentUploads
        from runyard.agent.files import FileUploads
        from runyard.agent.reader import JournalFollower
        from runyard.agent.side_journals import SideJournals
        from runyard.agent.uploader import Uploader

        server, disk = self.server, self._world.disk
        wait_s = store_wait_s(self._start_record, is_foreground=self._is_foreground)
        uploader = self._uploader = Uploader(
            server.transport, server.repeater, run, self.mark, budget=self._world.budget
        )
        files = FileUploads(
            server.transport,
            ContentUploads(server.transport, server.repeater, disk),
            disk,
            self.mark,
            repeater=server.repeater,
            folder=self.folder,
            run_path=run.path,
            store_wait_s=wait_s,
        )
        artifacts = self._artifacts = ArtifactUploads(
            server, disk, self.mark, folder=self.folder, run_path=run.path, store_wait_s=wait_s
        )
        journal = JournalFollower(
            disk, f"{self.folder}/journal", durable_sequence=self.mark.durable_sequence
        )
        self._journal = journal
        sides = self._sides = SideJournals(
            run, self.folder, world=self._world, server=server, is_kept=self._is_kept
        )
        stop_sampling = self._sample(run)
        self._stopping = stopping = self._listen_for_stops(run)
        stop_beating = server.heart.add(lambda: self._beat(run), run.run_key, stopping.order)
        try:
            await self._read_to_end(journal, uploader, files)
            if uploader.refusal is None and not journal.blocked and not self._is_current:
                await asyncio.gather(files.finish(), artifacts.finish())
            await uploader.drain()
            if uploader.refusal is None and not journal.blocked:
                stop_sampling()
                await sides.finish(is_live=self._is_current)
            if uploader.refusal is not None:
                self._refuse(uploader.refusal)
                return REFUSED
            if journal.blocked:
                self.mark.message = journal.blocked
                _log.error("journal_blocked %s: %s", self.folder, journal.blocked)
                return BLOCKED
            if self._is_current:
                return CURRENT
            is_waiting = files.is_waiting or artifacts.is_waiting
            outcome = await self._finish(run, journal, is_waiting=is_waiting)
            if outcome == COMPLETE and not self._is_kept:
                files.remove_copies()
                artifacts.remove_copies()
                sides.remove_all()
            return outcome
        finally:
            stop_beating()
            await stopping.stop()
            await uploader.stop()
            stop_sampling()
            await sides.stop()
            await files.stop()
            await artifacts.stop()
            journal.close()

    def _listen_for_stops(self, run: StartedRun) -> Stopping:
        return Stopping(
            self._world.disk,
            self.folder,
            run,
            transport=self.server.transport,
            repeater=self.server.repeater,
            watch=self._life.watch,
            time_unix_ns=self._world.time_unix_ns,
        )

    def _sample(self, run: StartedRun) -> Callable[[], None]:
        """Has the machine sampled for the run; returns what ends that."""
        if self._world.system is None or self._is_foreground or self.mark.is_ended:
            return lambda: None
        return self._world.system.add(self.folder, run.path, self._start_record)

    @property
    def _is_current(self) -> bool:
        """Returns whether the journal was read as far as it goes, without an end to send."""
        journal = self._journal
        return (
            self._is_foreground
            and self.is_writer_alive
            and (journal is None or journal.finish is None)
        )

    async def _read_to_end(
        self, journal: JournalFollower, uploader: Uploader, files: FileUploads
    ) -> None:
        """Returns when no record can follow: FINISH, a dead writer, or a refusal."""
        loop = asyncio.get_running_loop()
        poll_s, remove_time_s, writer_time_s = POLL_MIN_S, 0.0, 0.0
        while True:
            if self._is_foreground:
                self._look_for_writer()  # before reading: one that ends now may have written FINISH
            has_grown = await self._read_all(journal, uploader, files)
            if uploader.refusal or journal.blocked or journal.finish is not None:
                return
            is_last = self._is_foreground or not self.is_writer_alive or self.mark.is_ended
            if is_last and not has_grown:
                return
            files.look()
            if self._sides is not None:
                self._sides.look()
            if is_last:
                continue
            now_s = loop.time()
            if now_s >= remove_time_s:
                remove_time_s = now_s + REMOVE_INTERVAL_S
                self._remove_durable(journal)
            if now_s >= writer_time_s:
                writer_time_s = now_s + WRITER_LOOK_S
                if not self._look_for_writer():
                    continue  # what it wrote before it died is read once more
            poll_s = POLL_MIN_S if has_grown else min(POLL_MAX_S, poll_s * 1.2)
            await self._life.pause(GATHER_S if has_grown else poll_s)
            if self._life.is_cut:
                writer_time_s = 0.0

    async def _read_all(
        self, journal: JournalFollower, uploader: Uploader, files: FileUploads
    ) -> bool:
        """Submits all that is there; returns whether anything was."""
        from runyard.agent.submission import submit_all

        def hear(piece: Piece) -> None:
            files.record(event for event in piece.events if event.kind == form.FILE)
            if self._artifacts is not None:
                self._artifacts.record(e for e in piece.events if e.kind == form.ARTIFACT)
            self._hear(piece)

        return await submit_all(journal, uploader, self.mark, hear=hear)

    def _hear(self, piece: Piece) -> None:
        """Takes what the training process tells its agent."""
        for event in piece.events:
            if event.kind == form.STOP_TOLD and self._stopping is not None:
                self._stopping.told(event.payload)
            elif event.kind == form.CHANGE and b'"preemption_notice"' in event.payload:
                notice = json.loads(event.payload).get("preemption_notice")
                self._preemption_notice = str(notice or "") or self._preemption_notice

    async def _finish(self, run: StartedRun, journal: JournalFollower, *, is_waiting: bool) -> str:
        if not self.mark.is_ended and not await self._end(run, journal):
            return REFUSED
        self.mark.is_ended = True
        if is_waiting:
            _log.warning("run_waits %s: %s", run.path, self.mark.message)
            self.mark.write(is_synced=True)
            return WAITING
        self.mark.is_complete = True
        if self.mark.write(is_synced=True) and not (self.mark.records_refused or self._is_kept):
            for path in journal.paths():
                self._remove(path)
        return COMPLETE

    async def _end(self, run: StartedRun, journal: JournalFollower) -> bool:
        """Tells the server of the run's end; returns False if it is refused."""
        if journal.finish is None and not self._is_foreground:
            await self._life.wait(STATUS_WAIT_S)
        refused = self.mark.records_refused
        ending = dataclasses.replace(self._ending(journal), records_refused=refused)
        if self._world.pod is not None and endings.is_by_terminate(ending):
            ending = endings.preempted(ending, await self._world.pod.disruption())
        server = self.server
        if self._stopping is not None:
            await self._stopping.settle()
        try:
            await server.repeater.call(
                lambda: server.transport.finish_run(run.run_key, run.writer, ending)
            )
        except Error as error:
            self._refuse(error)
            return False
        _log.info("run_finished %s by %s, %d records", run.path, ending.cause, ending.last_sequence)
        return True

    async def _correct(self, run: StartedRun) -> None:
        """Watches a process that has told of its end until it has ended, and tells the server if it ended otherwise."""
        told, server = self._told, self.server
        if told is None or told.cause != endings.PROCESS_EXITED:
            return
        end = await self._life.wait(CORRECTION_WAIT_S)
        self.is_writer_alive = False
        if end is None or not endings.is_contradicted(told, end):
            return
        refused = self.mark.records_refused
        ending = dataclasses.replace(endings.correction(told, end), records_refused=refused)
        try:
            await server.repeater.call(
                lambda: server.transport.finish_run(run.run_key, run.writer, ending)
            )
        except Error as error:
            _log.error("end_not_corrected %s: %s %s", run.path, error.reason, error.message)
        else:
            _log.info("end_corrected %s to %s: %s", run.path, ending.cause, ending.evidence)

    def _ending(self, journal: JournalFollower) -> Ending:
        last_sequence = journal.next_sequence - 1
        end = self._life.end()
        if journal.finish is not None:
            told = endings.told_ending(
                journal.finish.payload,
                last_sequence=last_sequence,
                time_unix_ns=self._world.time_unix_ns(),
            )
            if end is None or not endings.is_contradicted(told, end):
                self._told = told
                return told
        if journal.is_torn:
            self.mark.message = (
                f"the process died while it wrote: the journal was recovered to its last whole "
                f"record, {last_sequence}"
            )
            _log.error("journal_recovered %s: %s", self.folder, self.mark.message)
        if end is not None:
            return endings.real_ending(
                end,
                last_sequence=last_sequence,
                stop_evidence=self._stopping.evidence(end) if self._stopping is not None else "",
                preemption_notice=self._preemption_notice,
            )
        return endings.vanished_ending(
            self._start_record,
            last_sequence=last_sequence,
            time_unix_ns=self._last_change_unix_ns(journal),
            removed_folder=self.folder if self._is_folder_gone() else "",
        )

    def _last_change_unix_ns(self, journal: JournalFollower) -> int:
        """Returns when the journal last grew: about when the process died."""
        paths = journal.paths()
        stamp = self._world.disk.stamp(paths[-1]) if paths else None
        return stamp[1] if stamp is not None else self._world.time_unix_ns()

    def _beat(self, run: StartedRun) -> Beat:
        journal = self._journal
        assert journal is not None
        return Beat(
            run_key=run.run_key,
            writer=run.writer,
            is_process_alive=self.is_writer_alive,
            last_step=journal.last_step,
            records_written=self.mark.written_sequence,
            records_durable=self.mark.durable_sequence,
        )

    def _look_for_writer(self) -> bool:
        """Notes whether the training process lives; a lock that was removed with its folder says nothing of it."""
        is_alive = self._life.is_alive()
        is_seen = self._life.watch is not None and not self._life.is_cut
        self.is_writer_alive = is_alive or (is_seen and self._is_folder_gone())
        return self.is_writer_alive

    def _is_folder_gone(self) -> bool:
        try:
            return self._world.disk.stamp(self.folder) is None
        except OSError:
            return False

    def _remove_durable(self, journal: JournalFollower) -> None:
        removable = journal.removable(self.mark.kept_sequence)
        if self._is_kept and removable and not self._is_too_large(journal):
            return
        if not removable or not self.mark.write(is_synced=True):
            return
        for path, first, last in removable:
            if self.mark.is_refused(first, last):
                return  # kept, for what the server refused is nowhere else
            self._remove(path)
            if self._is_kept and not self._is_too_large(journal):
                return

    @property
    def _is_kept(self) -> bool:
        """Returns whether the journal is kept for some days after the server has it."""
        return keep_days(self._start_record) > 0

    def _is_too_large(self, journal: JournalFollower) -> bool:
        """Returns whether more is kept of this run than it asked for at most."""
        stamps = [self._world.disk.stamp(path) for path in journal.paths()]
        kept_bytes = sum(stamp[0] for stamp in stamps if stamp is not None)
        return kept_bytes > int(self._start_record.get("keep_bytes_max") or 1 << 30)

    def _remove(self, path: str) -> None:
        try:
            self._world.disk.remove(path)
        except OSError as error:
            _log.warning("segment_not_removed %s: %s", path, error)

    def _was_known(self) -> bool:
        """Returns whether the server once began this very run: one that it never did is not what was deleted."""
        answer = marks.read_json(self._world.disk, f"{self.folder}/run.json") or {}
        return bool(answer.get("run_key"))

    def _refuse(self, error: Error) -> None:
        self.mark.server = marks.REFUSED
        self.mark.message = error.message
        if error.reason == RUN_DELETED:
            self._deletion = error
            self.mark.is_dropped = True
        _log.error("run_refused %s: %s %s", self.folder, error.reason, error.message)

    async def _drop(self, error: Error) -> None:
        """Removes what a deleted run wrote, and what it still writes; where that goes on, it is the agent's to do."""
        if self._is_foreground and self._look_for_writer():
            return
        await drop_data(
            self._world.disk,
            self.folder,
            self.mark,
            error,
            is_alive=self._look_for_writer,
            pause=self._life.pause,
        )

    def _tell_reach(self) -> None:
        reach = self.server.reach
        if reach.is_reachable is None or self.mark.server == marks.REFUSED:
            return
        self.mark.server = marks.REACHABLE if reach.is_reachable else marks.UNREACHABLE
        if not reach.is_reachable:
            self._reach_message = self.mark.message = reach.message
        elif self._reach_message and self.mark.message == self._reach_message:
            self.mark.message = ""
        self.mark.touch()
