"""Image: a picture from an array, a library's object, encoded bytes or a file, with boxes and masks."""

from __future__ import annotations

import io
import os
from typing import Any

from runyard import given
from runyard.errors import InvalidArgument
from runyard.media import overlays, png, sniff
from runyard.media.libraries import array_of, is_array, is_of, load
from runyard.media.pixels import check_size, pixels_of
from runyard.media.value import Content, Item, Media, checked_caption, existing_path

WHAT = "Image"
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "gif": "GIF",
    "webp": "WEBP",
    "bmp": "BMP",
}
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"})
_ALPHA_MODES = frozenset({"LA", "PA", "RGBA", "P"})


class Image(Media):
    """A picture to log. Arguments are named and meant as in wandb; docs/media.md says what `data_or_path` may be.

    The bytes are made here: an array that changes later does not change the image.
    Raises InvalidArgument for what is no image, UsageError where a library is missing.
    """

    kind = "image"

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Any = None,
        *,
        boxes: Any = None,
        masks: Any = None,
        file_type: str | None = None,
        normalize: bool = True,
    ) -> None:
        self.caption = checked_caption(caption, WHAT)
        self.grouping = None if grouping is None else _checked_grouping(grouping)
        format_ = _checked_format(file_type)
        if mode is not None:
            given.text(mode, f"{WHAT}: mode")
        self._content, self._size = _encoded(data_or_path, mode, format_, normalize=normalize)
        names = overlays.class_names(classes, WHAT)
        self._boxes = overlays.checked_boxes(boxes, self._size, names, WHAT)
        self._masks = overlays.checked_masks(masks, self._size, names, WHAT)

    @property
    def format(self) -> str:
        """Returns what the bytes are: png, jpg, gif, webp, bmp or svg."""
        return self._content.extension

    @property
    def width(self) -> int | None:
        """Returns the width in pixels; None where an SVG does not say."""
        return None if self._size is None else self._size[0]

    @property
    def height(self) -> int | None:
        """Returns the height in pixels; None where an SVG does not say."""
        return None if self._size is None else self._size[1]

    @property
    def size(self) -> tuple[int, int] | None:
        """Returns (width, height) in pixels; None where an SVG does not say."""
        return self._size

    def item(self) -> Item:
        """Returns what is told of the image."""
        item: Item = {"file": self._content}
        if self._size is not None:
            item["width"], item["height"] = self._size
        if self.caption:
            item["caption"] = self.caption
        if self.grouping is not None:
            item["grouping"] = self.grouping
        if self._boxes:
            item["boxes"] = self._boxes
        if self._masks:
            item["masks"] = self._masks
        return item


def image_like(value: object) -> bool:
    """Returns whether log() takes the value itself as an image: a PIL image, a matplotlib figure or axes."""
    return _is_pil(value) or _figure_of(value) is not None


def _is_pil(value: object) -> bool:
    return is_of(value, "PIL.Image")


def _figure_of(value: Any) -> Any:
    """Returns the matplotlib figure that the value is, belongs to, or (pyplot itself) draws into; None if there is none."""
    if getattr(value, "__name__", "") == "matplotlib.pyplot":
        return value.gcf()
    if is_of(value, "matplotlib.Figure", "matplotlib.SubFigure", "matplotlib.FigureBase"):
        return value
    if is_of(value, "matplotlib.Artist") and getattr(value, "figure", None) is not None:
        return value.figure
    return None


def _encoded(
    data: Any, mode: str | None, format_: str, *, normalize: bool
) -> tuple[Content, tuple[int, int] | None]:
    """Returns the bytes and the size of the picture."""
    if isinstance(data, Image):
        return data._content, data._size
    if isinstance(data, (str, os.PathLike)):
        return _of_file(data, mode, format_)
    if isinstance(data, (bytes, bytearray, memoryview)) or (
        hasattr(data, "read") and not is_array(data) and not _is_pil(data)
    ):
        raw = bytes(data.read() if hasattr(data, "read") else data)
        return _of_bytes(raw, mode, format_)
    if _is_pil(data):
        return _saved(data, mode, format_)
    figure = _figure_of(data)
    if figure is not None:
        return _drawn(figure, mode, format_)
    if is_array(data) or isinstance(data, (list, tuple)):
        return _of_array(data, mode, format_, normalize=normalize)
    array_like = hasattr(data, "__array__") or hasattr(data, "__array_interface__")
    if array_like:
        return _of_array(array_of(data, WHAT), mode, format_, normalize=normalize)
    raise InvalidArgument(
        f"{WHAT}: a value of type {type(data).__module__}.{type(data).__name__} is no image; it takes arrays, tensors, PIL "
        f"images, matplotlib figures, encoded bytes and paths"
    )


def _of_array(
    data: Any, mode: str | None, format_: str, *, normalize: bool
) -> tuple[Content, tuple[int, int]]:
    pixels = pixels_of(data, WHAT, normalize=normalize)
    size = (pixels.shape[1], pixels.shape[0])
    natural_mode = _MODES[1 if pixels.ndim == 2 else pixels.shape[2]]
    if format_ == "png" and mode in (None, natural_mode):
        return Content("png", png.encode(pixels)), size
    pil = load("PIL.Image", extra="media", what=f"{WHAT} of mode {mode} as {format_}")
    return _saved(pil.fromarray(pixels), mode, format_)


def _of_file(
    path: str | os.PathLike[str], mode: str | None, format_: str
) -> tuple[Content, tuple[int, int] | None]:
    found = existing_path(path, WHAT)
    with found.open("rb") as file:
        head = file.read(sniff.HEAD_BYTES)
    kind = sniff.image_format(head)
    if kind and mode is None:
        # Now, so that the file may change or go before log() is called.
        return Content(kind, found.read_bytes()), sniff.image_size(head)
    pil = load("PIL.Image", extra="media", what=f"{WHAT} of {found}")
    try:
        with pil.open(found) as image:
            return _saved(image, mode, format_)
    except OSError as error:
        raise InvalidArgument(f"{WHAT}: {found} is no image that is known here: {error}") from None


def _of_bytes(raw: bytes, mode: str | None, format_: str) -> tuple[Content, tuple[int, int] | None]:
    kind = sniff.image_format(raw[: sniff.HEAD_BYTES])
    if kind and mode is None:
        return Content(kind, raw), sniff.image_size(raw[: sniff.HEAD_BYTES])
    if not raw:
        raise InvalidArgument(f"{WHAT}: no bytes")
    pil = load("PIL.Image", extra="media", what=f"{WHAT} of these {len(raw)} bytes")
    try:
        with pil.open(io.BytesIO(raw)) as image:
            return _saved(image, mode, format_)
    except OSError as error:
        raise InvalidArgument(
            f"{WHAT}: {len(raw)} bytes are no image that is known here: {error}"
        ) from None


def _saved(image: Any, mode: str | None, format_: str) -> tuple[Content, tuple[int, int]]:
    """Returns a PIL image encoded by Pillow."""
    check_size(image.size[0], image.size[1], WHAT)
    if mode is not None and mode != image.mode:
        try:
            image = image.convert(mode)
        except ValueError as error:
            raise InvalidArgument(
                f"{WHAT}: an image of mode {image.mode} cannot become one of mode {given.shown(mode)}: {error}"
            ) from None
    if format_ == "jpg" and image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    elif image.mode not in _PNG_MODES and format_ != "jpg":
        image = image.convert("RGBA" if image.mode in _ALPHA_MODES else "RGB")
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=_FORMATS[format_])
    except (OSError, ValueError) as error:
        raise InvalidArgument(
            f"{WHAT}: Pillow cannot save an image of mode {image.mode} as {format_}: {error}"
        ) from None
    return Content(format_, buffer.getvalue()), (image.size[0], image.size[1])


def _drawn(figure: Any, mode: str | None, format_: str) -> tuple[Content, tuple[int, int] | None]:
    """Returns a matplotlib figure as it is drawn."""
    while hasattr(figure, "figure") and figure.figure is not figure and figure.figure is not None:
        figure = figure.figure  # of a part of a figure the whole
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    raw = buffer.getvalue()
    if mode is None and format_ == "png":
        return Content("png", raw), sniff.image_size(raw)
    pil = load("PIL.Image", extra="media", what=f"{WHAT} of mode {mode} as {format_}")
    return _saved(pil.open(io.BytesIO(raw)), mode, format_)


def _checked_format(file_type: str | None) -> str:
    format_ = given.text(file_type or "png", f"{WHAT}: file_type").lower().lstrip(".")
    if format_ not in _FORMATS:
        raise InvalidArgument(
            f"{WHAT}: file_type {file_type!r:.80} is not one of {', '.join(_FORMATS)}"
        )
    return "jpg" if format_ == "jpeg" else format_


def _checked_grouping(grouping: Any) -> int:
    index = getattr(grouping, "__index__", None)
    if index is None or isinstance(grouping, bool):
        raise InvalidArgument(f"{WHAT}: grouping {grouping!r:.80} is no integer")
    return int(index())
