"""The folder `artifacts` of a run: what the training process handed over, and what became of it.

<request_id>.manifest            from the training process: what the artifact holds
staged/<request_id>.<sha256>     from the training process: contents that are not the script's own files
<request_id>.request             the ARTIFACT record, once the journal was read past it
<request_id>.json                the answer: the version that it became, or why it did not

The training process makes the last two with nothing but spaces: on a disk that is full when they are due, they have their room.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from runyard.agent.artifact_ports import ManifestEntry
from runyard.agent.mark import read_json
from runyard.agent.ports import Disk
from runyard.artifacts.records import VersionRecord
from runyard.errors import CLASS_BY_CODE, Error, FailedPrecondition

READ_BYTES = 1 << 18
LINE_BYTES_MAX = 64 << 10
_REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")

_log = logging.getLogger("runyard.agent")


class ArtifactFolder:
    """Reads and writes it. What a disk refuses to write or remove is logged, and raises nothing."""

    def __init__(self, disk: Disk, run_folder: str) -> None:
        self._disk = disk
        self._path = f"{run_folder}/artifacts"
        self._unnoted: dict[str, tuple[Mapping[str, Any], dict[str, Any]]] = {}

    def waiting(self) -> list[dict[str, Any]]:
        """Returns the requests that have no answer yet, in the order of their records."""
        found = []
        for name in self._disk.names(self._path):
            if name.endswith(".request"):
                request = read_json(self._disk, f"{self._path}/{name}")
                if request is not None and not self.is_answered(request):
                    found.append(request)
        return sorted(found, key=lambda request: int(request.get("sequence") or 0))

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yields the answers that there are."""
        for name in self._disk.names(self._path):
            if name.endswith(".json"):
                answer = read_json(self._disk, f"{self._path}/{name}")
                if answer is not None:
                    yield answer

    def is_answered(self, request: Mapping[str, Any]) -> bool:
        """Returns whether it is known what became of a request."""
        return read_json(self._disk, f"{self._path}/{_id(request)}.json") is not None

    def keep_request(self, request: Mapping[str, Any]) -> bool:
        """Keeps a request, so that the mark may pass its record; returns False if the disk refuses."""
        return self._write(f"{_id(request)}.request", request)

    @property
    def unnoted(self) -> Mapping[str, tuple[Mapping[str, Any], dict[str, Any]]]:
        """Returns requests and answers that the disk refused, by the id of the request."""
        return self._unnoted

    def note_again(self) -> list[str]:
        """Tries to note what the disk refused; returns the ids of the requests whose answers are there now."""
        noted = []
        for request_id, (request, answer) in list(self._unnoted.items()):
            if self._write(f"{request_id}.json", answer, is_again=True):
                del self._unnoted[request_id]
                noted.append(request_id)
                if "error" not in answer:
                    self.clean(request)
        return noted

    def keep_version(
        self, request: Mapping[str, Any], version: VersionRecord, *, is_unchanged: bool
    ) -> None:
        """Keeps the answer that it is a version, then removes what was handed over."""
        fields = {**version.__dict__, "path": version.path}
        answer = {
            "format": 1,
            "version": fields,
            "is_unchanged": is_unchanged,
            "path": version.path,
        }
        if self._note(request, answer):
            self.clean(request)

    def keep_failure(self, request: Mapping[str, Any], error: Exception) -> None:
        """Keeps the answer that it is none, and why; what was handed over stays, for it may be nowhere else."""
        code = next((c for c, cls in CLASS_BY_CODE.items() if type(error) is cls), "")
        told = error.message if isinstance(error, Error) else str(error)
        reason = error.reason if isinstance(error, Error) else ""
        fields = {"code": code, "reason": reason, "message": told}
        name = str(request.get("name") or "")
        self._note(request, {"format": 1, "name": name, "error": fields})

    def entries(self, request: Mapping[str, Any]) -> Iterator[ManifestEntry]:
        """Yields the entries of a manifest in order, in bounded memory; raises OSError, FailedPrecondition if it is damaged."""
        for line in self._lines(f"{self._path}/{_id(request)}.manifest"):
            yield self._entry(line)

    def clean(self, request: Mapping[str, Any]) -> None:
        """Removes what was handed over for a request."""
        request_id = _id(request)
        for name in self._disk.names(f"{self._path}/staged"):
            if name.startswith(f"{request_id}."):
                self._remove(f"staged/{name}")
        self._remove(f"{request_id}.manifest")
        self._remove(f"{request_id}.request")

    def clean_all(self, *, is_with_failed: bool = False) -> None:
        """Removes what was handed over for requests that are answered or were never made; what failed stays unless told."""
        kept = set()
        for name in [] if is_with_failed else self._disk.names(self._path):
            if name.endswith(".request") and read_json(self._disk, f"{self._path}/{name}"):
                answer = read_json(self._disk, f"{self._path}/{name[: -len('.request')]}.json")
                if answer is None or "error" in answer:
                    kept.add(name[: -len(".request")])
        for name in self._disk.names(f"{self._path}/staged"):
            if name.partition(".")[0] not in kept:
                self._remove(f"staged/{name}")
        for name in self._disk.names(self._path):
            stem, _, ending = name.partition(".")
            if stem not in kept and ending in ("manifest", "manifest.new", "request"):
                self._remove(name)
            elif ending == "json" and read_json(self._disk, f"{self._path}/{name}") is None:
                self._remove(name)  # room for an answer that nobody gave

    def _lines(self, path: str) -> Iterator[bytes]:
        file = self._disk.open(path)
        if file is None:
            raise FailedPrecondition(f"its manifest {path} is gone", reason="FILE_NOT_FOUND")
        try:
            offset, rest = 0, b""
            while content := file.read_at(offset, READ_BYTES):
                offset += len(content)
                *lines, rest = (rest + content).split(b"\n")
                yield from lines
                if len(rest) > LINE_BYTES_MAX:
                    break
            if rest:
                raise FailedPrecondition(f"its manifest {path} is damaged", reason="FILE_CHANGED")
        finally:
            file.close()

    def _entry(self, line: bytes) -> ManifestEntry:
        try:
            fields = json.loads(line)
            source = str(fields.get("source") or "")
            return ManifestEntry(
                path=str(fields["path"]),
                size_bytes=int(fields["size_bytes"]),
                sha256=bytes.fromhex(fields.get("sha256") or ""),
                reference=str(fields.get("reference") or ""),
                etag=str(fields.get("etag") or ""),
                # What is beside the manifest is told relative to it: run folders are moved before they are synced.
                source=f"{self._path}/{source}" if source.startswith("staged/") else source,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FailedPrecondition("its manifest is damaged", reason="FILE_CHANGED") from error

    def _note(self, request: Mapping[str, Any], answer: dict[str, Any]) -> bool:
        """Writes an answer; where its room is too small, without the metadata, which the server tells, too."""
        name = f"{_id(request)}.json"
        if self._write(name, answer):
            return True
        version = answer.get("version") or {}
        if version.get("metadata_json"):
            answer = {**answer, "version": {**version, "metadata_json": ""}}
            if self._write(name, answer):
                return True
        self._unnoted[_id(request)] = (request, answer)
        return False

    def _write(self, name: str, fields: Mapping[str, Any], *, is_again: bool = False) -> bool:
        content = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
        try:
            self._disk.replace(f"{self._path}/{name}", content, is_synced=False)
        except OSError as error:
            level = logging.DEBUG if is_again else logging.ERROR
            _log.log(
                level, "artifact_not_noted %s/%s: %s; make room there", self._path, name, error
            )
            return False
        return True

    def _remove(self, name: str) -> None:
        try:
            self._disk.remove(f"{self._path}/{name}")
        except OSError as error:
            _log.warning("artifact_not_removed %s/%s: %s", self._path, name, error)


def checked_request(payload: bytes, sequence: int) -> dict[str, Any] | None:
    """Returns the content of an ARTIFACT record with its sequence; None if its id can be no file's name."""
    request = json.loads(payload)
    if not _REQUEST_ID.fullmatch(str(request.get("request_id") or "")):
        return None
    return {**request, "sequence": sequence}


def _id(request: Mapping[str, Any]) -> str:
    return str(request["request_id"])
