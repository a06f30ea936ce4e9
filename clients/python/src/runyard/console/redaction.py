"""Takes credentials out of what is printed: the values of environment variables whose names look like such."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

SECRET_LENGTH_MIN = 8
"""Shorter values (true, 1, none) are words that occur in any text."""
_NAME = re.compile(
    r"(api|access|secret|private|encryption|signing|account|storage|master)_?key|key_?secret|secret|token|passw(or)?d|passphrase|"
    r"credential|_pwd$|_pass$|auth(?!or)|_pat$|_dsn$|^key$",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:([^/\s@]+)@", re.IGNORECASE)


class Redaction:
    """Replaces secrets by `[redacted NAME]`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._names = _secrets_of(environ)
        # The longest first: one may hold another.
        values = sorted(self._names, key=len, reverse=True)
        self._replacements = [
            (value, b"[redacted " + self._names[value] + b"]") for value in values
        ]
        self.longest = max(map(len, self._names), default=0)
        """Bytes of the longest secret."""

    def redact(self, text: bytes) -> bytes:
        """Returns the text without the secrets."""
        for secret, replacement in self._replacements:
            if secret in text:
                text = text.replace(secret, replacement)
        return text

    def ends_inside(self, text: bytes) -> bool:
        """Returns whether the text ends with the beginning of a secret, of which the rest may follow."""
        return any(
            text.endswith(secret[:length])
            for secret, _ in self._replacements
            for length in range(min(len(secret) - 1, len(text)), SECRET_LENGTH_MIN // 2 - 1, -1)
        )


def _secrets_of(environ: Mapping[str, str]) -> dict[bytes, bytes]:
    """Returns the name of the variable by each secret, both as they are printed."""
    found: dict[bytes, bytes] = {}
    for name, value in environ.items():
        shown = name.encode("utf-8", "replace")
        secrets = _IN_ADDRESS.findall(value)
        secrets += [unquote(secret) for secret in secrets]
        if _NAME.search(name) and not _is_path(value):
            secrets += value.splitlines()  # a key in PEM has many: none of them is printed
        for secret in secrets:
            if len(secret.strip()) >= SECRET_LENGTH_MIN:
                found.setdefault(secret.strip().encode("utf-8", "surrogateescape"), shown)
    return found


def _is_path(value: str) -> bool:
    """Returns whether the value only tells where something lies, as SSH_AUTH_SOCK does."""
    if not value.startswith(("/", "~", ".")):
        return False
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False
