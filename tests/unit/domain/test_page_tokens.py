"""Page tokens continue the list that they were given for, and no other."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.page_tokens import clamp_page_size, make_page_token, read_page_token


@given(st.text(), st.integers(), st.text())
def test_a_position_comes_back(query: str, number: int, name: str) -> None:
    """Making and reading is the identity."""
    token = make_page_token(query, number, name)
    assert [number, name] == read_page_token(query, token, int, str)


@given(st.text())
def test_an_empty_token_is_the_start(query: str) -> None:
    """An empty token has no position."""
    assert read_page_token(query, "", int) is None


@pytest.mark.parametrize(
    ("token", "types"),
    [
        (make_page_token("other", 1), (int,)),
        (make_page_token("q", "1"), (int,)),
        (make_page_token("q", 1), (int, str)),
        (make_page_token("q"), (int,)),
        ("x", (int,)),
        ("ä", (int,)),
        ("A" * 10_000, (int,)),
        (base64.urlsafe_b64encode(b'{"a":1}').decode(), (int,)),
        (base64.urlsafe_b64encode(b"[" * 5000).decode(), (int,)),
    ],
)
def test_a_token_of_elsewhere_is_refused(token: str, types: tuple[type[int], ...]) -> None:
    """Refused with PAGE_TOKEN_INVALID; never another error."""
    with pytest.raises(InvalidArgument) as caught:
        read_page_token("q", token, *types)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


@given(st.text())
def test_any_text_is_answered(token: str) -> None:
    """No text makes it fail in another way."""
    try:
        read_page_token("q", token, int)
    except InvalidArgument as error:
        assert error.reason == "PAGE_TOKEN_INVALID"


def test_page_sizes_are_clamped() -> None:
    """0 is the default, more than the limit is the limit."""
    sizes = [clamp_page_size(size, default=10, limit=20) for size in (0, 1, 20, 21)]
    assert sizes == [10, 1, 20, 20]
