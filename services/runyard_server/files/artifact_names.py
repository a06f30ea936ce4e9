"""What artifacts, aliases, tags and entries may be called, and what the paths of artifacts say."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from runyard_server.domain.artifacts import LABEL_COUNT_MAX, LATEST, ArtifactName, VersionName
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.manifests import Entry
from runyard_server.files.names import NAME_BYTES_MAX, find_path_problem
from runyard_server.files.uploads import FILE_BYTES_MAX

NAME_LENGTH_MAX: Final = 128
REFERENCE_BYTES_MAX: Final = 4_096
ETAG_BYTES_MAX: Final = 1_024
DESCRIPTION_BYTES_MAX: Final = 64 * 1024
METADATA_BYTES_MAX: Final = 1024**2
TTL_S_MAX: Final = 100 * 365 * 86_400
REFERENCE_SIZE_MAX: Final = 2**60
_SHA256_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_NUMBER: Final = re.compile(r"v([0-9]{1,10})")
_NUMBER_LIKE: Final = re.compile(r"v[0-9]+")
_SCHEMES: Final = ("s3://", "gs://", "http://", "https://", "file://")


def check_artifact_name(name: str, *, field: str = "name") -> str:
    """Returns the name if an artifact may have it, else raises InvalidArgument."""
    problem = ""
    if not name:
        problem = "is empty"
    elif len(name) > NAME_LENGTH_MAX:
        raise too_long(field, len(name), NAME_LENGTH_MAX)
    elif not _NAME.fullmatch(name):
        problem = "holds something else than letters, digits, -, _ and ."
    elif name in (".", ".."):
        problem = "is the name of a folder"
    if problem:
        raise invalid(field, name, f"{problem}; it must be 1 to 128 letters, digits, -, _ and .")
    return name


def check_type(kind: str) -> str:
    """Returns the kind of an artifact if it can be one, else raises InvalidArgument."""
    return check_text("type", kind, bytes_max=NAME_LENGTH_MAX, is_needed=True)


def check_text(field: str, text: str, *, bytes_max: int, is_needed: bool = False) -> str:
    """Returns a text of one line that is not too long, else raises InvalidArgument."""
    if is_needed and not text:
        raise invalid(field, text, f"is empty; it must have 1 to {bytes_max} bytes")
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > bytes_max:
        raise too_long(field, size_bytes, bytes_max)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise invalid(field, text, "holds a control character")
    return text


def check_description(text: str) -> str:
    """Returns a description that is not too long, else raises InvalidArgument."""
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > DESCRIPTION_BYTES_MAX:
        raise too_long("description", size_bytes, DESCRIPTION_BYTES_MAX)
    if any(unicodedata.category(c) == "Cs" or c == "\0" for c in text):
        raise invalid("description", text, "holds a character that no text can have")
    return text


def check_aliases(aliases: Sequence[str], *, field: str = "aliases") -> tuple[str, ...]:
    """Returns aliases that a user may move, each once, else raises InvalidArgument."""
    check_count(field, len(aliases), LABEL_COUNT_MAX)
    for alias in aliases:
        check_artifact_name(alias, field=field)
        if alias == LATEST:
            raise invalid(field, alias, "moves by itself: leave it out")
        if _NUMBER_LIKE.fullmatch(alias):
            raise invalid(field, alias, "is the number of a version; choose another alias")
    return tuple(dict.fromkeys(aliases))


def check_tags(tags: Sequence[str], *, field: str = "tags") -> tuple[str, ...]:
    """Returns labels, each once, else raises InvalidArgument."""
    check_count(field, len(tags), LABEL_COUNT_MAX)
    for tag in tags:
        check_text(field, tag, bytes_max=NAME_LENGTH_MAX, is_needed=True)
    return tuple(dict.fromkeys(tags))


def check_ttl(ttl_s: int) -> int:
    """Returns a time to live, else raises InvalidArgument."""
    if ttl_s > TTL_S_MAX:
        raise invalid("ttl_s", str(ttl_s), f"is more than {TTL_S_MAX} s; 0 keeps it", TTL_S_MAX)
    return ttl_s


def check_count(field: str, count: int, limit: int) -> None:
    """Raises InvalidArgument for more entries than a request may have."""
    if count > limit:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"{field} has {count} entries, at most {limit} fit one request",
            metadata={"field": field, "value": count, "limit": limit},
        )


def check_entry(entry: Entry) -> Entry:
    """Returns an entry that a manifest may have, else raises InvalidArgument."""
    path = entry.path
    problem = find_path_problem(path)
    if not problem and not path.isascii() and unicodedata.normalize("NFC", path) != path:
        problem = "is not in Unicode's form NFC"
    if problem:
        raise invalid("path", path, problem, NAME_BYTES_MAX)
    if entry.reference:
        _check_reference(entry)
    else:
        _check_file(entry)
    return entry


def _check_file(entry: Entry) -> None:
    if len(entry.sha256) != _SHA256_BYTES:
        raise invalid(
            "sha256",
            str(len(entry.sha256)),
            f"bytes are no SHA-256 of entry {entry.path!r}; a file has one of {_SHA256_BYTES} bytes, a reference an address",
            _SHA256_BYTES,
        )
    if entry.etag:
        raise invalid("etag", entry.etag, f"is set for {entry.path!r}, which is no reference")
    if entry.size_bytes > FILE_BYTES_MAX:
        raise too_long("size_bytes", entry.size_bytes, FILE_BYTES_MAX)


def _check_reference(entry: Entry) -> None:
    if entry.sha256:
        raise invalid("sha256", entry.sha256.hex(), f"is set for {entry.path!r}, a reference")
    check_text("reference", entry.reference, bytes_max=REFERENCE_BYTES_MAX)
    check_text("etag", entry.etag, bytes_max=ETAG_BYTES_MAX)
    if not entry.reference.startswith(_SCHEMES):
        raise invalid("reference", entry.reference, f"begins with none of {', '.join(_SCHEMES)}")
    if entry.size_bytes > REFERENCE_SIZE_MAX:
        raise too_long("size_bytes", entry.size_bytes, REFERENCE_SIZE_MAX)


def read_artifact_path(path: str, *, field: str = "artifact_path") -> ArtifactName:
    """Returns what entity/project/name says; raises InvalidArgument if it is not of that form."""
    parts = path.split("/")
    if len(parts) != 3 or not all(parts) or ":" in path:
        raise invalid(field, path, "is not of the form entity/project/name")
    return ArtifactName(f"{parts[0]}/{parts[1]}", check_artifact_name(parts[2], field=field))


def read_version_path(path: str, *, field: str = "artifact_path") -> VersionName:
    """Returns what entity/project/name:REFERENCE says, LATEST without one; raises InvalidArgument if it is not of that form."""
    artifact_path, colon, reference = path.partition(":")
    artifact = read_artifact_path(artifact_path, field=field)
    if not colon:
        return VersionName(artifact)
    number = _NUMBER.fullmatch(reference)
    if number is not None:
        return VersionName(artifact, int(number[1]))
    return VersionName(artifact, alias=check_artifact_name(reference, field=field))


def too_long(field: str, size: int, limit: int) -> InvalidArgument:
    """Returns the error for a value that is larger than its limit."""
    return InvalidArgument(
        "FIELD_TOO_LARGE",
        f"{field} has {size} bytes, at most {limit} are allowed",
        metadata={"field": field, "value": size, "limit": limit},
    )


def invalid(field: str, value: str, problem: str, limit: object = "") -> InvalidArgument:
    """Returns the error for a value that cannot be."""
    return InvalidArgument(
        "FIELD_INVALID",
        f"{field} {value[:256]!r} {problem}",
        metadata={"field": field, "value": value[:256], "limit": limit},
    )
