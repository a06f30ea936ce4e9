"""What encoded bytes are, and how large the picture or how long the sound in them is, as their heads say."""

from __future__ import annotations

import re
import struct
from typing import Any

HEAD_BYTES = 1 << 20
"""So much of a file is looked at."""

_SVG = re.compile(rb"<svg\b[^>]*>", re.IGNORECASE | re.DOTALL)
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_format(head: bytes) -> str:
    """Returns png, jpg, gif, webp, bmp or svg; "" for anything else."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and len(head) >= 26 and head[6:10] == b"\0\0\0\0":
        return "bmp"
    start = head[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and _SVG.search(head):
        return "svg"
    return ""


def image_size(head: bytes) -> tuple[int, int] | None:
    """Returns (width, height) in pixels of an encoded image; None where its head does not say."""
    kind = image_format(head)
    try:
        if kind == "png":
            return struct.unpack_from(">II", head, 16)
        if kind == "gif":
            return struct.unpack_from("<HH", head, 6)
        if kind == "bmp":
            width, height = struct.unpack_from("<ii", head, 18)
            return abs(width), abs(height)
        if kind == "jpg":
            return _jpeg_size(head)
        if kind == "webp":
            return _webp_size(head)
        if kind == "svg":
            return _svg_size(head)
    except struct.error:  # cut off
        return None
    return None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    position = 2
    while True:
        marker, code, length = struct.unpack_from(">BBH", head, position)
        if marker != 0xFF:
            return None
        if code in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", head, position + 5)
            return width, height
        position += 1 if code == 0xFF else 2 + length  # a marker may be led by filling bytes


def _webp_size(head: bytes) -> tuple[int, int] | None:
    chunk = head[12:16]
    if chunk == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", head, 24)
        return (low_width | high_width << 16) + 1, (low_height | high_height << 16) + 1
    if chunk == b"VP8L":
        bits = struct.unpack_from("<I", head, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _svg_size(head: bytes) -> tuple[int, int] | None:
    found = _SVG.search(head)
    tag = found.group(0).decode("utf-8", "replace") if found else ""
    sides = [
        re.search(rf"""\s{side}\s*=\s*["']\s*([0-9.]+)\s*(?:px)?\s*["']""", tag)
        for side in ("width", "height")
    ]
    box = re.search(
        r"""\sviewBox\s*=\s*["']\s*[-0-9.e]+[\s,]+[-0-9.e]+[\s,]+([0-9.]+)[\s,]+([0-9.]+)""", tag
    )
    try:
        if sides[0] and sides[1]:
            numbers = float(sides[0].group(1)), float(sides[1].group(1))
        elif box:
            numbers = float(box.group(1)), float(box.group(2))
        else:
            return None
    except ValueError:  # several points in one number
        return None
    return max(1, round(numbers[0])), max(1, round(numbers[1]))


def audio_format(head: bytes) -> str:
    """Returns wav, mp3, ogg, flac, m4a or webm; "" for anything else."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head.startswith(b"fLaC"):
        return "flac"
    if head.startswith(b"OggS"):
        return "ogg"
    if head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "mp3"
    if head[4:8] == b"ftyp":
        return "m4a"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm"
    return ""


def audio_facts(head: bytes, size_bytes: int) -> dict[str, Any]:
    """Returns sample_rate, channels and duration_s of a WAV or FLAC; nothing of others, or where the head does not say."""
    try:
        if audio_format(head) == "wav":
            return _wav_facts(head, size_bytes)
        if audio_format(head) == "flac":
            bits = int.from_bytes(head[18:26], "big")
            rate, channels = bits >> 44, (bits >> 41 & 7) + 1
            samples = bits & (1 << 36) - 1
            facts: dict[str, Any] = {"sample_rate": rate, "channels": channels}
            return facts | {"duration_s": samples / rate} if samples and rate else facts
    except struct.error:  # cut off
        pass
    return {}


def _wav_facts(head: bytes, size_bytes: int) -> dict[str, Any]:
    position, facts, byte_rate = 12, dict[str, Any](), 0
    while True:
        name, length = struct.unpack_from("<4sI", head, position)
        if name == b"fmt ":
            _, channels, rate, byte_rate = struct.unpack_from("<HHII", head, position + 8)
            facts = {"sample_rate": rate, "channels": channels}
        if name == b"data":
            if byte_rate:  # the length of a stream is not known when its head is written
                facts["duration_s"] = min(length, size_bytes - position - 8) / byte_rate
            return facts
        position += 8 + length + (length & 1)


def video_format(head: bytes) -> str:
    """Returns gif, mp4, webm, ogg, avi or mov; "" for anything else."""
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[4:8] == b"ftyp":
        return "mov" if head[8:12] == b"qt  " else "mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm"
    if head.startswith(b"OggS"):
        return "ogg"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return ""
