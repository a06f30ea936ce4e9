"""Which files save() takes up: globs, folders, links in a circle, pipes and devices, names that cannot be."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from runyard.errors import InvalidArgument
from runyard.file_search import find
from runyard.run_files import files_to_save, new_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.bin", "d/c.txt", "d/e/f.txt", ".hidden/g.txt", "d/.h.txt"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.txt", ["a.txt"]),
        ("*.txt", ["a.txt"]),
        ("d", ["d/.h.txt", "d/c.txt", "d/e/f.txt"]),
        ("d/*", ["d/c.txt", "d/e/f.txt"]),
        ("**/*.txt", ["a.txt", "d/c.txt", "d/e/f.txt"]),
        ("**", ["a.txt", "b.bin", "d/c.txt", "d/e/f.txt"]),
        ("d/**", ["d/c.txt", "d/e/f.txt"]),
        ("**/e", ["d/e/f.txt"]),
        ("*/**/f.*", ["d/e/f.txt"]),
        ("none", []),
        ("none*", []),
    ],
)
def test_globs_mean_what_they_mean_elsewhere(tree: Path, pattern: str, expected: list[str]) -> None:
    """`*` within a folder, `**` at any depth, a folder all of it; hidden names only where they are asked for."""
    found = find(f"{tree}/{pattern}")
    assert sorted(str(path.relative_to(tree)) for path in found.paths) == expected


def test_links_in_a_circle_end(tree: Path) -> None:
    """Two links to the folder itself: a plain walk would go through 2 to the power of 40 paths."""
    (tree / "one").symlink_to(tree)
    (tree / "two").symlink_to(tree)
    (tree / "dangling").symlink_to(tree / "nothing")
    (tree / "self").symlink_to(tree / "self")
    (tree / "good").symlink_to(tree / "d")
    for pattern in ("", "/**/*.txt", "/**"):
        names = {str(path.relative_to(tree)) for path in find(f"{tree}{pattern}").paths}
        assert {"a.txt", "d/e/f.txt", "good/c.txt"} <= names
        assert len(names) < 20


def test_what_is_no_file_is_passed_over_and_told(tree: Path) -> None:
    """A pipe, a socket, a device and a link to nothing are named; nothing is opened that would be waited on."""
    os.mkfifo(tree / "pipe")
    (tree / "zero").symlink_to("/dev/zero")
    (tree / "dangling").symlink_to("nothing")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tree / "sock"))
        told: dict[str, str] = {}
        files = files_to_save(str(tree), str(tree), told.__setitem__)
    assert "a.txt" in [name for _, name in files]
    texts = " ".join(told.values())
    for word in (
        "pipe' is passed over: it is a pipe",
        "it is a device",
        "it is a socket",
        "No such file",
    ):
        assert word in texts


def test_names_that_cannot_be_are_passed_over_in_folders(tree: Path) -> None:
    """One bad name among many costs that file; given by itself it is an error."""
    bad = tree / "bad\nname"
    bad.write_text("x")
    (tree / os.fsdecode(b"latin-\xe4")).write_text("x")
    told: dict[str, str] = {}
    names = [name for _, name in files_to_save(str(tree), str(tree), told.__setitem__)]
    assert "a.txt" in names
    assert not any("bad" in name or "latin" in name for name in names)
    assert len(told) == 2
    with pytest.raises(InvalidArgument, match="control character"):
        files_to_save(str(bad), str(tree), told.__setitem__)


def test_names_are_in_their_normal_form(tree: Path) -> None:
    """A name that a Mac wrote decomposed is the same in the run."""
    (tree / "cafe\u0301.txt").write_text("x")
    names = [name for _, name in files_to_save(f"{tree}/caf*", str(tree), lambda key, text: None)]
    assert names == ["caf\u00e9.txt"]


def test_files_of_the_run_folder_end_too(tree: Path) -> None:
    """Links in a circle there, too; what is known is left out."""
    (tree / "loop").symlink_to(tree)
    os.mkfifo(tree / "pipe")
    names = [name for _, name in new_files(tree, {tree / "a.txt"})]
    assert "b.bin" in names
    assert not {"a.txt", "pipe"} & set(names)
