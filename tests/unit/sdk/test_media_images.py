"""Image: what comes out of the bytes is what went in; what is no image is refused with a reason."""

from __future__ import annotations

import io
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as Pil

import runyard
from runyard.errors import InvalidArgument, UsageError
from runyard.media import png, sniff
from runyard.media.value import Content

matplotlib.use("Agg")


def raw_of(content: Content) -> bytes:
    return b"".join(content._parts(lambda inner: {}))


def opened(image: runyard.Image) -> Pil.Image:
    picture = Pil.open(io.BytesIO(raw_of(image.item()["file"])))
    picture.load()
    return picture


def pixels(image: runyard.Image) -> np.ndarray[Any, Any]:
    return np.asarray(opened(image))


SHAPES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(2, 4)),
)


@settings(max_examples=60, deadline=None)
@given(array=SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_a_png_holds_every_pixel(array: np.ndarray[Any, Any]) -> None:
    """Pillow reads from our PNG exactly the pixels, of 1 to 4 channels."""
    with Pil.open(io.BytesIO(png.encode(array))) as picture:
        assert np.array_equal(np.asarray(picture), array)


@pytest.mark.parametrize("shape", [(3000, 2100, 3), (1, 65_500), (9000, 1)])
def test_a_large_png_is_written_in_blocks(shape: tuple[int, ...]) -> None:
    """The first row of a block is told against the last one of the block before."""
    y, x = np.indices(shape[:2])
    array = (x // 7 + y * 3).astype(np.uint8)
    if len(shape) == 3:
        array = np.stack([array, array + 1, array // 2], axis=2).astype(np.uint8)
    with Pil.open(io.BytesIO(png.encode(array))) as picture:
        assert np.array_equal(np.asarray(picture), array)


def test_filters_make_smooth_pictures_small() -> None:
    """A smooth picture takes little more than half of what zlib alone makes of it."""
    y, x = np.indices((256, 256))
    array = (127 + 60 * np.sin(x / 31) + 60 * np.cos(y / 17 + x / 90)).astype(np.uint8)
    assert len(png.encode(array)) < 0.7 * len(zlib.compress(array.tobytes(), 9))


@pytest.mark.parametrize(
    ("array", "mode", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]]), "L", [[0, 128, 255]]),
        (np.array([[-1.0, 0.0, 1.0]]), "L", [[0, 128, 255]]),
        (np.array([[-9.0, 99.6, 300.0]]), "L", [[0, 100, 255]]),
        (np.array([[np.nan, 0.25, 1.0]], dtype=np.float32), "L", [[0, 64, 255]]),
        (np.array([[np.inf, -np.inf, 10.0]]), "L", [[255, 0, 10]]),
        (np.array([[0.2, 1.0]], dtype=np.float16), "L", [[51, 255]]),
        (np.array([[True, False]]), "L", [[255, 0]]),
        (np.array([[-5, 3, 999]]), "L", [[0, 3, 255]]),
        (np.array([[0, 1]], dtype=np.uint16), "L", [[0, 1]]),
        (np.full((1, 1), np.nan), "L", [[0]]),
    ],
)  # fmt: skip
def test_numbers_become_pixels(array: Any, mode: str, expected: Any) -> None:
    """Floats from 0 or -1 to 1 are scaled, all else is cut to 0..255; NaN is black."""
    picture = opened(runyard.Image(array))
    assert picture.mode == mode and np.asarray(picture).tolist() == expected


def test_without_normalize_nothing_is_scaled() -> None:
    """normalize=False cuts floats to 0..255 as they are."""
    image = runyard.Image(np.array([[0.4, 1.0, 254.6, 300.0]]), normalize=False)
    assert pixels(image).tolist() == [[0, 1, 255, 255]]


@pytest.mark.parametrize(
    ("shape", "mode", "size"),
    [
        ((5, 7), "L", (7, 5)), ((5, 7, 1), "L", (7, 5)), ((5, 7, 2), "LA", (7, 5)), ((5, 7, 3), "RGB", (7, 5)),
        ((5, 7, 4), "RGBA", (7, 5)), ((3, 5, 7), "RGB", (7, 5)), ((1, 5, 7), "L", (7, 5)), ((4, 5, 7), "RGBA", (7, 5)),
        ((3, 7, 3), "RGB", (7, 3)), ((1, 1, 5, 7, 3), "RGB", (7, 5)), ((1, 5, 7, 3), "RGB", (7, 5)),
    ],
)  # fmt: skip
def test_axes_are_found(shape: tuple[int, ...], mode: str, size: tuple[int, int]) -> None:
    """HW, HWC and CHW are told apart; where both could be, channels are last."""
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    image = runyard.Image(array)
    picture = opened(image)
    assert (picture.mode, picture.size, image.size) == (mode, size, size)
    last = array.reshape(array.shape[-3:]) if array.ndim > 3 else array
    if last.ndim == 3 and last.shape[-1] > 4:
        last = np.moveaxis(last, 0, -1)
    assert np.array_equal(np.asarray(picture), last.squeeze() if mode == "L" else last)


def test_a_batch_becomes_one_picture() -> None:
    """Eight images a row, two pixels apart."""
    batch = np.stack([np.full((4, 5, 3), value, np.uint8) for value in range(1, 11)])
    picture = pixels(runyard.Image(batch))
    assert picture.shape == (2 * 6 + 2, 8 * 7 + 2, 3)
    assert (
        picture[2, 2, 0] == 1 and picture[2, 2 + 7 * 7, 0] == 8 and picture[2 + 6, 2 + 7, 0] == 10
    )
    assert picture[0, 0, 0] == 0 and picture[-1, -1, 0] == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F", "HSV"])
def test_pil_images_of_every_mode(mode: str) -> None:
    """What PNG can hold keeps its mode; the rest becomes RGB."""
    given_image = Pil.new(mode, (4, 3))
    picture = opened(runyard.Image(given_image))
    assert picture.size == (4, 3)
    assert picture.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")


@pytest.mark.parametrize("format_", ["png", "jpg", "gif", "webp", "bmp"])
def test_files_and_bytes_are_kept_as_they_are(tmp_path: Path, format_: str) -> None:
    """The same bytes, whatever the name says; their size is read from their head."""
    buffer = io.BytesIO()
    Pil.new("RGB", (13, 9), (200, 10, 30)).save(buffer, "JPEG" if format_ == "jpg" else format_)
    raw = buffer.getvalue()
    path = tmp_path / "picture.any"
    path.write_bytes(raw)
    for source in (path, str(path), raw, bytearray(raw), io.BytesIO(raw)):
        image = runyard.Image(source, caption="c")
        assert raw_of(image.item()["file"]) == raw
        assert (image.format, image.width, image.height) == (format_, 13, 9)
    path.unlink()
    assert raw_of(image.item()["file"]) == raw


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"save_all": True}])
def test_sizes_of_every_webp(options: dict[str, Any]) -> None:
    """Lossless, lossy and extended ones."""
    buffer = io.BytesIO()
    others = [Pil.new("RGBA", (300, 17), (0, 0, 9, 9))] if "save_all" in options else []
    Pil.new("RGBA", (300, 17)).save(buffer, "WEBP", append_images=others, **options)
    assert sniff.image_size(buffer.getvalue()) == (300, 17)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ('<svg xmlns="x" width="30" height="20px"></svg>', (30, 20)),
        ('<?xml version="1.0"?>\n<svg viewBox="0 0 40.4 10" height="5em"/>', (40, 10)),
        ("<svg></svg>", None),
        ('<svg width="1.2.3" height="1"></svg>', None),
    ],
)
def test_svg(text: str, size: tuple[int, int] | None) -> None:
    """An SVG is kept; its size is that of its head, or not known."""
    image = runyard.Image(text.encode())
    assert (image.format, image.size) == ("svg", size)
    assert ("width" in image.item()) == (size is not None)


def test_what_only_pillow_knows_becomes_a_png(tmp_path: Path) -> None:
    """A TIFF is opened by Pillow."""
    path = tmp_path / "picture.tiff"
    Pil.new("RGB", (3, 2), (1, 2, 3)).save(path)
    image = runyard.Image(path)
    assert image.format == "png" and pixels(image)[0, 0].tolist() == [1, 2, 3]


def test_mode_and_file_type() -> None:
    """`mode` converts, `file_type` says how it is encoded."""
    array = np.full((4, 4, 4), 200, np.uint8)
    assert opened(runyard.Image(array, mode="L")).mode == "L"
    jpeg = runyard.Image(array, file_type="jpeg")
    assert (jpeg.format, opened(jpeg).format, opened(jpeg).mode) == ("jpg", "JPEG", "RGB")
    assert opened(runyard.Image(array, file_type="webp")).format == "WEBP"


def test_figures_of_matplotlib() -> None:
    """A figure, its axes, and pyplot itself give the drawn figure."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(2, 1), dpi=50)
    axes.plot([1, 2, 3])
    try:
        for source in (figure, axes, pyplot, axes.lines[0]):
            assert runyard.Image(source).size == (100, 50)
    finally:
        pyplot.close(figure)


def test_an_array_that_changes_later_does_not_change_the_image() -> None:
    """The bytes are made at once."""
    array = np.zeros((2, 2), np.uint8)
    image = runyard.Image(array)
    array[:] = 9
    assert pixels(image).max() == 0
    assert runyard.Image(image, caption="again").size == (2, 2)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (np.zeros((2, 3, 5)), r"shape \(2, 3, 5\) is no image"),
        (np.zeros(7), r"shape \(7,\) is no image"),
        (np.zeros((0, 3)), "3 x 0 pixels"),
        (np.zeros((1, 70_000), np.uint8), "70000 x 1 pixels; sides are 1 to 65500"),
        (np.zeros((2, 2), complex), "complex128 holds no real numbers"),
        (np.array([["a"]]), "holds no real numbers"),
        (np.array([[object()]]), "no array of numbers"),
        ([[1, 2], [3]], "no array can be made of it"),
        (b"", "no bytes"),
        (b"hello", "5 bytes are no image"),
        ("nothing.png", "nothing.png does not exist"),
        ("https://example.org/a.png", "is an address"),
        (object(), "type builtins.object is no image"),
        (3, "type builtins.int is no image"),
    ],
)
def test_what_is_no_image(data: Any, problem: str) -> None:
    """The error says what is wrong with it."""
    with pytest.raises(InvalidArgument, match=problem):
        runyard.Image(data)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"caption": "x" * 5000}, "5000 bytes, at most 4096"),
        ({"grouping": "x"}, "grouping 'x' is no integer"),
        ({"file_type": "tga"}, "file_type 'tga' is not one of"),
        ({"classes": [3]}, "each class is"),
        ({"boxes": []}, "boxes is no dict by name"),
        ({"boxes": {"p": {}}}, r"boxes\['p'\] is no dict with a list"),
        ({"boxes": {"p": {"box_data": [{}]}}}, 'box 0 is no dict with a dict "position"'),
        ({"boxes": {"p": {"box_data": [{"position": {"minX": 1}}]}}}, "it takes minX, maxX, minY and maxY"),
        ({"masks": {"m": {}}}, 'either "mask_data" or "path"'),
        ({"masks": {"m": {"mask_data": np.zeros((3, 3))}}}, r"has 3 x 3 pixels, its image 4 x 2"),
        ({"masks": {"m": {"mask_data": np.full((2, 4), 256)}}}, "integers from 0 to 255"),
        ({"masks": {"m": {"mask_data": np.full((2, 4), 0.5)}}}, "integers from 0 to 255"),
        ({"masks": {"m": {"mask_data": np.zeros((2, 4)), "class_labels": {-1: "x"}}}}, "class id -1 is no integer"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(arguments: dict[str, Any], problem: str) -> None:
    """Captions, boxes and masks are checked when the image is made."""
    with pytest.raises(InvalidArgument, match=problem):
        runyard.Image(np.zeros((2, 4), np.uint8), **arguments)


def box(position: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"p": {"box_data": [{"position": position, **more}], "class_labels": {1: "cat"}}}


def test_boxes_are_brought_into_one_form() -> None:
    """Pixels become fractions, a middle becomes sides; captions, classes and scores stay."""
    array = np.zeros((10, 20), np.uint8)
    of_pixels = box(
        {"minX": np.int64(2), "maxX": 4, "minY": 1, "maxY": 5},
        domain="pixel",
        class_id=np.int32(1),
        box_caption="cat",
        scores={"p": np.float32(0.5), "iou": float("nan")},
    )
    item = runyard.Image(array, boxes=of_pixels).item()
    (told,) = item["boxes"]["p"]["box_data"]
    assert told["position"] == {"minX": 0.1, "maxX": 0.2, "minY": 0.1, "maxY": 0.5}
    assert (told["class_id"], told["box_caption"], told["scores"]["p"]) == (1, "cat", 0.5)
    assert np.isnan(told["scores"]["iou"])
    assert item["boxes"]["p"]["class_labels"] == {"1": "cat"}
    of_middle = box({"middle": [0.5, 0.5], "width": 0.5, "height": 1.0})
    (told,) = runyard.Image(array, boxes=of_middle).item()["boxes"]["p"]["box_data"]
    assert told["position"] == {"minX": 0.25, "maxX": 0.75, "minY": 0.0, "maxY": 1.0}


@pytest.mark.parametrize(
    ("boxes", "problem"),
    [
        (box({"minX": 2, "maxX": 1, "minY": 0, "maxY": 1}), "smallest side beyond its largest"),
        (box({"minX": float("nan"), "maxX": 1, "minY": 0, "maxY": 1}), r"position\['minX'\] is nan"),
        (box({"middle": 3, "width": 1, "height": 1}), "is no pair"),
        (box({"middle": [1, 1], "width": 1, "height": 1}, domain="cm"), "domain 'cm' is not"),
        (box({"middle": [1, 1], "width": 1, "height": 1}, class_id="x"), "class id 'x'"),
        (box({"middle": [1, 1], "width": 1, "height": 1}, scores=3), "scores is no dict"),
    ],
)  # fmt: skip
def test_boxes_that_cannot_be(boxes: Any, problem: str) -> None:
    """The error names the box and what is wrong with it."""
    with pytest.raises(InvalidArgument, match=problem) as caught:
        runyard.Image(np.zeros((10, 20), np.uint8), boxes=boxes)
    assert "boxes['p']: box 0" in str(caught.value)


def test_masks_are_grey_pngs(tmp_path: Path) -> None:
    """A mask keeps its class ids; `classes` names them; a path must be a grey PNG."""
    array, ids = np.zeros((3, 4, 3), np.uint8), np.arange(12).reshape(3, 4)
    path = tmp_path / "mask.png"
    path.write_bytes(png.encode(ids.astype(np.uint8)))
    image = runyard.Image(
        array,
        masks={"a": {"mask_data": ids[None]}, "b": {"path": path, "class_labels": {0: "sky"}}},
        classes=runyard.Classes([{"id": 1, "name": "cat"}]),
    )
    masks = image.item()["masks"]
    for name in ("a", "b"):
        with Pil.open(io.BytesIO(raw_of(masks[name]["file"]))) as picture:
            assert picture.mode == "L" and np.array_equal(np.asarray(picture), ids)
    assert masks["a"]["class_labels"] == {"1": "cat"}
    assert masks["b"]["class_labels"] == {"0": "sky"}
    Pil.new("RGB", (4, 3)).save(path)
    with pytest.raises(InvalidArgument, match="is no PNG of 8 bit grey"):
        runyard.Image(array, masks={"b": {"path": path}})


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays need no Pillow; a JPEG of one does."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    array = np.zeros((2, 2), np.uint8)
    assert runyard.Image(array).format == "png"
    with pytest.raises(UsageError, match=re.escape('pip install "runyard[media]"')):
        runyard.Image(array, file_type="jpg")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP",
       b"BM\0\0\0\0\0\0\0\0", b"<svg ", b"RIFF\0\0\0\0WAVE", b"fLaC", b""]))  # fmt: skip
def test_heads_of_junk_break_nothing(junk: bytes, start: bytes) -> None:
    """Whatever follows a known start, sizes are found or not; nothing is raised, nothing runs for ever."""
    head = start + junk
    size = sniff.image_size(head)
    assert size is None or all(isinstance(side, int) for side in size)
    sniff.audio_facts(head, len(head))
    sniff.video_format(head)


def test_a_jpeg_with_filling_bytes() -> None:
    """Markers may be led by 0xFF."""
    frame = struct.pack(">BBHBHHB", 0xFF, 0xC2, 17, 8, 5, 6, 3)
    assert sniff.image_size(b"\xff\xd8\xff\xff\xfe\x00\x04ab" + frame) == (6, 5)
