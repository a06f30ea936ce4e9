"""Video: moving pictures from frames, encoded bytes or a file."""

from __future__ import annotations

import io
import math
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from runyard import given
from runyard.errors import InvalidArgument
from runyard.media import sniff
from runyard.media.libraries import array_of, load, numpy
from runyard.media.pixels import check_size, to_bytes
from runyard.media.value import Content, Item, Media, checked_caption, existing_path
from runyard.metric_log import scalar_of

WHAT = "Video"
FPS_DEFAULT = 4.0
FPS_MAX = 1000.0
FRAME_COUNT_MAX = 100_000
_CODECS = {"mp4": "libx264", "webm": "libvpx-vp9"}
_CHANNELS = (1, 3, 4)


class Video(Media):
    """Moving pictures to log. Arguments are named and meant as in wandb.

    Frames are (time, channel, height, width) or (time, height, width, channel); five axes are a batch, shown side by side.
    They become a GIF, by Pillow; with format="mp4" or "webm" by ffmpeg. Files and encoded bytes are kept byte by byte.
    """

    kind = "video"

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        fps: float | None = None,
        format: str | None = None,
    ) -> None:
        self.caption = checked_caption(caption, WHAT)
        rate = None if fps is None else _checked_fps(fps)
        self._facts: dict[str, Any] = {} if rate is None else {"fps": rate}
        if isinstance(data_or_path, (str, os.PathLike)):
            path = existing_path(data_or_path, WHAT)
            with path.open("rb") as file:
                head = file.read(sniff.HEAD_BYTES)
            self._take(Content(_checked_format(head, str(path)), path), head)
        elif isinstance(data_or_path, (bytes, bytearray, memoryview)) or hasattr(
            data_or_path, "read"
        ):
            raw = bytes(data_or_path.read() if hasattr(data_or_path, "read") else data_or_path)
            head = raw[: sniff.HEAD_BYTES]
            self._take(Content(_checked_format(head, "bytes"), raw), head)
        else:
            self._encode(
                data_or_path,
                rate or FPS_DEFAULT,
                given.text(format or "gif", f"{WHAT}: format").lower(),
            )

    def item(self) -> Item:
        """Returns what is told of the video."""
        item: Item = {"file": self._content, **self._facts}
        return item | {"caption": self.caption} if self.caption else item

    def _take(self, content: Content, head: bytes) -> None:
        self._content = content
        size = sniff.image_size(head) if content.extension == "gif" else None
        if size is not None:
            self._facts["width"], self._facts["height"] = size

    def _encode(self, frames: Any, fps: float, format_: str) -> None:
        if format_ not in ("gif", *_CODECS):
            raise InvalidArgument(
                f"{WHAT}: format {format_!r:.80} is not one of gif, {', '.join(_CODECS)}"
            )
        pixels = _pixels_of(frames)
        raw = _gif(pixels, fps) if format_ == "gif" else _ffmpeg(pixels, fps, format_)
        self._content = Content(format_, raw)
        self._facts = {
            "width": pixels.shape[2],
            "height": pixels.shape[1],
            "fps": fps,
            "frame_count": pixels.shape[0],
        }


def _checked_format(head: bytes, where: str) -> str:
    format_ = sniff.video_format(head)
    if not format_:
        raise InvalidArgument(
            f"{WHAT}: {where} is none of gif, mp4, mov, webm, ogg, avi; give an array of frames"
        )
    return format_


def _checked_fps(fps: Any) -> float:
    rate = scalar_of(fps)
    if rate is None or not 0 < rate <= FPS_MAX:
        raise InvalidArgument(f"{WHAT}: fps {fps!r:.80} is no number above 0 and up to {FPS_MAX:g}")
    return float(rate)


def _pixels_of(frames: Any) -> Any:
    """Returns frames as a uint8 array (time, height, width, 3)."""
    np = numpy(WHAT)
    array = array_of(frames, WHAT)
    shape = array.shape
    if array.ndim not in (4, 5) or not array.size:
        raise _shape_error(shape)
    if array.shape[-3] in _CHANNELS:
        array = np.moveaxis(array, -3, -1)
    if array.shape[-1] not in _CHANNELS:
        raise _shape_error(shape)
    if array.ndim == 5:  # (batch, time, height, width, channel): side by side
        array = _side_by_side(np, array)
    count, height, width, channels = array.shape
    check_size(width, height, WHAT)
    if count > FRAME_COUNT_MAX:
        raise InvalidArgument(
            f"{WHAT}: {count} frames, at most {FRAME_COUNT_MAX} are allowed",
            reason="FIELD_TOO_LARGE",
        )
    pixels = to_bytes(array, normalize=True)
    return np.repeat(pixels, 3, axis=3) if channels == 1 else pixels[..., :3]


def _shape_error(shape: Any) -> InvalidArgument:
    return InvalidArgument(
        f"{WHAT}: an array of shape {tuple(shape)} is no video; these are (time, channel, height, width) and (time, height, "
        f"width, channel) with 1, 3 or 4 channels, or a batch of them"
    )


def _side_by_side(np: Any, batch: Any) -> Any:
    """Returns one video of the videos of a batch, in a square of as many as fit."""
    count, frames, height, width, channels = batch.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    picture = np.zeros((frames, rows * height, columns * width, channels), dtype=batch.dtype)
    for index in range(count):
        top, left = index // columns * height, index % columns * width
        picture[:, top : top + height, left : left + width] = batch[index]
    return picture


def _gif(pixels: Any, fps: float) -> bytes:
    pil = load("PIL.Image", extra="media", what=f"{WHAT} of frames")
    images = [pil.fromarray(frame) for frame in pixels]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=max(10, round(1000 / fps)),  # a GIF counts in hundredths of a second
        loop=0,
    )
    return buffer.getvalue()


def _ffmpeg(pixels: Any, fps: float, format_: str) -> bytes:
    np = numpy(WHAT)
    ffmpeg = load("imageio_ffmpeg", extra="media", what=f"{WHAT} of frames as {format_}")
    _, height, width, _ = pixels.shape
    edges = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    # The codecs take even sides only.
    pixels = np.ascontiguousarray(np.pad(pixels, edges, mode="edge"))
    with tempfile.TemporaryDirectory(prefix="runyard-") as folder:
        path = Path(folder) / f"video.{format_}"
        # The containers are not written to a pipe: their heads are filled in at the end.
        command = [
            ffmpeg.get_ffmpeg_exe(),
            "-loglevel",
            "error",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
        ]
        command += ["-s", f"{pixels.shape[2]}x{pixels.shape[1]}", "-r", str(fps), "-i", "-"]
        command += [
            "-c:v",
            _CODECS[format_],
            "-pix_fmt",
            "yuv420p",
            "-b:v",
            "0",
            "-crf",
            "23",
            str(path),
        ]
        try:
            done = subprocess.run(command, input=pixels.data, capture_output=True, check=False)
        except OSError as error:
            raise InvalidArgument(f"{WHAT}: ffmpeg cannot be run: {error}") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[-300:]
            raise InvalidArgument(f"{WHAT}: ffmpeg cannot encode {format_}: {said}")
        return path.read_bytes()
