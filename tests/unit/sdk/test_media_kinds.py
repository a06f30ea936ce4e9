"""Audio, Video, Html and Histogram: what is decoded is what was given; what cannot be is refused with a reason."""

from __future__ import annotations

import io
import itertools
import re
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

import runyard
from runyard.errors import InvalidArgument, UsageError
from runyard.media import Media
from runyard.media.value import Content


def raw_of(media: Media) -> bytes:
    content: Content = media.item()["file"]
    return b"".join(content._parts(lambda inner: {}))


def wav(media: runyard.Audio) -> tuple[wave._wave_params, bytes]:
    with wave.open(io.BytesIO(raw_of(media))) as file:
        return file.getparams(), file.readframes(file.getnframes())


@pytest.mark.parametrize(
    ("samples", "width", "expected"),
    [
        ([0.0, 0.5, -1.0, 1.0, 2.0], 2, [0, 16384, -32767, 32767, 32767]),
        (np.array([np.nan, np.inf, -np.inf], np.float32), 2, [0, 32767, -32767]),
        (np.array([-3, 30000], np.int16), 2, [-3, 30000]),
        (np.array([-3, 70000], np.int64), 4, [-3, 70000]),
        (np.array([-3, 70], np.int64), 2, [-3, 70]),
        (np.array([0, 128, 255], np.uint8), 1, [0, 128, 255]),
        (np.array([-(2**31), 5], ">i4"), 4, [-(2**31), 5]),
    ],
)
def test_samples_become_a_wav(samples: Any, width: int, expected: list[int]) -> None:
    """The standard library reads back each sample."""
    params, raw = wav(runyard.Audio(samples, sample_rate=8000))
    assert (params.nchannels, params.sampwidth, params.framerate) == (1, width, 8000)
    kind = {1: np.uint8, 2: "<i2", 4: "<i4"}[width]
    assert np.frombuffer(raw, kind).tolist() == expected


def test_channels_of_a_sound() -> None:
    """(samples, channels), or the other way round where that cannot be."""
    stereo = np.stack([np.zeros(500), np.ones(500)], axis=1)
    for samples in (stereo, stereo.T):
        params, raw = wav(runyard.Audio(samples, sample_rate=100))
        assert (params.nchannels, params.nframes) == (2, 500)
        assert np.frombuffer(raw, "<i2")[:2].tolist() == [0, 32767]
    item = runyard.Audio(stereo, sample_rate=100, caption="tone").item()
    told = {key: value for key, value in item.items() if key != "file"}
    assert told == {"sample_rate": 100, "channels": 2, "duration_s": 5.0, "caption": "tone"}


def test_files_of_sounds_are_kept(tmp_path: Path) -> None:
    """Bytes stay as they are; what a WAV or FLAC says of itself is told."""
    raw = raw_of(runyard.Audio(np.zeros(4410), sample_rate=44100))
    path = tmp_path / "a.wav"
    path.write_bytes(raw)
    audio = runyard.Audio(path)
    assert raw_of(audio) == raw and audio.duration_s == pytest.approx(0.1)
    flac = b"fLaC" + bytes(14) + (48000 << 44 | 1 << 41 | 15 << 36 | 96000).to_bytes(8, "big")
    item = runyard.Audio(flac).item()
    assert (item["sample_rate"], item["channels"], item["duration_s"]) == (48000, 2, 2.0)
    assert runyard.Audio(b"ID3" + bytes(99), sample_rate=22050).item()["sample_rate"] == 22050


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"data_or_path": [0.0]}, "samples need sample_rate"),
        ({"data_or_path": [0.0], "sample_rate": 0}, "sample_rate 0 is no integer from 1"),
        ({"data_or_path": np.zeros((2, 2, 2)), "sample_rate": 1}, r"shape \(2, 2, 2\) is no sound"),
        ({"data_or_path": np.zeros((99, 99)), "sample_rate": 1}, "at most 64 channels"),
        ({"data_or_path": [], "sample_rate": 1}, "is no sound"),
        ({"data_or_path": [2**40], "sample_rate": 1}, "beyond 32 bits"),
        ({"data_or_path": b"hello"}, "none of wav, mp3"),
        ({"data_or_path": "none.wav"}, "does not exist"),
    ],
)  # fmt: skip
def test_what_is_no_sound(arguments: dict[str, Any], problem: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(InvalidArgument, match=problem):
        runyard.Audio(**arguments)


FRAMES = np.arange(3 * 8 * 6 * 3).reshape(3, 8, 6, 3).astype(np.uint8)


def gif_frames(video: runyard.Video) -> list[np.ndarray[Any, Any]]:
    frames = []
    with Pil.open(io.BytesIO(raw_of(video))) as picture:
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")))
    return frames


@pytest.mark.parametrize("order", ["last", "first"])
def test_frames_become_a_gif(order: str) -> None:
    """Every frame is in it, in order; what is told of it fits."""
    frames = np.repeat(np.array([0, 100, 255], np.uint8), 8 * 6 * 3).reshape(3, 8, 6, 3)
    given_frames = frames if order == "last" else np.moveaxis(frames, -1, 1)
    video = runyard.Video(given_frames, fps=10, caption="c")
    assert [frame[0, 0, 0] for frame in gif_frames(video)] == [0, 100, 255]
    told = {key: value for key, value in video.item().items() if key != "file"}
    assert told == {"width": 6, "height": 8, "fps": 10.0, "frame_count": 3, "caption": "c"}


def test_a_batch_of_videos_is_shown_side_by_side() -> None:
    """Two videos stand in one row."""
    batch = np.stack([np.zeros((2, 3, 4, 6)), np.ones((2, 3, 4, 6))])
    (frame, *_) = gif_frames(runyard.Video(batch))
    assert frame.shape == (4, 12, 3)
    assert (frame[0, 0, 0], frame[0, 11, 0]) == (0, 255)


@pytest.mark.parametrize("format_", ["mp4", "webm"])
def test_frames_become_a_film(tmp_path: Path, format_: str) -> None:
    """Ffmpeg reads as many frames as were given, of the sides made even."""
    import imageio_ffmpeg

    frames = np.repeat(np.array([0, 100, 200, 255], np.uint8), 15 * 21 * 3).reshape(4, 15, 21, 3)
    video = runyard.Video(frames, fps=8, format=format_)
    path = tmp_path / f"video.{format_}"
    path.write_bytes(raw_of(video))
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        "-i",
        str(path),
        "-f",
        "rawvideo",
    ]
    raw = subprocess.run(
        [*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    ).stdout
    found = np.frombuffer(raw, np.uint8).reshape(4, 16, 22, 3).astype(int)
    assert (abs(found - np.array([0, 100, 200, 255])[:, None, None, None]) < 8).all()
    assert runyard.Video(path).item()["file"].extension == format_
    assert raw_of(runyard.Video(path)) == path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"data_or_path": np.zeros((2, 5, 6, 7))}, r"shape \(2, 5, 6, 7\) is no video"),
        ({"data_or_path": np.zeros((5, 6, 3))}, "is no video"),
        ({"data_or_path": FRAMES, "fps": 0}, "fps 0 is no number above 0"),
        ({"data_or_path": FRAMES, "format": "avi"}, "format 'avi' is not one of"),
        ({"data_or_path": b"hello"}, "none of gif, mp4"),
    ],
)
def test_what_is_no_video(arguments: dict[str, Any], problem: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(InvalidArgument, match=problem):
        runyard.Video(**arguments)


def test_without_an_encoder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """mp4 needs imageio-ffmpeg."""
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match=re.escape("imageio-ffmpeg") + r".*runyard\[media\]"):
        runyard.Video(FRAMES, format="mp4")


def test_html(tmp_path: Path) -> None:
    """Text, an open file and a path; `inject` goes into the head, and nothing is changed without it."""
    page = "<html><head><title>x</title></head><body>é</body></html>"
    path = tmp_path / "page.html"
    path.write_text(page, "utf-8")
    for source in (page, path, str(path)):
        assert raw_of(runyard.Html(source, inject=False)).decode() == page
    for source in (page, io.StringIO(page), io.BytesIO(page.encode()), path, str(path)):
        injected = raw_of(runyard.Html(source)).decode()
        assert injected.startswith('<html><head><base target="_blank"><style>')
        assert injected.endswith("<title>x</title></head><body>é</body></html>")
    assert raw_of(runyard.Html("<b>x</b>")).decode().endswith("</style><b>x</b>")
    assert runyard.Html("a.html", inject=False, data_is_not_path=True).html == "a.html"
    with pytest.raises(InvalidArgument, match="does not exist"):
        runyard.Html("gone.html")
    with pytest.raises(InvalidArgument, match="type int"):
        runyard.Html(3)


NUMBERS = st.lists(
    st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**53), 2**53), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(values=NUMBERS, num_bins=st.integers(1, 512))
def test_a_histogram_counts_every_value_once(values: list[float], num_bins: int) -> None:
    """Counts and what is not finite make up all values; edges ascend; where NumPy can count, it counts the same."""
    item = runyard.Histogram(values, num_bins=num_bins).item()
    edges, counts = item["edges"], item["counts"]
    finite = np.array([value for value in values if np.isfinite(value)], dtype=np.float64)
    assert sum(counts) == finite.size
    assert item["non_finite_count"] == len(values) - finite.size
    assert len(edges) == len(counts) + 1 <= num_bins + 1 and np.isfinite(edges).all()
    assert all(low < high for low, high in itertools.pairwise(edges))
    if finite.size:
        assert edges[0] <= finite.min() and finite.max() <= edges[-1]
    try:
        with np.errstate(all="ignore"):
            expected, expected_edges = np.histogram(finite, bins=num_bins)
    except ValueError:
        return
    if np.isfinite(expected_edges).all() and (np.diff(expected_edges) > 0).all():
        assert counts == expected.tolist() and edges == expected_edges.tolist()


def test_histograms_of_many_sources() -> None:
    """Generators, ranges, sets, arrays of any shape and type, and numpy.histogram's own result."""
    for source in (range(10), (i for i in range(10)), set(range(10)), np.arange(10).reshape(2, 5),
                   np.arange(10, dtype=np.float16), np.arange(10, dtype=np.uint64)):  # fmt: skip
        assert runyard.Histogram(source, num_bins=5).histogram == [2.0] * 5
    density = np.histogram([1.0, 2.0, 2.0], bins=4, density=True)
    given_histogram = runyard.Histogram(np_histogram=density)
    assert given_histogram.histogram == density[0].tolist()
    assert given_histogram.bins == density[1].tolist()
    assert runyard.Histogram([], num_bins=3).histogram == [0.0] * 3


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "either sequence or np_histogram"),
        ({"sequence": [1], "np_histogram": ([1], [0, 1])}, "either sequence or np_histogram"),
        ({"sequence": "abc"}, "is no sequence of numbers"),
        ({"sequence": 3}, "is no sequence of numbers"),
        ({"sequence": ["a"]}, "holds no real numbers"),
        ({"sequence": [1], "num_bins": 513}, "num_bins 513 is no integer from 1 to 512"),
        ({"sequence": [1], "num_bins": 0}, "num_bins 0"),
        ({"np_histogram": [1]}, "is the pair"),
        ({"np_histogram": ([1, 2], [0, 1])}, "2 counts and 2 edges"),
        ({"np_histogram": ([1] * 513, range(514))}, "513 counts"),
        ({"np_histogram": ([-1], [0, 1])}, "negative or not finite"),
        ({"np_histogram": ([1], [1, 1])}, "not finite and ascending"),
        ({"np_histogram": ([1], [0, float("inf")])}, "not finite and ascending"),
    ],
)
def test_histograms_that_cannot_be(arguments: dict[str, Any], problem: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(InvalidArgument, match=problem):
        runyard.Histogram(**arguments)


def test_importing_runyard_loads_no_media() -> None:
    """`import runyard` loads nothing of media, and making an image loads NumPy only."""
    script = (
        "import sys, runyard; assert not any('media' in m for m in sys.modules if 'runyard' in m); runyard.Table;"
        "runyard.plot; import numpy; runyard.Image(numpy.zeros((2, 2)));"
        "assert not {'PIL', 'pandas', 'pyarrow', 'matplotlib', 'plotly', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
