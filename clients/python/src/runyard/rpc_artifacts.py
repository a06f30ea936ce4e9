"""Reads, changes and deletes artifacts over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf import timestamp_pb2

from runyard.agent.artifact_messages import version_record
from runyard.artifacts.entries import Entry
from runyard.artifacts.records import (
    ArtifactRecord,
    DeletionReceipt,
    Lineage,
    LineageLink,
    VersionRecord,
)
from runyard.rpc import Connection
from runyard_protos.files.v1 import artifacts_pb2

ENTRY_PAGE_SIZE = 5000
URL_PAGE_SIZE = 1000
DELETE_COUNT_MAX = 1000
_SERVICE = "/runyard.files.v1.ArtifactsService/"
_KINDS = {
    artifacts_pb2.LINEAGE_KIND_LOGGED: "logged",
    artifacts_pb2.LINEAGE_KIND_USED: "used",
}


def read_version(connection: Connection, path: str) -> VersionRecord:
    """Returns the version of a path with `:vN`, an alias, or nothing for `latest`; raises NotFound."""
    request = artifacts_pb2.GetArtifactRequest(artifact_path=path)
    reply = connection.call(_SERVICE + "GetArtifact", request, artifacts_pb2.GetArtifactResponse)
    return version_record(reply.version)


def list_artifacts(
    connection: Connection, project_path: str, *, kind: str = "", name_contains: str = ""
) -> Iterator[ArtifactRecord]:
    """Yields the artifacts of a project, by name."""
    request = artifacts_pb2.ListArtifactsRequest(
        project_path=project_path, type=kind, name_contains=name_contains, page_size=1000
    )
    while True:
        reply = connection.call(
            _SERVICE + "ListArtifacts", request, artifacts_pb2.ListArtifactsResponse
        )
        for row in reply.artifacts:
            yield ArtifactRecord(version_record(row.latest), row.version_count)
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token


def list_versions(connection: Connection, artifact_path: str) -> Iterator[VersionRecord]:
    """Yields the versions of entity/project/name, newest first."""
    request = artifacts_pb2.ListArtifactVersionsRequest(artifact_path=artifact_path, page_size=1000)
    while True:
        reply = connection.call(
            _SERVICE + "ListArtifactVersions", request, artifacts_pb2.ListArtifactVersionsResponse
        )
        yield from map(version_record, reply.versions)
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token


def list_entries(
    connection: Connection, path: str, *, prefix: str = "", count_max: int | None = None
) -> Iterator[Entry]:
    """Yields the entries of a version whose paths begin so, by path."""
    request = artifacts_pb2.ListEntriesRequest(
        artifact_path=path,
        prefix=prefix,
        page_size=min(ENTRY_PAGE_SIZE, count_max or ENTRY_PAGE_SIZE),
    )
    for reply in _pages(connection, request, count_max):
        yield from map(_entry, reply.entries)


def list_located(
    connection: Connection, path: str, *, prefix: str = "", count_max: int | None = None
) -> Iterator[tuple[Entry, str]]:
    """Yields the entries with the addresses of their bytes, which are good for an hour; those of references are empty."""
    request = artifacts_pb2.ListEntriesRequest(
        artifact_path=path,
        prefix=prefix,
        page_size=min(URL_PAGE_SIZE, count_max or URL_PAGE_SIZE),
        with_urls=True,
    )
    for reply in _pages(connection, request, count_max):
        yield from zip(map(_entry, reply.entries), reply.download_urls)


def update_version(connection: Connection, path: str, fields: Mapping[str, Any]) -> VersionRecord:
    """Changes the fields of an UpdateArtifactRequest that are given; returns the version as it is then."""
    request = artifacts_pb2.UpdateArtifactRequest(artifact_path=path, **fields)
    reply = connection.call(
        _SERVICE + "UpdateArtifact", request, artifacts_pb2.UpdateArtifactResponse
    )
    return version_record(reply.version)


def delete_versions(
    connection: Connection, paths: Sequence[str], *, is_with_aliases: bool
) -> DeletionReceipt:
    """Deletes versions; those that do not exist are passed over. Raises FailedPrecondition for those with aliases."""
    total = DeletionReceipt(0, 0, 0, 0, 0)
    for start in range(0, len(paths), DELETE_COUNT_MAX):
        request = artifacts_pb2.DeleteArtifactsRequest(
            version_paths=paths[start : start + DELETE_COUNT_MAX], with_aliases=is_with_aliases
        )
        total = total.plus(_deleted(connection, request))
    return total


def delete_artifact(
    connection: Connection, artifact_path: str, *, is_with_aliases: bool
) -> DeletionReceipt:
    """Deletes all versions of entity/project/name."""
    request = artifacts_pb2.DeleteArtifactsRequest(
        artifact_path=artifact_path, with_aliases=is_with_aliases
    )
    return _deleted(connection, request)


def use_version(connection: Connection, run_path: str, path: str) -> VersionRecord:
    """Records that a run uses a version, and returns that."""
    request = artifacts_pb2.UseArtifactRequest(run_path=run_path, artifact_path=path)
    reply = connection.call(_SERVICE + "UseArtifact", request, artifacts_pb2.UseArtifactResponse)
    return version_record(reply.version)


def read_lineage(
    connection: Connection, *, run_path: str = "", artifact_path: str = "", depth: int = 1
) -> Lineage:
    """Returns what a run or a version is linked to, so many links far."""
    request = artifacts_pb2.GetLineageRequest(
        run_path=run_path, artifact_path=artifact_path, depth=depth
    )
    reply = connection.call(_SERVICE + "GetLineage", request, artifacts_pb2.GetLineageResponse)
    links = tuple(
        LineageLink(
            link.run_path,
            link.version_path,
            _KINDS.get(link.kind, ""),
            _time_s(link.create_time) if link.HasField("create_time") else None,
        )
        for link in reply.links
    )
    return Lineage(tuple(map(version_record, reply.versions)), links, reply.is_cut)


def _pages(
    connection: Connection, request: artifacts_pb2.ListEntriesRequest, count_max: int | None
) -> Iterator[artifacts_pb2.ListEntriesResponse]:
    count = 0
    while True:
        reply = connection.call(
            _SERVICE + "ListEntries", request, artifacts_pb2.ListEntriesResponse
        )
        yield reply
        count += len(reply.entries)
        if not reply.next_page_token or (count_max is not None and count >= count_max):
            return
        request.page_token = reply.next_page_token


def _entry(message: artifacts_pb2.Entry) -> Entry:
    return Entry(
        message.path, message.size_bytes, message.sha256, ref=message.reference, etag=message.etag
    )


def _deleted(
    connection: Connection, request: artifacts_pb2.DeleteArtifactsRequest
) -> DeletionReceipt:
    reply = connection.call(
        _SERVICE + "DeleteArtifacts", request, artifacts_pb2.DeleteArtifactsResponse
    )
    return DeletionReceipt(
        reply.deleted_count,
        reply.entry_count,
        reply.freed_objects,
        reply.freed_bytes,
        reply.shared_bytes,
    )


def _time_s(moment: timestamp_pb2.Timestamp) -> float:
    return moment.ToNanoseconds() / 1e9
