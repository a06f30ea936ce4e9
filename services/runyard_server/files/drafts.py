"""Drafts of artifacts: begun by a run, filled with entries, committed as a version in one step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prometheus_client import Counter

from runyard_server.domain.artifacts import ArtifactName, ArtifactVersion, Draft, Labels, no_draft
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import FailedPrecondition, InvalidArgument
from runyard_server.domain.extended_json import read_object
from runyard_server.domain.manifests import (
    Entry,
    Manifest,
    content_id,
    cut_manifest,
    find_nested_path,
    merge_lines,
    pack_lines,
    write_line,
)
from runyard_server.files import artifact_names as names
from runyard_server.files.uploads import check_digest
from runyard_server.rpc.deleted_runs import RunSource
from runyard_server.storage.ports.artifacts import ArtifactStore, EntryBatch

ENTRY_COUNT_MAX = 2_000
"""Entries of one AddEntries."""
_DIGEST_BYTES = 32
_SPARE_ENTRIES = 20_000
_TRIES_MAX = 3
_SIZE_MAX = 2**63 - 1
_NS_PER_S = 1_000_000_000

COMMITS = Counter(
    "runyard_artifact_commits_total",
    "Drafts committed, by what came of them: a new version, one that was there, a refusal.",
    ["result"],
)
ENTRIES = Counter("runyard_artifact_entries_total", "Entries added to drafts.")


@dataclass(frozen=True, slots=True)
class DraftAsk:
    """What CreateDraft asks for."""

    run_path: str
    request_id: str
    name: str
    type: str
    description: str
    metadata_json: str
    digest: bytes
    entry_count: int


class Drafts:
    """Begins, fills and commits drafts."""

    def __init__(
        self, *, store: ArtifactStore, runs: RunSource, clock: Clock, entry_count_max: int
    ) -> None:
        self._store = store
        self._runs = runs
        self._clock = clock
        self._entry_count_max = entry_count_max

    async def create(self, ask: DraftAsk) -> Draft:
        """Begins a draft, or finds the one that was begun with this request_id. Safe to repeat."""
        self._check_ask(ask)
        run = await self._runs.get_run(path=ask.run_path)
        draft = Draft(
            draft_id=f"{self._clock.random_bits(128):032x}",
            artifact=ArtifactName(f"{run.entity}/{run.project}", ask.name),
            type=ask.type,
            run_key=run.run_key,
            run_path=run.path,
            request_id=ask.request_id,
            digest=ask.digest,
            entry_count=ask.entry_count,
            create_time_unix_ns=self._clock.now_unix_ns(),
            description=ask.description,
            metadata_json=ask.metadata_json or "{}",
        )
        found = await self._store.create_draft(draft)
        if _identity(found) != _identity(draft):
            raise InvalidArgument(
                "REQUEST_ID_REUSED",
                f"request_id {ask.request_id!r} was used for {found.artifact.path} with another digest or count of entries: "
                "draw a new one for each artifact",
                metadata={"request_id": ask.request_id},
            )
        return found

    def _check_ask(self, ask: DraftAsk) -> None:
        names.check_text(
            "request_id", ask.request_id, bytes_max=names.NAME_LENGTH_MAX, is_needed=True
        )
        names.check_artifact_name(ask.name)
        names.check_type(ask.type)
        names.check_description(ask.description)
        read_object(ask.metadata_json, field="metadata_json", bytes_max=names.METADATA_BYTES_MAX)
        check_digest("digest", ask.digest, _DIGEST_BYTES)
        if ask.entry_count > self._entry_count_max:
            raise InvalidArgument(
                "FIELD_TOO_LARGE",
                f"artifact {ask.name!r} has {ask.entry_count} entries, at most {self._entry_count_max} are allowed; "
                "put small files together in archives",
                metadata={
                    "field": "entry_count",
                    "value": ask.entry_count,
                    "limit": self._entry_count_max,
                },
            )

    async def add_entries(self, draft_id: str, entries: Sequence[Entry]) -> list[int]:
        """Adds entries; returns the positions of those whose contents have not arrived. Safe to repeat."""
        names.check_count("entries", len(entries), ENTRY_COUNT_MAX)
        draft = await self.find(draft_id)
        if not entries:
            return []
        lines = {entry.path: write_line(names.check_entry(entry)) for entry in entries}
        ordered = [lines[path] for path in sorted(lines, key=str.encode)]
        # Repeats in other pieces take room until the commit; what is far beyond the announced count is refused.
        missing = await self._store.add_entries(
            draft_id,
            EntryBatch(pack_lines(ordered), len(ordered)),
            entries_max=4 * draft.entry_count + _SPARE_ENTRIES,
            time_unix_ns=self._clock.now_unix_ns(),
        )
        ENTRIES.inc(len(entries))
        return [
            position
            for position, entry in enumerate(entries)
            if entry.sha256 and content_id(entry.sha256, entry.size_bytes) in missing
        ]

    async def commit(
        self, draft_id: str, *, aliases: Sequence[str], tags: Sequence[str], ttl_s: int
    ) -> tuple[ArtifactVersion, bool]:
        """Makes the draft a version, or finds the one with its entries; returns it, and whether it was there. Safe to repeat."""
        labels = Labels(names.check_aliases(aliases), names.check_tags(tags))
        if names.check_ttl(ttl_s):
            expire_time = self._clock.now_unix_ns() + ttl_s * _NS_PER_S
            labels = replace(labels, expire_time_unix_ns=expire_time)
        try:
            version, is_unchanged = await self._commit(draft_id, labels)
        except FailedPrecondition:
            COMMITS.labels("refused").inc()
            raise
        COMMITS.labels("unchanged" if is_unchanged else "new").inc()
        return version, is_unchanged

    async def _commit(self, draft_id: str, labels: Labels) -> tuple[ArtifactVersion, bool]:
        for _ in range(_TRIES_MAX):
            draft = await self.find(draft_id)
            manifest, revision = None, 0
            if not draft.is_present and draft.version is None:
                held = await self._store.read_entries(draft_id)
                try:
                    manifest = await asyncio.to_thread(_make_manifest, draft, held.batches)
                except FailedPrecondition:
                    if (await self.find(draft_id)).version is None:
                        raise
                    # Another call committed it meanwhile: its entries are no longer the draft's.
                revision = held.revision
            done = await self._store.commit_draft(
                draft_id,
                labels,
                manifest=manifest,
                revision=revision,
                time_unix_ns=self._clock.now_unix_ns(),
            )
            if done is not None:
                return done
        raise FailedPrecondition(
            "FILE_CONTENT_MISMATCH",
            f"entries were added to draft {draft_id[:64]!r} while it was committed; add all of them, then commit",
            metadata={"file": draft_id[:64], "field": "entries", "value": "", "limit": ""},
        )

    async def find(self, draft_id: str) -> Draft:
        """Returns a draft; raises NotFound DRAFT_NOT_FOUND."""
        draft = await self._store.find_draft(draft_id)
        if draft is None:
            raise no_draft(draft_id)
        return draft


def _identity(draft: Draft) -> tuple[object, ...]:
    return draft.artifact, draft.type, draft.digest, draft.entry_count


def _make_manifest(draft: Draft, batches: Sequence[bytes]) -> Manifest:
    """Returns the manifest of a draft; raises if it is not the one that was announced, or cannot be."""
    lines = merge_lines(batches)
    if len(lines) != draft.entry_count:
        raise _mismatch(draft, "entry_count", len(lines), draft.entry_count)
    nested = find_nested_path(lines)
    if nested is not None:
        raise names.invalid("path", nested, "is an entry and also the folder of another one")
    manifest = cut_manifest(lines)
    if manifest.digest != draft.digest:
        raise _mismatch(draft, "digest", manifest.digest.hex(), draft.digest.hex())
    if manifest.size_bytes > _SIZE_MAX:
        raise names.too_long("size_bytes", manifest.size_bytes, _SIZE_MAX)
    return manifest


def _mismatch(draft: Draft, field: str, found: object, announced: object) -> FailedPrecondition:
    return FailedPrecondition(
        "FILE_CONTENT_MISMATCH",
        f"{draft.artifact.path}: the {field} of the entries that were added is {found}, announced was {announced}; add all "
        "entries, and compute the digest as Entry says",
        metadata={
            "file": draft.artifact.path,
            "field": field,
            "value": found,
            "limit": announced,
        },
    )
