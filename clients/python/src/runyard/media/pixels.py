"""From arrays of any shape and type of number to 8-bit pixels."""

from __future__ import annotations

from typing import Any

from runyard.errors import InvalidArgument
from runyard.media.libraries import array_of, is_of, numpy

SIDE_MAX = 65_500
PIXEL_COUNT_MAX = 1 << 28
GRID_COLUMNS = 8
"""Images in a row of the picture that shows a batch."""
GRID_GAP = 2
_CHANNELS = (1, 2, 3, 4)
_CHANNELS_FIRST = (1, 3, 4)


def pixels_of(data: Any, what: str, *, normalize: bool) -> Any:
    """Returns a uint8 array (height, width) or (height, width, 2 to 4); raises InvalidArgument for what is no image."""
    np = numpy(what)
    array = array_of(data, what)
    shape = array.shape
    while array.ndim > 4 and array.shape[0] == 1:
        array = array[0]
    is_channels_first = is_of(data, "torch.Tensor")
    if array.ndim == 4:
        array = _grid(np, _channels_last(np, array, is_channels_first=is_channels_first))
    elif array.ndim == 3:
        array = _channels_last(np, array, is_channels_first=is_channels_first)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise InvalidArgument(
            f"{what}: an array of shape {tuple(shape)} is no image; these are (height, width), (height, width, channels) "
            f"and (channels, height, width) with 1 to 4 channels"
        )
    check_size(array.shape[1], array.shape[0], what)
    return to_bytes(array, normalize=normalize)


def check_size(width: int, height: int, what: str) -> None:
    """Raises InvalidArgument for sides that no image may have."""
    if not (
        1 <= width <= SIDE_MAX and 1 <= height <= SIDE_MAX and width * height <= PIXEL_COUNT_MAX
    ):
        raise InvalidArgument(
            f"{what}: an image of {width} x {height} pixels; sides are 1 to {SIDE_MAX}, and at most "
            f"{PIXEL_COUNT_MAX} pixels are allowed",
            reason="FIELD_TOO_LARGE",
        )


def to_bytes(array: Any, *, normalize: bool) -> Any:
    """Returns the numbers as uint8: bool as black and white, floats from 0 or -1 to 1 scaled to 0..255, all else cut to it."""
    np = numpy("an image")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind in "iu":
        return array.clip(0, 255).astype(np.uint8)
    values = array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)  # a copy
    if normalize and values.size:
        finite = np.isfinite(values)
        low = values.min(where=finite, initial=np.inf)
        high = values.max(where=finite, initial=-np.inf)
        if low >= 0 and high <= 1:
            values *= 255
        elif low >= -1 and high <= 1:
            values += 1
            values *= 127.5
    values = np.nan_to_num(values, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def _channels_last(np: Any, array: Any, *, is_channels_first: bool) -> Any:
    """Returns images (height, width, channels) for what may be (channels, height, width); leading axes stay."""
    first, last = array.shape[-3], array.shape[-1]
    if is_channels_first or (first in _CHANNELS_FIRST and last not in _CHANNELS):
        return np.moveaxis(array, -3, -1)
    return array


def _grid(np: Any, batch: Any) -> Any:
    """Returns one picture of the images of a batch, in rows of eight with a black gap."""
    count, height, width, channels = batch.shape
    columns = min(count, GRID_COLUMNS)
    rows = -(-count // max(1, columns))
    if count <= 1:
        return batch[0] if count else batch.reshape(0, 0, channels)
    gap = GRID_GAP
    check_size(columns * (width + gap) + gap, rows * (height + gap) + gap, "a batch of images")
    shape = (rows * (height + gap) + gap, columns * (width + gap) + gap, channels)
    picture = np.zeros(shape, dtype=batch.dtype)
    for index in range(count):
        top = (index // columns) * (height + gap) + gap
        left = (index % columns) * (width + gap) + gap
        picture[top : top + height, left : left + width] = batch[index]
    return picture
