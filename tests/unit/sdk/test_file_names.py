"""Names of files: the client's rules are the server's, and no name from a server leads outside of a folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runyard.errors import InvalidArgument
from runyard.file_names import check_name, name_problem, place_beneath
from runyard_server.domain.errors import InvalidArgument as ServerInvalidArgument
from runyard_server.files.names import check_file_name

BAD = ["", "/etc/passwd", "../a", "a/../b", "a/./b", "a//b", "a/", "a\\b", "a\nb", "a\x00b", "\x7f",
       "\ud800", "x" * 256, "x/" * 600 + "x", "."]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_names_are_refused(name: str, tmp_path: Path) -> None:
    """With a reason; neither for an upload nor for a download."""
    assert name_problem(name)
    with pytest.raises(InvalidArgument):
        check_name(name, "save()")
    with pytest.raises(InvalidArgument):
        place_beneath(tmp_path, name)


@given(st.text(st.characters(), max_size=40) | st.from_regex(r"[a./\\ä]{0,12}", fullmatch=True))
@example("e\u0301")
def test_client_and_server_agree(name: str) -> None:
    """What the one takes the other takes, under the same normal form."""
    try:
        taken: str | None = check_file_name(name)
    except (ServerInvalidArgument, UnicodeEncodeError):
        taken = None
    if taken is None:
        assert name_problem(unicodedata.normalize("NFC", name))
    else:
        assert taken == check_name(name, "save()")


@given(st.text(st.characters(), min_size=1, max_size=40))
def test_a_place_lies_beneath_its_folder(name: str) -> None:
    """Whatever a server calls a file."""
    root = Path("/somewhere/root")
    try:
        path = place_beneath(root, name)
    except InvalidArgument:
        return
    assert path.relative_to(root).parts
    assert ".." not in path.parts
