"""Presigned URLs of one bucket, made by hand: a batch of small files needs hundreds at once, and the S3 client takes ten times as long for each."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"


class Presigner:
    """Signs requests to objects of one bucket with AWS Signature Version 4 in the query, the payload unsigned.

    See "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" in the Amazon S3 API Reference. A test
    compares each URL with the client's own. The key that signs is the same for a day and is made once for it.
    """

    def __init__(self, object_url: str, *, access_key: str, secret_key: str, region: str) -> None:
        """`object_url` is where an object lies whose key has one character, as the S3 client addresses it."""
        parts = urlsplit(object_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc
        self._path = parts.path[:-1]
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._day = ""
        self._key = b""

    def sign(
        self, method: str, key: str, query: Mapping[str, str], *, expiry_s: int, time_unix_s: float
    ) -> str:
        """Returns a URL that is good for one method, from that time on and for that long."""
        moment = datetime.fromtimestamp(time_unix_s, UTC)
        day, date = f"{moment:%Y%m%d}", f"{moment:%Y%m%dT%H%M%SZ}"
        scope = f"{day}/{self._region}/s3/aws4_request"
        full = {
            **query,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self._access_key}/{scope}",
            "X-Amz-Date": date,
            "X-Amz-Expires": str(expiry_s),
            "X-Amz-SignedHeaders": "host",
        }
        path = self._path + quote(key, safe="/")
        text = "&".join(
            f"{quote(name, safe='')}={quote(full[name], safe='')}" for name in sorted(full)
        )
        request = f"{method}\n{path}\n{text}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        told = f"{_ALGORITHM}\n{date}\n{scope}\n{digest}"
        signature = _hmac(self._key_of(day), told).hex()
        return f"{self._origin}{path}?{text}&X-Amz-Signature={signature}"

    def _key_of(self, day: str) -> bytes:
        if day != self._day:
            key = f"AWS4{self._secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = _hmac(key, part)
            self._day, self._key = day, key
        return self._key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
