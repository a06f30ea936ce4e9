"""File names, media types and what a browser may show."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.run import RunKey
from runyard_server.files.names import check_file_name, choose_content_type, download_headers
from runyard_server.files.uploads import make_object_key


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a/b.txt",
        "ä ö/日本.png",
        ".hidden",
        "a..b",
        "...",
        "a b%+&",
        "x" * 255,
        "/".join(["d" * 127] * 8),
    ],
)
def test_ordinary_names_are_kept(name: str) -> None:
    """Spaces, dots within, and any script are allowed."""
    assert name == check_file_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "..",
        "a/../b",
        "./a",
        "a/.",
        "a//b",
        "a/",
        "a\\b",
        "a\nb",
        "a\0",
        "x" * 256,
        "ä" * 128,
        "/".join(["d" * 200] * 6),
    ],
)
def test_dangerous_names_are_refused(name: str) -> None:
    """No absolute path, no dot parts, no control characters, at most 255 bytes a part and 1,024 in all."""
    with pytest.raises(InvalidArgument) as caught:
        check_file_name(name)
    assert caught.value.reason == "FIELD_INVALID"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_accepted_names_are_safe(name: str) -> None:
    """Whatever is accepted is in NFC, stays in its folder and stays accepted."""
    try:
        kept = check_file_name(name)
    except InvalidArgument:
        return
    assert unicodedata.is_normalized("NFC", kept)
    assert kept == check_file_name(kept)
    assert len(kept.encode()) <= 1024
    assert not {"", ".", ".."} & set(kept.split("/"))


def test_two_ways_to_write_a_letter_are_one_name() -> None:
    """Names are compared in NFC."""
    assert check_file_name("a\u0308") == "ä"


@pytest.mark.parametrize(
    ("name", "announced", "expected"),
    [
        ("a.png", "", "image/png"),
        ("a.log", "", "text/plain"),
        ("train.py", "", "text/plain"),
        ("model.pt", "", "application/octet-stream"),
        ("README", "", "application/octet-stream"),
        ("a.png", "text/csv; charset=latin-1", "text/csv; charset=latin-1"),
    ],
)
def test_types_are_announced_or_guessed(name: str, announced: str, expected: str) -> None:
    """An announced type wins; else the name decides; else it is bytes."""
    assert expected == choose_content_type(name, announced)


@pytest.mark.parametrize("announced", ["text", "a/b\r\nX-Evil: 1", "a/b; c=\x00", "x/" + "y" * 300])
def test_what_is_no_media_type_is_refused(announced: str) -> None:
    """Nothing that could end a header gets into one."""
    with pytest.raises(InvalidArgument):
        choose_content_type("a", announced)


@pytest.mark.parametrize(
    ("content_type", "is_shown"),
    [
        ("image/png", True),
        ("text/plain", True),
        ("application/pdf", True),
        ("video/mp4", True),
        ("text/html", False),
        ("TEXT/HTML; charset=utf-8", False),
        ("image/svg+xml", False),
        ("application/xhtml+xml", False),
        ("text/javascript", False),
        ("application/octet-stream", False),
    ],
)
def test_only_harmless_types_are_shown(content_type: str, is_shown: bool) -> None:
    """HTML, SVG, XML and scripts are saved, never shown; all are saved when asked for."""
    for as_attachment in (False, True):
        _, disposition = download_headers("a", content_type, as_attachment=as_attachment)
        kind = "inline" if is_shown and not as_attachment else "attachment"
        assert disposition.startswith(kind + ";")


def test_a_download_keeps_its_name() -> None:
    """Old clients get plain ASCII, new ones the whole name; quotes cannot end the header."""
    content_type, disposition = download_headers('d/naïve "x".csv', "text/csv", as_attachment=True)
    assert content_type == "text/csv; charset=utf-8"
    expected = "attachment; filename=\"na_ve _x_.csv\"; filename*=UTF-8''na%C3%AFve%20%22x%22.csv"
    assert expected == disposition


def test_object_keys_are_portable() -> None:
    """No part is above 255 bytes, and two uploads of one content do not share a key."""
    keys = {
        make_object_key(RunKey(2**64 - 1), b"\xff" * 32, upload) for upload in ("a" * 32, "b" * 32)
    }
    assert len(keys) == 2
    for key in keys:
        assert len(key.encode()) <= 1024
        assert all(len(part) <= 255 for part in key.split("/"))
