"""Listening to `write`: whoever else replaces it meanwhile, each text is heard once, and afterwards nothing of it is left."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from runyard.console.wrap import _Listener


class Stream(io.StringIO):
    """A stream of Python, as a notebook's."""


def tee(file: Any, told: list[str]) -> Any:
    """Returns a `write` that tells and passes on to the one that the file has now, as IPython's for each cell."""
    original = file.write

    def write(text: str) -> Any:
        told.append(text)
        return original(text)

    return write


@pytest.fixture(params=["python", "c"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "python":
        yield Stream()
    else:
        with (tmp_path / "out").open("w") as opened:
            yield opened


def test_what_is_written_is_heard_until_the_end(file: Any) -> None:
    """print() and write(); the file's class and attributes are as before then."""
    heard: list[str] = []
    kind, attributes = type(file), set(vars(file)) - {"write"}
    listener = _Listener(file, heard.append)
    assert listener.begin()
    file.write("a")
    print("b", file=file)
    assert isinstance(file, kind)
    listener.end()
    file.write("c")
    assert "".join(heard) == "ab\n"
    assert type(file) is kind and set(vars(file)) - {"write"} == attributes


def test_a_write_that_is_put_over_it_and_taken_away(file: Any) -> None:
    """As by IPython in each cell: also where the listener came in the middle of the first."""
    heard: list[str] = []
    told: list[str] = []
    original = file.write
    file.write = tee(file, told)
    listener = _Listener(file, heard.append)
    assert listener.begin()
    file.write("first cell")
    if isinstance(file, Stream):
        file.write = original
        file.write("between")
    for cell in ("second", "third"):
        before = file.write
        file.write = tee(file, told)
        file.write(cell)
        file.write = before
    listener.end()
    file.write("after")
    between = ["between"] if isinstance(file, Stream) else []
    assert heard == ["first cell", *between, "second", "third"]
    assert told[0] == "first cell" and "third" in told


def test_two_listeners_end_in_any_order(file: Any) -> None:
    """Those of two runs: the end of one neither ends nor revives the other."""
    first: list[str] = []
    second: list[str] = []
    one, two = _Listener(file, first.append), _Listener(file, second.append)
    assert one.begin() and two.begin()
    file.write("both")
    one.end()
    file.write("one over")
    two.end()
    file.write("both over")
    assert (first, second) == (["both"], ["both", "one over"])


def test_what_cannot_be_listened_to() -> None:
    """No file, and a file without room for an attribute."""

    class Closed:
        __slots__ = ()

        def write(self, text: str) -> int:
            return len(text)

    assert not _Listener(None, print).begin()
    closed = Closed()
    listener = _Listener(closed, print)
    if listener.begin():
        listener.end()
    assert closed.write("x") == 1 and type(closed) is Closed


def test_deleting_the_attribute_brings_back_the_classes_own() -> None:
    heard: list[str] = []
    stream = Stream()
    listener = _Listener(stream, heard.append)
    assert listener.begin()
    stream.write = lambda text: 0
    del stream.write
    stream.write("kept")
    listener.end()
    assert heard == ["kept"] and stream.getvalue() == "kept"
