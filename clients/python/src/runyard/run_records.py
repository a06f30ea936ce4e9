"""What a run writes into its journal besides rows: changes, files and its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from runyard import extended_json
from runyard import journal_format as form
from runyard.errors import UsageError
from runyard.exit_hooks import End
from runyard.journal import JournalWriter
from runyard.metric_log import MetricLog
from runyard.run_files import new_files
from runyard.run_folder import RunFolder
from runyard.terminal import Terminal

if TYPE_CHECKING:
    from runyard.console.capture import Capture
    from runyard.origin_link import OriginLink


class RunRecords:
    """Appends a run's changes in the order of the calls; after `close` they are passed over with a note."""

    def __init__(
        self,
        journal: JournalWriter,
        metrics: MetricLog,
        terminal: Terminal,
        folder: RunFolder | None,
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._terminal = terminal
        self._folder = folder
        self._closed_by = ""
        self._saved_paths: set[Path] = set()
        self.console: Capture | None = None
        """What keeps what is printed, where anything does."""
        self.origin: OriginLink | None = None
        """What finds out where the run came from, where anything does."""
        self.before_end: list[Callable[[], None]] = []
        """What is called once when the run is about to end and still takes records."""

    @property
    def is_closed(self) -> bool:
        """Returns whether the run takes no records any more."""
        return bool(self._closed_by)

    def write_config(self, changed: Mapping[str, Any], removed: Iterable[str]) -> None:
        """Records changes of the config."""
        fields: dict[str, Any] = {}
        if changed:
            fields["config_set"] = extended_json.plain(changed, note=self._terminal.note)
        gone = list(removed)
        if gone:
            fields["config_removed"] = gone
        self.change(fields)

    def write_summary(self, changed: Mapping[str, Any], removed: list[str]) -> None:
        """Records changes of the summary."""
        fields: dict[str, Any] = {}
        if changed:
            fields["summary_set"] = extended_json.plain(changed, note=self._terminal.note)
        if removed:
            fields["summary_removed"] = removed
        self.change(fields)

    def change(self, fields: Mapping[str, Any]) -> None:
        """Records a change of the run's document."""
        self.write(form.CHANGE, fields)

    def write(self, kind: int, fields: Mapping[str, Any]) -> None:
        """Appends a frame with a JSON object."""
        if self._closed_by:
            where = f"changes made in {self._closed_by} are not recorded"
            self._terminal.note("late_change", where)
            return
        payload = extended_json.dumps(dict(fields)).encode()
        self._metrics.append_frame(kind, payload)

    def check_open(self, what: str) -> None:
        """Raises UsageError if nothing can be recorded any more."""
        if self._closed_by:
            raise UsageError(f"{what} in {self._closed_by} has nowhere to go")

    def write_file(self, path: Path, name: str, policy: str, *, is_copy: bool = False) -> None:
        """Has a file uploaded under a name; of policy "now" a copy, so that it may change at once.

        `is_copy`: the file was made for the upload and may be removed after it.
        """
        if self._folder is None:
            return
        try:
            copy = self._folder.files_path / name
            if policy == "now" and copy != path:
                is_copy = True
                _copy(path, copy, self._folder.path)
                path = copy
            stat = path.stat()
        except OSError as error:
            self._terminal.warn(f"save.{name}", f"save(): {path} cannot be read or copied: {error}")
            return
        self._saved_paths.add(path)
        fields = {
            "path": str(path),
            "name": name,
            "policy": policy,
            "size_bytes": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            **({"is_copy": True} if is_copy else {}),
        }
        self.write(form.FILE, fields)

    def pass_over(self, path: Path) -> None:
        """Leaves a file in the run's own folder where it is at the end of the run."""
        self._saved_paths.add(path)

    def warn(self, key: str, text: str) -> None:
        """Prints a warning once per key."""
        self._terminal.warn(key, text)

    def tick(self) -> None:
        """Looks after the console and the run's origin; called by the journal's thread."""
        if self.console is not None:
            self.console.tick()
        self._write_origin()

    def write_rest(self) -> None:
        """Ends the console, and has the files uploaded that the script put into the run's own folder itself."""
        calls, self.before_end = self.before_end, []
        for call in calls:
            try:
                call()
            except Exception as error:  # of an integration: the run ends all the same
                self._terminal.warn(
                    "before_end", f"the end of the run: {type(error).__name__}: {error}"
                )
        if self.console is not None:
            self.console.stop()
        if self._folder is None:
            return
        if self.origin is not None:
            self.origin.wait()
        self._write_origin()
        for path, name in new_files(self._folder.files_path, self._saved_paths):
            self.write_file(path, name, "end")

    def close(self, end: End) -> None:
        """Appends the run's end and closes the journal."""
        fields: dict[str, Any] = {
            "exit_code": end.exit_code,
            "cause": end.cause,
            "evidence": end.evidence,
            "time_unix_ns": self._metrics.now_unix_ns(),
        }
        if end.exception is not None:
            fields["exception"] = end.exception
        if end.is_of_kernel:
            fields["is_of_kernel"] = True
        if self.console is not None:
            self.console.leave()
        self._closed_by = "a finished run"
        payload = extended_json.dumps(extended_json.plain(fields)).encode()
        self._journal.close((form.FINISH, payload))

    def _write_origin(self) -> None:
        """Records where the run came from, once that is found out."""
        found = self.origin.take() if self.origin is not None else None
        if found is None or self._folder is None:
            return
        facts, names = found
        for name in names:
            self.write_file(self._folder.files_path / name, name, "now", is_copy=True)
        if facts:
            self.change({"host_facts": extended_json.plain(facts)})

    def abandon(self) -> None:
        """Stops recording without touching the journal: in a forked child."""
        if self.console is not None:
            self.console.abandon()
        self.origin = None
        self._closed_by = "a forked child"
        self._journal.abandon()
        self._metrics.abandon()


def _copy(path: Path, copy: Path, folder: Path) -> None:
    """Copies a file; what is at `copy` is the old one or the new one, never a part of it, whatever ends the copying."""
    number, partial = tempfile.mkstemp(dir=folder, prefix="copy-")
    os.close(number)
    try:
        shutil.copy2(path, partial)
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, copy)  # noqa: PTH105 (a text and a path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)  # noqa: PTH108
        raise
