"""Audio: a sound from samples, encoded bytes or a file."""

from __future__ import annotations

import io
import os
import wave
from typing import Any

from runyard.errors import InvalidArgument
from runyard.media import sniff
from runyard.media.libraries import array_of, numpy
from runyard.media.value import Content, Item, Media, checked_caption, existing_path

WHAT = "Audio"
CHANNEL_COUNT_MAX = 64
SAMPLE_RATE_MAX = 1_000_000


class Audio(Media):
    """A sound to log. Arguments are named and meant as in wandb.

    Samples are (samples,) or (samples, channels): floats from -1 to 1, or integers of 8 (unsigned), 16 or 32 bits; they
    become a WAV. Files and encoded bytes (wav, mp3, ogg, flac, m4a, webm) are kept byte by byte.
    """

    kind = "audio"

    def __init__(
        self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None
    ) -> None:
        self.caption = checked_caption(caption, WHAT)
        rate = None if sample_rate is None else _checked_rate(sample_rate)
        self._facts: dict[str, Any] = {} if rate is None else {"sample_rate": rate}
        if isinstance(data_or_path, (str, os.PathLike)):
            path = existing_path(data_or_path, WHAT)
            with path.open("rb") as file:
                head = file.read(sniff.HEAD_BYTES)
            self._content = Content(_checked_format(head, str(path)), path)
            self._facts.update(sniff.audio_facts(head, path.stat().st_size))
        elif isinstance(data_or_path, (bytes, bytearray, memoryview)) or hasattr(
            data_or_path, "read"
        ):
            raw = bytes(data_or_path.read() if hasattr(data_or_path, "read") else data_or_path)
            self._content = Content(_checked_format(raw[: sniff.HEAD_BYTES], "bytes"), raw)
            self._facts.update(sniff.audio_facts(raw[: sniff.HEAD_BYTES], len(raw)))
        else:
            if rate is None:
                raise InvalidArgument(f"{WHAT}: samples need sample_rate=…, in samples a second")
            raw = _wav(data_or_path, rate)
            self._content = Content("wav", raw)
            self._facts = sniff.audio_facts(raw, len(raw))

    @property
    def duration_s(self) -> float | None:
        """Returns how long the sound is; None where its format does not say."""
        return self._facts.get("duration_s")

    def item(self) -> Item:
        """Returns what is told of the sound."""
        item: Item = {"file": self._content, **self._facts}
        return item | {"caption": self.caption} if self.caption else item


def _checked_format(head: bytes, where: str) -> str:
    format_ = sniff.audio_format(head)
    if not format_:
        raise InvalidArgument(
            f"{WHAT}: {where} is none of wav, mp3, ogg, flac, m4a, webm; give samples and sample_rate=…"
        )
    return format_


def _checked_rate(sample_rate: Any) -> int:
    try:
        rate = int(sample_rate)
    except (TypeError, ValueError, OverflowError):
        rate = 0
    if not 1 <= rate <= SAMPLE_RATE_MAX:
        raise InvalidArgument(
            f"{WHAT}: sample_rate {sample_rate!r:.80} is no integer from 1 to {SAMPLE_RATE_MAX}"
        )
    return rate


def _wav(samples: Any, rate: int) -> bytes:
    np = numpy(WHAT)
    array = array_of(samples, WHAT)
    if array.ndim == 2 and array.shape[1] > CHANNEL_COUNT_MAX >= array.shape[0]:
        array = array.T
    channels = array.shape[1] if array.ndim == 2 else 1
    if array.ndim not in (1, 2) or not array.size or channels > CHANNEL_COUNT_MAX:
        raise InvalidArgument(
            f"{WHAT}: an array of shape {tuple(array.shape)} is no sound; these are (samples,) and (samples, channels), with at "
            f"most {CHANNEL_COUNT_MAX} channels"
        )
    array = _as_integers(np, array)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(array.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return buffer.getvalue()


def _as_integers(np: Any, array: Any) -> Any:
    """Returns samples as a WAV holds them: unsigned of 8 bits, signed of 16 or 32."""
    if array.dtype.kind == "f":
        values = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=1.0, neginf=-1.0)
        return np.rint(values.clip(-1, 1) * 32767).astype(np.int16)
    for kind in (np.uint8, np.int16, np.int32):
        if array.dtype == kind:
            return array
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low >= -(2**15) and high < 2**15:
            return array.astype(np.int16)
        if low >= -(2**31) and high < 2**31:
            return array.astype(np.int32)
    raise InvalidArgument(
        f"{WHAT}: samples of {array.dtype} beyond 32 bits; give floats from -1 to 1, or integers of 8, 16 or 32 bits"
    )
