"""Boxes and masks of an image: dicts as scripts written for wandb give them, checked and brought into one form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runyard import extended_json
from runyard.errors import InvalidArgument
from runyard.media import png, sniff
from runyard.media.libraries import array_of
from runyard.media.value import Content, existing_path
from runyard.metric_log import scalar_of

BOX_COUNT_MAX = 10_000
MASK_COUNT_MAX = 100
CLASS_COUNT_MAX = 10_000
CLASS_ID_MAX = 2**31 - 1
MASK_ID_MAX = 255
LABEL_BYTES_MAX = 1 << 10

Size = tuple[int, int]


class Classes(list[Any]):
    """Names of class ids, as a list of {"id": 1, "name": "cat"}, for the `classes` of images."""


def class_names(classes: Any, what: str) -> dict[str, str]:
    """Returns names by class id for `classes`, a list of {"id", "name"} or a dict."""
    if classes is None:
        return {}
    if isinstance(classes, Mapping):
        return _labels(classes, f"{what}: classes")
    names: dict[Any, Any] = {}
    for one in classes if isinstance(classes, Iterable) else [classes]:
        if not isinstance(one, Mapping) or "id" not in one or "name" not in one:
            raise InvalidArgument(
                f'{what}: classes holds {one!r:.200}; each class is {{"id": 1, "name": "cat"}}'
            )
        names[one["id"]] = one["name"]
    return _labels(names, f"{what}: classes")


def checked_boxes(
    boxes: Any, size: Size | None, names: Mapping[str, str], what: str
) -> dict[str, Any]:
    """Returns sets of boxes by name, positions as fractions of the image; raises InvalidArgument naming what is wrong."""
    told: dict[str, Any] = {}
    for key, group in _groups(boxes, "boxes", what):
        where = f"{what}: boxes[{key!r}]"
        if not isinstance(group, Mapping) or not isinstance(group.get("box_data"), Sequence):
            raise InvalidArgument(f'{where} is no dict with a list "box_data"')
        labels = _labels(group.get("class_labels") or {}, where) or names
        told[key] = {
            "box_data": [
                _box(box, size, f"{where}: box {i}") for i, box in enumerate(group["box_data"])
            ],
            "class_labels": dict(labels),
        }
    count = sum(len(group["box_data"]) for group in told.values())
    if count > BOX_COUNT_MAX:
        raise InvalidArgument(
            f"{what} has {count} boxes, at most {BOX_COUNT_MAX} are allowed",
            reason="FIELD_TOO_LARGE",
        )
    return told


def checked_masks(
    masks: Any, size: Size | None, names: Mapping[str, str], what: str
) -> dict[str, Any]:
    """Returns masks by name, each as a grey PNG of class ids; raises InvalidArgument naming what is wrong."""
    told: dict[str, Any] = {}
    for key, mask in _groups(masks, "masks", what):
        where = f"{what}: masks[{key!r}]"
        if not isinstance(mask, Mapping) or ("mask_data" in mask) == ("path" in mask):
            raise InvalidArgument(f'{where} is no dict with either "mask_data" or "path"')
        if "mask_data" in mask:
            content, mask_size = _mask_of_array(mask["mask_data"], where)
        else:
            content, mask_size = _mask_of_file(mask["path"], where)
        if size is not None and mask_size != size:
            raise InvalidArgument(
                f"{where} has {mask_size[0]} x {mask_size[1]} pixels, its image {size[0]} x {size[1]}"
            )
        told[key] = {
            "file": content,
            "width": mask_size[0],
            "height": mask_size[1],
            "class_labels": dict(_labels(mask.get("class_labels") or {}, where) or names),
        }
    if len(told) > MASK_COUNT_MAX:
        raise InvalidArgument(
            f"{what} has {len(told)} masks, at most {MASK_COUNT_MAX} are allowed",
            reason="FIELD_TOO_LARGE",
        )
    return told


def _groups(given: Any, name: str, what: str) -> list[tuple[str, Any]]:
    if given is None:
        return []
    if not isinstance(given, Mapping) or not all(isinstance(key, str) and key for key in given):
        raise InvalidArgument(
            f'{what}: {name} is no dict by name, such as {{"predictions": {{…}}}}'
        )
    return [(_text(key, f"{what}: {name}"), value) for key, value in given.items()]


def _labels(labels: Any, where: str) -> dict[str, str]:
    if not isinstance(labels, Mapping):
        raise InvalidArgument(f"{where}: class_labels is no dict of names by class id")
    if len(labels) > CLASS_COUNT_MAX:
        raise InvalidArgument(
            f"{where}: {len(labels)} classes have names, at most {CLASS_COUNT_MAX} are allowed",
            reason="FIELD_TOO_LARGE",
        )
    return {str(_class_id(key, where)): _text(name, where) for key, name in labels.items()}


def _class_id(value: Any, where: str) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() else scalar_of(value)
    if number is None or number != number or number % 1 or not 0 <= number <= CLASS_ID_MAX:
        raise InvalidArgument(
            f"{where}: the class id {value!r:.80} is no integer from 0 to {CLASS_ID_MAX}"
        )
    return int(number)


def _text(value: Any, where: str) -> str:
    text = str(extended_json.plain(str(value)))
    if len(text.encode()) > LABEL_BYTES_MAX:
        raise InvalidArgument(
            f"{where}: the text {text[:80]!r}… has {len(text.encode())} bytes, at most {LABEL_BYTES_MAX} are allowed",
            reason="FIELD_TOO_LARGE",
        )
    return text


def _box(box: Any, size: Size | None, where: str) -> dict[str, Any]:
    if not isinstance(box, Mapping) or not isinstance(box.get("position"), Mapping):
        raise InvalidArgument(f'{where} is no dict with a dict "position"')
    told: dict[str, Any] = {"position": _position(box["position"], box.get("domain"), size, where)}
    if box.get("class_id") is not None:
        told["class_id"] = _class_id(box["class_id"], where)
    if box.get("box_caption") is not None:
        told["box_caption"] = _text(box["box_caption"], where)
    scores = box.get("scores")
    if scores is not None:
        if not isinstance(scores, Mapping):
            raise InvalidArgument(f"{where}: scores is no dict of numbers by name")
        told["scores"] = {
            _text(name, where): _number(value, f"{where}: scores[{name!r:.80}]", is_finite=False)
            for name, value in scores.items()
        }
    return told


def _position(
    position: Mapping[str, Any], domain: Any, size: Size | None, where: str
) -> dict[str, float]:
    """Returns the sides of a box as fractions of the image's."""
    if domain not in (None, "pixel"):
        raise InvalidArgument(
            f'{where}: domain {domain!r:.80} is not "pixel"; without one, positions are fractions'
        )
    names = ("minX", "maxX", "minY", "maxY")
    if all(name in position for name in names):
        sides = [_number(position[name], f"{where}: position[{name!r}]") for name in names]
    elif all(name in position for name in ("middle", "width", "height")):
        middle = position["middle"]
        if not hasattr(middle, "__len__") or len(middle) != 2:
            raise InvalidArgument(f"{where}: position['middle'] is no pair [x, y]")
        x, y = (_number(value, f"{where}: position['middle']") for value in middle)
        width = _number(position["width"], f"{where}: position['width']")
        height = _number(position["height"], f"{where}: position['height']")
        sides = [x - width / 2, x + width / 2, y - height / 2, y + height / 2]
    else:
        raise InvalidArgument(
            f"{where}: position has {sorted(map(str, position))}; it takes minX, maxX, minY and maxY, or middle, width and "
            f"height"
        )
    if sides[0] > sides[1] or sides[2] > sides[3]:
        raise InvalidArgument(f"{where}: position has a smallest side beyond its largest: {sides}")
    if domain == "pixel":
        if size is None:
            raise InvalidArgument(
                f'{where}: domain "pixel", but the size of this image is not known; give fractions'
            )
        width_height = (size[0], size[0], size[1], size[1])
        sides = [side / whole for side, whole in zip(sides, width_height)]
    return dict(zip(names, sides))


def _number(value: Any, where: str, *, is_finite: bool = True) -> float:
    number = scalar_of(value)
    if number is None or (is_finite and not math.isfinite(number)):
        raise InvalidArgument(f"{where} is {value!r:.80}, no finite number")
    return float(number)


def _mask_of_array(data: Any, where: str) -> tuple[Content, Size]:
    array = array_of(data, where)
    while array.ndim > 2 and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or not array.size:
        raise InvalidArgument(
            f"{where}: an array of shape {tuple(array.shape)} is no mask; a mask is (height, width)"
        )
    ids = array.astype("uint8")
    if (ids != array).any():
        raise InvalidArgument(
            f"{where} holds what is no class id: a mask takes integers from 0 to {MASK_ID_MAX}"
        )
    return Content("png", png.encode(ids)), (ids.shape[1], ids.shape[0])


def _mask_of_file(path: Any, where: str) -> tuple[Content, Size]:
    found: Path = existing_path(path, where)
    with found.open("rb") as file:
        head = file.read(sniff.HEAD_BYTES)
    size = sniff.image_size(head)
    # Bit depth 8, colour type grey.
    if sniff.image_format(head) != "png" or size is None or head[24:26] != b"\x08\x00":
        raise InvalidArgument(f"{where}: {found} is no PNG of 8 bit grey; a pixel is a class id")
    return Content("png", found), size
