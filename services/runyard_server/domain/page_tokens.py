"""Page tokens: where a list continues, and of which list; opaque to callers, checked when they come back."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from runyard_server.domain.errors import InvalidArgument

_TOKEN_LENGTH_MAX = 8192
_DIGEST_BYTES = 6


def make_page_token(query: str, *position: str | int) -> str:
    """Returns a token that continues the list that `query` describes, after `position`."""
    body = json.dumps([_digest(query), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def read_page_token(
    query: str, token: str, *types: type[str] | type[int]
) -> list[str | int] | None:
    """Returns the position in the token, of these types, or None for an empty token.

    Raises InvalidArgument (PAGE_TOKEN_INVALID) if the token is not one of the list that `query` describes.
    """
    if not token:
        return None
    body = _decode(token)
    if (
        body is None
        or len(body) != 1 + len(types)
        or body[0] != _digest(query)
        or any(type(value) is not wanted for value, wanted in zip(body[1:], types, strict=True))
    ):
        raise InvalidArgument(
            "PAGE_TOKEN_INVALID",
            f"page_token {token[:64]!r} was not given for this request; repeat it with the token of its last reply, "
            "or without one to start anew",
            metadata={"field": "page_token", "value": token[:64]},
        )
    return body[1:]


def clamp_page_size(page_size: int, *, default: int, limit: int) -> int:
    """Returns the page size that is used: the default for 0, at most the limit."""
    return min(page_size or default, limit)


def _decode(token: str) -> list[str | int] | None:
    if len(token) > _TOKEN_LENGTH_MAX:
        return None
    try:
        body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return body if isinstance(body, list) else None


def _digest(query: str) -> str:
    return hashlib.blake2b(query.encode(), digest_size=_DIGEST_BYTES).hexdigest()
