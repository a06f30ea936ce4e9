"""What of a call of log() is media: found, checked, and measured before anything is recorded."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from runyard import extended_json
from runyard.errors import InvalidArgument
from runyard.media import cells
from runyard.media.image import Image, image_like
from runyard.media.plots import Plotly, is_plotly
from runyard.media.table import Table
from runyard.media.value import Content, Item, Media, Store, resolved

ITEM_COUNT_MAX = 1_000
ITEMS_BYTES_MAX = 1 << 20
NAME_PART_BYTES_MAX = 100
NAME_BYTES_MAX = 512
STEP_DIGITS_MAX = 20
DIGEST_DIGITS = 12
_UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)


@dataclasses.dataclass(frozen=True)
class LoggedMedia:
    """A value under a name, ready to be recorded."""

    name: str
    kind: str
    items: list[Item]
    """Of a histogram one: its edges, counts and non_finite_count."""
    is_list: bool


def logged_media(name: str, value: Any) -> LoggedMedia | None:
    """Returns the media that log() was given under a name; None if the value is none. Raises Error for what cannot be logged."""
    single = _as_media(value)
    if single is not None:
        return _checked(LoggedMedia(name, single.kind, [single.item()], is_list=False))
    if not isinstance(value, (list, tuple)) or not value:
        return None
    found = [_as_media(one) for one in value]
    media = [one for one in found if one is not None]
    if not media:
        return None
    if len(media) < len(found):
        other = value[found.index(None)]
        raise TypeError(
            f"log(): {name!r} is a list with media of kind {media[0].kind} and a value of type {type(other).__name__}; a list "
            f"holds media of one kind"
        )
    kinds = sorted({one.kind for one in media})
    if len(kinds) > 1:
        raise TypeError(
            f"log(): {name!r} is a list of media of kinds {', '.join(kinds)}; log each kind under a name of its own"
        )
    if media[0].is_single and len(media) > 1:
        raise TypeError(
            f"log(): {name!r} is a list of {len(media)} {kinds[0]}s; log each under a name of its own"
        )
    if len(media) > ITEM_COUNT_MAX:
        raise InvalidArgument(
            f"log(): {name!r} has {len(media)} {kinds[0]}s, at most {ITEM_COUNT_MAX} are allowed in one value",
            reason="FIELD_TOO_LARGE",
        )
    items = [one.item() for one in media]
    return _checked(LoggedMedia(name, kinds[0], items, is_list=True))


def file_name(kind: str, name: str, step: int, sha256: str, extension: str) -> str:
    """Returns what a value's file is called in the run; what is not safe in file names becomes "_"."""
    parts = [_UNSAFE.sub("_", part).strip(".") for part in name.split("/")]
    safe = "/".join([part[:NAME_PART_BYTES_MAX] for part in parts if part])[-NAME_BYTES_MAX:]
    stem = safe.strip("/") or kind
    return f"media/{kind}/{stem}_{step}_{sha256[:DIGEST_DIGITS]}.{extension}"


def _as_media(value: Any) -> Media | None:
    """Returns what log() takes for the value: itself, or what is made of a library's object."""
    if isinstance(value, Media):
        return value
    if image_like(value):
        return Image(value)
    if is_plotly(value):
        return Plotly(value)
    if cells.is_frame(value):
        return Table(dataframe=value)
    return None


def _checked(media: LoggedMedia) -> LoggedMedia:
    """Returns the value with annotations in files where it would be too large; raises InvalidArgument if it is even so."""
    if media.kind == "histogram" or _bytes_told(media) <= ITEMS_BYTES_MAX:
        return media
    smaller = dataclasses.replace(media, items=[_with_annotations_apart(i) for i in media.items])
    size_bytes = _bytes_told(smaller)
    if size_bytes > ITEMS_BYTES_MAX:
        raise InvalidArgument(
            f"log(): what is told of {media.name!r} has {size_bytes} bytes, at most {ITEMS_BYTES_MAX} are allowed; log fewer "
            f"values under one name, or shorter captions",
            reason="FIELD_TOO_LARGE",
        )
    return smaller


def _bytes_told(media: LoggedMedia) -> int:
    """Returns at least as many bytes as the items will have as JSON."""

    def stored(content: Content) -> Mapping[str, Any]:
        name = file_name(media.kind, media.name, 10 ** (STEP_DIGITS_MAX - 1), "0" * 64, "")
        return {
            "file": name + content.extension,
            "format": content.extension,
            "size_bytes": 10**15,
            "sha256": "0" * 64,
        }

    return len(extended_json.dumps(resolved(media.items, stored)).encode())


def _with_annotations_apart(item: Item) -> Item:
    apart: Item = {key: item[key] for key in ("boxes", "masks") if key in item}
    if not apart:
        return item
    rest: dict[str, Any] = {key: value for key, value in item.items() if key not in apart}
    names = [str(name) for sets in apart.values() for name in sets]
    told = {"annotations_file": AnnotationsContent(apart), "annotation_sets": names}
    return {**rest, **told}


class AnnotationsContent(Content):
    """The JSON file of an image's boxes and masks; the masks are stored when it is written."""

    def __init__(self, annotations: Mapping[str, Any]) -> None:
        super().__init__("annotations.json", b"")
        self._annotations = dict(annotations)

    def _parts(self, store: Store) -> Iterator[bytes]:
        yield extended_json.dumps(resolved(self._annotations, store)).encode()
