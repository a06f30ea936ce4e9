"""The part of a run's handle that is about artifacts: logs them, and uses those of other runs; `Run` sets the attributes."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from runyard import extended_json, naming
from runyard import journal_format as form
from runyard.errors import InvalidArgument, Unavailable, UsageError
from runyard.given import local_path, shown
from runyard.run_records import RunRecords
from runyard.settings import ResolvedSettings
from runyard.terminal import Terminal

if TYPE_CHECKING:
    from runyard.active_run import RunParts
    from runyard.artifacts.artifact import Artifact
    from runyard.artifacts.pending import Pending
    from runyard.artifacts.records import VersionRecord

UNSPECIFIED = "unspecified"
ENTRY_COUNT_MAX = 300_000
"""Of one artifact; the server takes no more unless it is set so."""


class RunArtifacts:
    """What `Run` offers for artifacts."""

    _parts: RunParts
    _records: RunRecords
    _settings: ResolvedSettings
    _terminal: Terminal
    _pendings: tuple[Pending, ...] = ()

    @property
    def path(self) -> str:
        """Returns entity/project/run_id; see Run.path."""
        raise NotImplementedError

    @property
    def is_answered(self) -> bool:
        """Returns whether the server has answered to the start; see Run.is_answered."""
        raise NotImplementedError

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | Path,
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | str | None = None,
        tags: Sequence[str] | str | None = None,
    ) -> Artifact:
        """Logs an artifact, or a file or folder as one, and returns it; asks no server.

        Its files are final from now on. The agent sends it; `wait()` on what is returned waits until it is a version.
        Content that the newest version has already makes no new one. `latest` always points to what was logged last.
        """
        from runyard.artifacts.artifact import Artifact, labels_to_log

        if isinstance(artifact_or_path, Artifact):
            artifact = artifact_or_path
            if name is not None and name != artifact.name.partition(":")[0]:
                raise InvalidArgument(
                    f"log_artifact(): the artifact is called {artifact.name!r}, and name={name!r} was given"
                )
        else:
            artifact = self._made(artifact_or_path, name, type or UNSPECIFIED)
        wanted, kept = labels_to_log(artifact, aliases, tags)
        self._hand_over(artifact, wanted, kept)
        return artifact

    def use_artifact(
        self,
        artifact_or_name: Artifact | str,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        use_as: str | None = None,
    ) -> Artifact:
        """Records that the run uses a version, and returns it: "name:alias", "name:v3", "entity/project/name:alias".

        An artifact that was not logged is logged first, with `aliases`. Asks the server. Raises NotFound, Unavailable,
        InvalidArgument (a ValueError) if it is of another type than `type`, UsageError in an offline run.
        """
        from runyard.artifacts.artifact import Artifact

        if isinstance(artifact_or_name, Artifact):
            if artifact_or_name.is_draft():
                if not artifact_or_name._is_final:
                    self.log_artifact(artifact_or_name, aliases=aliases)
                artifact_or_name.wait()
            if self._settings.mode == "disabled":
                return artifact_or_name
            wanted = artifact_or_name.qualified_name
        else:
            wanted = str(artifact_or_name)
        if self._settings.mode == "offline":
            raise UsageError(
                f"use_artifact({shown(wanted)}): an offline run cannot record that it uses an artifact. "
                f"Api().artifact({shown(wanted)}) fetches one without recording it, where the server can be reached"
            )
        module = importlib.import_module("runyard.api_artifacts")
        if self._settings.mode == "disabled":
            found = module.read_version(wanted, self._settings, kind=type)
        else:
            self._check_started(wanted)
            found = module.use_version(self.path, wanted, self._settings, kind=type)
        return artifact_or_name if isinstance(artifact_or_name, Artifact) else found

    def log_model(
        self,
        path: str | Path,
        name: str | None = None,
        aliases: Sequence[str] | str | None = None,
    ) -> Artifact:
        """Logs a file or folder as an artifact of type "model"; see log_artifact."""
        return self.log_artifact(path, name=name, type="model", aliases=aliases)

    def use_model(self, name: str) -> str:
        """Records that the run uses a model, downloads it, and returns its path: the file's, or the folder's if it has several."""
        artifact = self.use_artifact(name)
        if "model" not in artifact.type.lower():
            raise InvalidArgument(
                f"use_model(): {artifact.name} is of type {artifact.type!r}, not a model; use_artifact() takes any"
            )
        folder = artifact.download()
        entries = artifact.files()
        return str(Path(folder, entries[0].path)) if len(entries) == 1 else folder

    def log_code(
        self,
        root: str | os.PathLike[str] | None = ".",
        name: str | None = None,
        include_fn: Callable[..., bool] | None = None,
        exclude_fn: Callable[..., bool] | None = None,
    ) -> Artifact | None:
        """Logs the source code under `root` as an artifact of type "code" and returns it; None if no file is chosen.

        `include_fn` and `exclude_fn` take a path, or a path and the root, and choose files; unless told, Python files,
        requirements.txt and Dockerfiles, under the name "source-PROJECT-SCRIPT". See code_files for what is never
        searched. Asks no server. Raises InvalidArgument if `root` is no folder.
        """
        from runyard.artifacts.artifact import Artifact
        from runyard.code_files import code_files, is_source
        from runyard.origin_link import source_path

        script = source_path()
        name = name or f"source-{self._settings.project}-{script.name if script else 'code'}"
        artifact = Artifact(re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:128], "code")
        folder = self._parts.folder
        run_root = None if folder is None else folder.path.parent.absolute()
        count = 0
        for path, below in code_files(root or ".", include_fn or is_source, exclude_fn, run_root):
            artifact.add_file(path, name=below)
            count += 1
        return self.log_artifact(artifact) if count else None

    @property
    def artifacts_pending(self) -> int:
        """Returns how many artifacts were logged of which the agent has not told what became of them."""
        self._pendings = tuple(one for one in self._pendings if one.answer() is None)
        return len(self._pendings)

    def _made(self, path: str | Path, name: str | None, kind: str) -> Artifact:
        """Returns an artifact of a file, a folder or an address."""
        from runyard.artifacts.artifact import Artifact

        text = local_path(path, "log_artifact(): artifact_or_path")
        last = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(text.rstrip("/")).name)
        artifact = Artifact(name or f"run-{self._parts.run_id}-{last}"[:128], kind)
        if "://" in text:
            artifact.add_reference(text)
        elif os.path.isdir(text):  # noqa: PTH112 (of what can be no path, too)
            artifact.add_dir(text)
        elif os.path.isfile(text):  # noqa: PTH113
            artifact.add_file(text)
        else:
            raise InvalidArgument(
                f"log_artifact(): there is no file or folder {shown(text)}", reason="FILE_NOT_FOUND"
            )
        return artifact

    def _hand_over(self, artifact: Artifact, aliases: Sequence[str], tags: Sequence[str]) -> None:
        from runyard.artifacts.entries import by_path, check_folders, manifest_digest
        from runyard.artifacts.pending import Pending, hand_over

        folder = self._parts.folder
        if folder is None:
            if self._settings.mode != "disabled":
                self._terminal.warn(
                    "artifact",
                    "log_artifact(): there is no folder to keep artifacts in; passed over",
                )
            artifact.hand_in(None, self._settings)
            return
        self._records.check_open("log_artifact()")
        entries = by_path(artifact._all().values())
        if len(entries) > ENTRY_COUNT_MAX:
            raise InvalidArgument(
                f"the artifact has {len(entries):,} entries, at most {ENTRY_COUNT_MAX:,} are allowed; pack small files into "
                f"archives, or make several artifacts",
                reason="FIELD_TOO_LARGE",
            )
        check_folders(entries)
        request_id = naming.draw_request_id()
        fields = {
            "request_id": request_id,
            "name": artifact.collection_name,
            "type": artifact.type,
            "description": artifact.description,
            "metadata": extended_json.plain(artifact.metadata, note=self._terminal.note),
            "aliases": list(aliases),
            "tags": list(tags),
            "ttl_s": int(artifact.ttl.total_seconds()) if artifact.ttl is not None else 0,
            "digest": manifest_digest(entries),
            "entry_count": len(entries),
        }
        record_bytes = len(extended_json.dumps(fields).encode())
        artifacts = folder.path / "artifacts"
        hand_over(entries, artifact._cache, artifacts, request_id, record_bytes=record_bytes)
        self._records.write(form.ARTIFACT, fields)
        journal = self._parts.journal
        pending = Pending(
            artifacts,
            request_id,
            name=artifact.collection_name,
            is_offline=self._parts.link is None,
            read_sequence=lambda: journal.sequence,
            read_mark=folder.read_mark,
            is_held=lambda: journal.held_count > 0,
            read_version=self._read_version,
            revive=self._revive_agent,
            note=self._terminal.note,
        )
        self._pendings = (*self._pendings, pending)
        artifact.hand_in(pending, self._settings)

    def _read_version(self, path: str) -> VersionRecord:
        module = importlib.import_module("runyard.api_artifacts")
        record: VersionRecord = module.read_version(path, self._settings)._version_record()
        return record

    def _revive_agent(self) -> None:
        folder, link = self._parts.folder, self._parts.link
        if folder is not None and link is not None:
            link.revive(folder.read_mark(), self._parts.journal.sequence + 1)

    def _check_started(self, wanted: str) -> None:
        """Raises Unavailable if the server does not know the run yet: nothing could be recorded for it."""
        self.path  # noqa: B018 (looks for an answer that has come since)
        if not self.is_answered:
            raise Unavailable(
                f"use_artifact({shown(wanted)}): the server at {self._settings.base_url} has not answered to the start of this run "
                f"yet, so that nothing can be recorded for it",
                reason="UNREACHABLE",
            )
