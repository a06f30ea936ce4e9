"""Artifact: a named, versioned set of files, made by a script or read back from a server."""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runyard import extended_json, naming
from runyard.artifacts.adding import Adding
from runyard.artifacts.entries import (
    Entry,
    by_path,
    checked_aliases,
    checked_name,
    checked_path,
    manifest_digest,
)
from runyard.artifacts.pending import Pending
from runyard.artifacts.records import VersionRecord
from runyard.artifacts.versioned import Versioned
from runyard.errors import InvalidArgument, NotOffered, UsageError
from runyard.given import listed
from runyard.settings import ResolvedSettings

METADATA_BYTES_MAX = 1 << 20
DESCRIPTION_BYTES_MAX = 64 << 10
TYPE_BYTES_MAX = 128
LABEL_COUNT_MAX = 100


class Artifact(Adding, Versioned):
    """A set of files under a name; each time it is logged with another content it becomes a new version, v0, v1 …

    Fill it (`add_file`, `add_dir`, `add_reference`, `new_file`), then `run.log_artifact(artifact)`.
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        incremental: bool = False,
        use_as: str | None = None,
    ) -> None:
        if incremental:
            raise NotOffered(
                "Artifact(incremental=True) is not offered by this version: use_artifact(…).new_draft() begins with the files "
                "of a version"
            )
        self._name = checked_name(name)
        self._type = _checked_type(type)
        self._draft: dict[str, Entry] | None = {}
        self._is_final = False
        self._is_dropped = False
        self._pending: Pending | None = None
        self._record: VersionRecord | None = None
        self._settings: ResolvedSettings | None = None
        self._loaded: dict[str, Entry] | None = None
        self._description = ""
        self._metadata: dict[str, Any] | None = {}
        self._aliases: list[str] = []
        self._tags: list[str] = []
        self._ttl: datetime.timedelta | None = None
        self.description = description
        self.metadata = metadata

    @classmethod
    def of_version(cls, record: VersionRecord, settings: ResolvedSettings) -> Artifact:
        """Returns a version that a server has."""
        made = cls(record.name, record.type)
        made._draft, made._is_final = None, True
        made._take(record, settings)
        return made

    @property
    def name(self) -> str:
        """Returns the name; of a version with it: `name:v3`."""
        record = self._look()
        return f"{record.name}:v{record.version}" if record is not None else self._name

    @property
    def collection_name(self) -> str:
        """Returns the name without a version."""
        return self._name

    @property
    def type(self) -> str:
        """Returns what kind of artifact it is."""
        return self._type

    @property
    def version(self) -> str:
        """Returns "v3"; raises UsageError while it is no version."""
        return f"v{self._version_record().version}"

    @property
    def description(self) -> str:
        """Returns what it is, in words."""
        return self._description

    @description.setter
    def description(self, text: str | None) -> None:
        if text is not None and not isinstance(text, str):
            raise InvalidArgument(f"description is of type {type_name(text)}; it must be a string")
        size_bytes = len((text or "").encode(errors="surrogatepass"))
        if size_bytes > DESCRIPTION_BYTES_MAX:
            raise InvalidArgument(
                f"description has {size_bytes:,} bytes, at most {DESCRIPTION_BYTES_MAX:,} are allowed"
            )
        self._description = text or ""

    @property
    def metadata(self) -> dict[str, Any]:
        """Returns what the script says of it, by key; what is set in it counts once it is logged or saved."""
        if self._metadata is None:  # lists leave it out
            self._metadata = dict(extended_json.loads(self._remote().metadata_json() or "{}"))
        return self._metadata

    @metadata.setter
    def metadata(self, fields: Mapping[str, Any] | None) -> None:
        if fields is not None and not isinstance(fields, Mapping):
            raise InvalidArgument(f"metadata is of type {type_name(fields)}; it must be a dict")
        self._metadata = dict(fields or {})
        self.metadata_json()

    def metadata_json(self) -> str:
        """Returns the metadata as extended JSON; raises InvalidArgument if they are too large."""
        text = extended_json.dumps(extended_json.plain(self.metadata))
        if len(text.encode()) > METADATA_BYTES_MAX:
            raise InvalidArgument(
                f"metadata take {len(text.encode()):,} bytes as JSON, at most {METADATA_BYTES_MAX:,} are allowed; put large "
                f"values into a file: new_file('facts.json')",
                reason="FIELD_TOO_LARGE",
            )
        return text

    @property
    def aliases(self) -> list[str]:
        """Returns the aliases; a change of the list counts once it is saved."""
        self._look()
        return self._aliases

    @aliases.setter
    def aliases(self, aliases: Iterable[str]) -> None:
        self._aliases = list(aliases)

    @property
    def tags(self) -> list[str]:
        """Returns the labels; a change of the list counts once it is logged or saved."""
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        self._tags = checked_tags(tags)

    @property
    def ttl(self) -> datetime.timedelta | None:
        """Returns how long after its creation it is deleted; None: never."""
        return self._ttl

    @ttl.setter
    def ttl(self, ttl: datetime.timedelta | None) -> None:
        if ttl is not None and not isinstance(ttl, datetime.timedelta):
            raise InvalidArgument(
                f"ttl is of type {type_name(ttl)}; it must be a timedelta, or None for no end"
            )
        if ttl is not None and ttl.total_seconds() < 1:
            raise InvalidArgument(f"ttl is {ttl}; it must be at least a second")
        self._ttl = ttl

    @property
    def digest(self) -> str:
        """Returns the SHA-256 over all entries, in hex: two artifacts of one digest hold the same."""
        record = self._look()
        return record.digest if record is not None else manifest_digest(by_path(self._all().values()))  # fmt: skip

    @property
    def size(self) -> int:
        """Returns the bytes of all entries together."""
        record = self._look()
        if record is not None:
            return record.size_bytes
        return sum(entry.size for entry in self._all().values())

    @property
    def file_count(self) -> int:
        """Returns the number of entries."""
        record = self._look()
        return record.entry_count if record is not None else len(self._all())

    @property
    def manifest(self) -> Manifest:
        """Returns its entries by path; of a version they are fetched once."""
        return Manifest(self._all())

    @property
    def state(self) -> str:
        """Returns PENDING or COMMITTED."""
        return "COMMITTED" if self._look() is not None else "PENDING"

    def is_draft(self) -> bool:
        """Returns whether it is no version yet."""
        return self._look() is None

    def wait(self, timeout: float | None = None) -> Artifact:
        """Returns when it is a version on the server: then it has its number.

        Raises WaitTimeout (a TimeoutError) after `timeout` seconds, the error that kept it from becoming one, and
        UsageError if it was not logged, or by an offline run.
        """
        if self._record is None and not self._is_dropped:
            if self._pending is None:
                raise UsageError(f"artifact {self._name} was not logged: run.log_artifact() does")
            self._take(VersionRecord.of(self._pending.wait(timeout)), self._settings)
        return self

    def get_entry(self, name: str) -> Entry:
        """Returns the entry of that path; raises KeyError if there is none."""
        path = checked_path(name)
        if self._draft is None and self._loaded is None:
            found: list[Entry] = self._remote().entries(prefix=path, count_max=1)
            if found and found[0].path == path:
                found[0].artifact = self
                return found[0]
        else:
            entry = self._all().get(path)
            if entry is not None:
                return entry
        raise KeyError(f"the artifact {self.name} has no {name!r}")

    def get_path(self, name: str) -> Entry:
        """Returns the entry of that path; see get_entry."""
        return self.get_entry(name)

    def get(self, name: str) -> Any:
        """Returns the table that `add` put in under that name; None if there is none."""
        from runyard.artifacts.media_entries import get_table

        return get_table(self, name)

    def new_draft(self) -> Artifact:
        """Returns an artifact to be logged that begins with the entries of this one."""
        made = Artifact(self._name, self._type, self._description, self.metadata)
        assert made._draft is not None
        for path, entry in self._all().items():
            made._draft[path] = entry
        return made

    def hand_in(self, pending: Pending | None, settings: ResolvedSettings) -> None:
        """Notes that it was logged: its entries are final now. `pending` is None where nothing is kept."""
        self._is_final, self._settings = True, settings
        self._is_dropped = pending is None
        self._pending = pending
        self._record = None
        self._give_lease_back()

    def __getitem__(self, name: str) -> Entry:
        return self.get_entry(name)

    def __iter__(self) -> Iterator[Entry]:
        return iter(by_path(self._all().values()))

    def __len__(self) -> int:
        return self.file_count

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<runyard artifact {self.name} ({self._type}, {self.file_count} entries)>"

    def _take(self, record: VersionRecord, settings: ResolvedSettings | None) -> None:
        """Becomes the version that a record tells of."""
        self._record, self._settings = record, settings
        self._description = record.description
        told = record.metadata_json
        self._metadata = dict(extended_json.loads(told)) if told else None
        self._aliases, self._tags = list(record.aliases), list(record.tags)
        self._ttl = None
        if record.expire_time_s is not None:
            seconds = record.expire_time_s - (record.create_time_s or 0)
            self._ttl = datetime.timedelta(seconds=round(max(1.0, seconds)))
        for entry in (self._draft or {}).values():
            entry.artifact = self

    def _look(self) -> VersionRecord | None:
        """Returns the record, if it is a version by now."""
        if self._record is None and self._pending is not None:
            answer = self._pending.answer()
            if answer is not None and isinstance(answer.get("version"), dict):
                self._take(VersionRecord.of(answer["version"]), self._settings)
        return self._record

    def _version_record(self) -> VersionRecord:
        record = self._look()
        if record is None:
            then = (
                "wait() waits until it is" if self._pending else "run.log_artifact() makes it one"
            )
            raise UsageError(f"artifact {self._name} is no version yet: {then}")
        return record

    def _all(self) -> dict[str, Entry]:
        """Returns the entries by path; of a version of the server they are fetched at first."""
        if self._draft is not None:
            return self._draft
        if self._loaded is None:
            self._loaded = {}
            for entry in self._remote().entries():
                entry.artifact = self
                self._loaded[entry.path] = entry
        return self._loaded


class Manifest(Mapping[str, Entry]):
    """The entries of an artifact, by path, in the order of paths."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = {entry.path: entry for entry in by_path(entries.values())}

    def __getitem__(self, path: str) -> Entry:
        return self.entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def get_entry_by_path(self, path: str) -> Entry | None:
        """Returns the entry of that path, None if there is none."""
        return self.entries.get(path)


def labels_to_log(artifact: Artifact, aliases: Any, tags: Any) -> tuple[list[str], list[str]]:
    """Returns (aliases without latest, tags) that a version gets: those given and those of the artifact."""
    given = labels_given(aliases, "aliases")
    own = artifact.aliases if artifact.is_draft() else []
    wanted = checked_aliases([*own, *given])
    kept = checked_tags([*artifact.tags, *labels_given(tags, "tags")])
    for what, labels in (("aliases", wanted), ("tags", kept)):
        if len(labels) > LABEL_COUNT_MAX:
            raise InvalidArgument(f"{len(labels)} {what} are too many: at most {LABEL_COUNT_MAX}")
    return wanted, kept


def labels_given(labels: Any, what: str) -> list[Any]:
    """Returns aliases or tags as a list; a text stands for one, None for none."""
    if labels is None:
        return []
    return [labels] if isinstance(labels, str) else listed(labels, what)


def checked_tags(tags: Any) -> list[str]:
    """Returns the tags, each once; raises InvalidArgument for what can be none."""
    given = labels_given(tags, "tags")
    for tag in given:
        if not isinstance(tag, str):
            raise InvalidArgument(f"tag {tag!r} is of type {type_name(tag)}; it must be a string")
    return list(naming.check_tags(tuple(dict.fromkeys(given))))


def type_name(value: Any) -> str:
    """Returns the name of the value's type."""
    return type(value).__name__


def _checked_type(kind: Any) -> str:
    if not isinstance(kind, str):
        raise InvalidArgument(
            f"type is of type {type_name(kind)}; it must be a string, such as 'dataset' or 'model'"
        )
    size_bytes = len(kind.encode(errors="surrogatepass"))
    is_clean = all(unicodedata.category(c) not in ("Cc", "Cs") for c in kind)
    if not kind or size_bytes > TYPE_BYTES_MAX or not is_clean:
        raise InvalidArgument(
            f"type {kind[:64]!r} cannot be: it must have 1 to {TYPE_BYTES_MAX} bytes and no control character",
            reason="FIELD_INVALID",
        )
    return kind
