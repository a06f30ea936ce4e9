"""The part of a run's handle that is about what a run carries besides numbers; `Run` sets the attributes."""

from __future__ import annotations

from pathlib import Path

from runyard.run_files import check_policy, files_to_save
from runyard.run_records import RunRecords
from runyard.terminal import Terminal


class RunContents:
    """What `Run` offers for files."""

    _records: RunRecords
    _terminal: Terminal

    def save(
        self,
        glob_str: str | Path | None = None,
        base_path: str | Path | None = None,
        policy: str = "live",
    ) -> list[str]:
        """Uploads files: `live` whenever they change, `end` when the run ends, `now` as they are now.

        Returns the paths of the files that matched.
        """
        check_policy(policy)
        if glob_str is None:  # how scripts of old made a new name stick
            self._terminal.note("save", "save() without a path does nothing")
            return []
        pattern = str(glob_str)
        files = files_to_save(pattern, str(base_path) if base_path is not None else None)
        if not files:
            self._terminal.note(f"save.{pattern}", f"save(): no file matches {pattern!r}")
        for path, name in files:
            self._records.write_file(path, name, policy)
        return [str(path) for path, _ in files]
