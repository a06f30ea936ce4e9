"""Messages of files.v1.ArtifactsService, from and to plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runyard.agent.artifact_ports import Draft, ManifestEntry
from runyard.agent.ports import FileDigest, UploadPlan
from runyard.artifacts.records import VersionRecord
from runyard_protos.files.v1 import artifacts_pb2


def create_draft_request(run_path: str, request: Mapping[str, Any]) -> bytes:
    """Returns the CreateDraftRequest of an ARTIFACT record."""
    metadata = request.get("metadata") or {}
    message = artifacts_pb2.CreateDraftRequest(
        run_path=run_path,
        request_id=str(request.get("request_id") or ""),
        name=str(request.get("name") or ""),
        type=str(request.get("type") or ""),
        description=str(request.get("description") or ""),
        metadata_json=json.dumps(metadata, ensure_ascii=False, separators=(",", ":")) if metadata else "",
        digest=bytes.fromhex(str(request.get("digest") or "")),
        entry_count=int(request.get("entry_count") or 0),
    )  # fmt: skip
    return message.SerializeToString()


def draft(reply: bytes) -> Draft:
    """Returns what a CreateDraftResponse says."""
    message = artifacts_pb2.CreateDraftResponse.FromString(reply)
    version = version_record(message.version) if message.HasField("version") else None
    return Draft(message.draft_id, version, message.is_present)


def add_entries_request(draft_id: str, entries: Sequence[ManifestEntry]) -> bytes:
    """Returns the AddEntriesRequest."""
    message = artifacts_pb2.AddEntriesRequest(
        draft_id=draft_id,
        entries=[
            artifacts_pb2.Entry(
                path=entry.path,
                size_bytes=entry.size_bytes,
                sha256=entry.sha256,
                reference=entry.reference,
                etag=entry.etag,
            )
            for entry in entries
        ],
    )
    return message.SerializeToString()


def missing(reply: bytes) -> list[int]:
    """Returns the positions that an AddEntriesResponse names."""
    return list(artifacts_pb2.AddEntriesResponse.FromString(reply).missing)


def create_content_uploads_request(draft_id: str, digests: Sequence[FileDigest]) -> bytes:
    """Returns the CreateContentUploadsRequest."""
    message = artifacts_pb2.CreateContentUploadsRequest(
        draft_id=draft_id,
        contents=[
            artifacts_pb2.Content(
                sha256=digest.sha256,
                size_bytes=digest.size_bytes,
                part_md5s=digest.part_md5s,
                part_bytes=digest.part_bytes,
            )
            for digest in digests
        ],
    )
    return message.SerializeToString()


def content_plans(reply: bytes) -> list[UploadPlan]:
    """Returns what a CreateContentUploadsResponse says."""
    message = artifacts_pb2.CreateContentUploadsResponse.FromString(reply)
    return [
        UploadPlan(
            upload.upload_id,
            upload.is_present,
            upload.part_bytes,
            list(upload.part_urls),
            list(upload.arrived_etags),
        )
        for upload in message.uploads
    ]


def complete_content_uploads_request(uploads: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """Returns the CompleteContentUploadsRequest."""
    message = artifacts_pb2.CompleteContentUploadsRequest(
        uploads=[
            artifacts_pb2.CompletedContent(upload_id=upload_id, part_etags=etags)
            for upload_id, etags in uploads
        ]
    )
    return message.SerializeToString()


def commit_draft_request(draft_id: str, request: Mapping[str, Any]) -> bytes:
    """Returns the CommitDraftRequest."""
    message = artifacts_pb2.CommitDraftRequest(
        draft_id=draft_id,
        aliases=[str(alias) for alias in request.get("aliases") or ()],
        tags=[str(tag) for tag in request.get("tags") or ()],
        ttl_s=int(request.get("ttl_s") or 0),
    )
    return message.SerializeToString()


def committed(reply: bytes) -> tuple[VersionRecord, bool]:
    """Returns what a CommitDraftResponse says."""
    message = artifacts_pb2.CommitDraftResponse.FromString(reply)
    return version_record(message.version), message.is_unchanged


def version_record(message: artifacts_pb2.ArtifactVersion) -> VersionRecord:
    """Returns an ArtifactVersion as a plain value."""
    return VersionRecord(
        project_path=message.project_path,
        name=message.name,
        type=message.type,
        version=message.version,
        aliases=tuple(message.aliases),
        tags=tuple(message.tags),
        description=message.description,
        metadata_json=message.metadata_json,
        digest=message.digest.hex(),
        entry_count=message.entry_count,
        size_bytes=message.size_bytes,
        added_bytes=message.added_bytes,
        logged_by=message.logged_by,
        create_time_s=_time_s(message, "create_time"),
        update_time_s=_time_s(message, "update_time"),
        expire_time_s=_time_s(message, "expire_time"),
    )


def _time_s(message: artifacts_pb2.ArtifactVersion, name: str) -> float | None:
    if not message.HasField(name):  # type: ignore[arg-type]  # one of the three names
        return None
    moment: Any = getattr(message, name)
    return float(moment.ToNanoseconds() / 1e9)
