"""Copies what is written for TensorBoard into runs: `init(sync_tensorboard=True)`, or `watch(folder)`.

A thread of this process reads event files as they grow. Each number keeps the step and the time that it was written with,
whatever step the run itself is at.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard.errors import Error, InvalidArgument, UsageError
from runyard.integration import event_writers
from runyard.integration.event_files import EventFile
from runyard.integration.event_values import Found, as_media
from runyard.naming import metric_name_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runyard.active_run import Run

POLL_INTERVAL_S = 1.0
FLUSH_INTERVAL_S = 5.0
"""Writers hold back up to two minutes' worth; they are asked for it so often."""
IDLE_FACTOR = 9
"""Reading takes at most one part in so many and one of the thread's time while the script trains."""
FILE_COUNT_MAX = 20_000
EVENT_FILE_MARK = "tfevents"
SPLITS = ("train", "training", "validation", "val", "valid", "eval", "evaluation", "test")
"""Folders of these names are parts of one training, which lies in the folder above them."""
REMOTE_MARK = "://"


def watch(
    logdir: str | os.PathLike[str],
    run: Run | None = None,
    *,
    prefix: str = "",
    existing: bool | None = None,
) -> Watch:
    """Follows all event files under a folder, whoever writes them, until the run ends or `stop()` is called.

    Numbers are named PREFIX/SUBFOLDER/TAG, without the parts that are empty. `existing` says whether what the files hold by
    now is read too; unless given, it is, but not in a resumed run, which has it from before.
    """
    run = run if run is not None else _current_run("tensorboard.watch")
    if REMOTE_MARK in os.fspath(logdir):
        raise InvalidArgument(
            f"tensorboard.watch(): {logdir!r} is no folder of this machine, and no other can be followed"
        )
    watching = Watch(run)
    root = Path(logdir).absolute()
    if existing is False or (existing is None and run.resumed):
        watching.pass_over(root, is_deep=True)
    watching.add_folder(root, prefix.strip("/"), is_deep=True)
    return watching


def sync(run: Run) -> None:
    """Follows what this process writes for TensorBoard from now on, until the run ends; a repeat does nothing."""
    if run.disabled or any(one.run is run for one in _syncs):
        return
    _syncs.append(_Sync(run))


def patch(root_logdir: str = "", **others: Any) -> None:
    """Says in which folder all log folders lie, so that numbers are named by their folders in it; starts to sync the current run.

    Known from wandb; its other arguments (`save`, `pytorch`, `tensorboard_x`) are not needed. Before `init` too.
    """
    global _root
    _root = Path(root_logdir).absolute() if root_logdir else None
    from runyard import run_registry

    run = run_registry.current()
    if run is not None:
        sync(run)


def unpatch() -> None:
    """Forgets the folder that `patch` named."""
    global _root
    _root = None


class Watch:
    """Follows event files for one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._folders: dict[Path, tuple[str, bool]] = {}
        """Prefix of each folder, and whether the folders in it count."""
        self._files: dict[Path, tuple[EventFile, str]] = {}
        """What is followed, with its prefix."""
        self._begun: dict[Path, EventFile] = {}
        """Files of which a part was passed over."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._flush_time_s = 0.0

    def add_folder(self, folder: Path, prefix: str, *, is_deep: bool) -> None:
        """Follows a folder, which need not be there yet; a repeat does nothing."""
        with self._lock:
            self._folders.setdefault(folder, (prefix, is_deep))
            if self._thread is None and not self._stop.is_set() and not self.run.disabled:
                self.run.before_end(self.stop)
                self._thread = threading.Thread(
                    target=self._follow, name="runyard-tensorboard", daemon=True
                )
                self._thread.start()

    def pass_over(self, folder: Path, *, is_deep: bool) -> None:
        """Leaves out what the event files of the folder hold by now; what comes into them later counts."""
        for path in _event_files(folder, is_deep=is_deep):
            if path not in self._files:
                file = self._begun[path] = EventFile(path)
                while file.read(None):
                    pass

    def stop(self) -> None:
        """Returns when all that was written by now is in the run, or the run's `finish_timeout_s` are over."""
        self._stop.set()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        timeout_s = self.run.settings.finish_timeout_s
        thread.join(timeout_s)
        if thread.is_alive():
            self._tell("late", f"not all of the TensorBoard files was read within {timeout_s:g} s")

    def _follow(self) -> None:
        while not self._stop.is_set():
            start_s = time.monotonic()
            if start_s >= self._flush_time_s:
                self._flush_time_s = start_s + FLUSH_INTERVAL_S
                event_writers.flush()
            self._look(is_last=False)
            self._stop.wait(max(POLL_INTERVAL_S, IDLE_FACTOR * (time.monotonic() - start_s)))
        event_writers.flush()
        self._look(is_last=True)

    def _look(self, *, is_last: bool) -> None:
        """Reads what is new in all files."""
        try:
            self._find_files()
            for file, prefix in self._files.values():
                self._read(file, prefix, is_last=is_last)
                if file.problem:
                    self._tell(str(file.path), f"{file.path}: {file.problem}")
        except Exception as error:  # the edge of a background task: the script goes on without it
            self._tell("failed", f"TensorBoard files: {type(error).__name__}: {error}")

    def _find_files(self) -> None:
        for folder, (prefix, is_deep) in list(self._folders.items()):
            for path in _event_files(folder, is_deep=is_deep):
                if path in self._files:
                    continue
                if len(self._files) >= FILE_COUNT_MAX:
                    self._tell(
                        "files", f"of the TensorBoard files only {FILE_COUNT_MAX:,} are read"
                    )
                    return
                below = path.parent.relative_to(folder).as_posix()
                name = "/".join(part for part in (prefix, below) if part not in ("", "."))
                begun = self._begun.pop(path) if path in self._begun else EventFile(path)
                self._files[path] = begun, name

    def _read(self, file: EventFile, prefix: str, *, is_last: bool) -> None:
        def take(found: Found) -> None:
            name = f"{prefix}/{found.tag}" if prefix else found.tag
            problem = metric_name_problem(name)
            if problem:
                self._tell(
                    name,
                    f"TensorBoard: the tag {found.tag[:100]!r} is left out: its name {problem}",
                )
                return
            time_unix_ns = found.time_unix_ns or time.time_ns()
            try:
                value = as_media(found.value)
                self.run.log_beside({name: value}, step=found.step, time_unix_ns=time_unix_ns)
            except (Error, TypeError) as error:  # an image that is none, say
                self._tell(name, f"TensorBoard: a value of {name!r} is left out: {error}")

        start_s = time.monotonic()
        while file.read(take, is_last=is_last):
            if not is_last:
                if self._stop.wait(IDLE_FACTOR * (time.monotonic() - start_s)):
                    return
                start_s = time.monotonic()

    def _tell(self, topic: str, sentence: str) -> None:
        self.run.note(f"tensorboard.{topic}", sentence)


class _Sync:
    """Follows the folders of the writers that this process makes, for one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._watch = Watch(run)
        self._base: Path | None = None
        """The folder that names of folders are told from."""
        self._prefixes: dict[Path, str] = {}
        event_writers.listen(self._take_writer)
        run.before_end(self._stop)

    def _take_writer(self, logdir: str) -> None:
        if REMOTE_MARK in logdir:
            self.run.note(
                "tensorboard.remote", f"{logdir} is no folder of this machine: it is not followed"
            )
            return
        folder = Path(logdir).absolute()
        if folder not in self._prefixes:
            self._watch.pass_over(folder, is_deep=False)  # of an earlier training
            self._prefixes[folder] = prefix = self._prefix(folder)
            self._watch.add_folder(folder, prefix, is_deep=False)

    def _prefix(self, folder: Path) -> str:
        """Returns what tells the numbers of this folder from those of others."""
        base = _root or self._base
        if base is None:
            base = self._base = folder.parent if folder.name.lower() in SPLITS else folder
        parts = folder.parts
        if folder == base or base in folder.parents:
            prefix = folder.relative_to(base).as_posix().strip(".")
        else:
            prefix = folder.name
        length = 1
        while prefix in self._prefixes.values() and length < len(parts):
            length += 1
            prefix = "/".join(parts[-length:])
        return prefix

    def _stop(self) -> None:
        event_writers.forget(self._take_writer)
        if self in _syncs:
            _syncs.remove(self)
        self._watch.stop()


_syncs: list[_Sync] = []
_root: Path | None = None


def _event_files(folder: Path, *, is_deep: bool) -> Iterator[Path]:
    """Yields the event files in the folder, in the order of their names, which is that of their times."""
    try:
        for place, below, names in os.walk(folder):
            if not is_deep:
                below.clear()
            below.sort()
            for name in sorted(names):
                if EVENT_FILE_MARK in name:
                    yield Path(place, name)
    except OSError:
        return


def _current_run(what: str) -> Run:
    from runyard import run_registry

    run = run_registry.current()
    if run is None:
        raise UsageError(f"call runyard.init() before {what}, or give it the run")
    return run
