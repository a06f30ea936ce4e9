"""The part of a run's handle that is about what a run carries besides numbers; `Run` sets the attributes."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from runyard.errors import UsageError
from runyard.run_files import check_policy, files_to_save
from runyard.run_records import RunRecords
from runyard.terminal import Terminal

if TYPE_CHECKING:
    from runyard.settings import ResolvedSettings


class RunContents:
    """What `Run` offers for files."""

    _records: RunRecords
    _terminal: Terminal
    _settings: ResolvedSettings
    path: Any
    dir: Any

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
        base = str(base_path) if base_path is not None else None
        files = files_to_save(pattern, base, self._terminal.warn)
        if not files:
            self._terminal.note(f"save.{pattern}", f"save(): no file matches {pattern!r}")
        for path, name in files:
            self._records.write_file(path, name, policy)
        return [str(path) for path, _ in files]

    def restore(
        self,
        name: str,
        run_path: str | None = None,
        replace: bool = False,
        root: str | Path | None = None,
    ) -> IO[str]:
        """Brings back a file of this run, or of the run at `run_path`; returns it open for reading, its `name` is the path.

        It is put into the run's folder, or under `root`. What is there already is taken, unless `replace`. Raises NotFound,
        Unavailable, and DataLoss if the content is not what was stored.
        """
        from runyard.run_restore import restore

        if self._settings.mode != "online" and run_path is None:
            raise UsageError(
                f"restore({name!r}): a run in mode {self._settings.mode!r} has nothing on a server; give run_path="
            )
        own_folder = Path(self.dir) if self.dir else Path()
        folder = own_folder if root is None else Path(root)
        file = restore(
            name,
            run_path or self.path,
            root=folder,
            replace=replace,
            base_url=self._settings.base_url,
        )
        if root is None:  # what came from there need not go there
            self._records.pass_over(Path(file.name))
        return file
