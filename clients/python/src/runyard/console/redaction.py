"""Tells credentials by the names they go by, and takes them out of what is printed and of command lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

SECRET_LENGTH_MIN = 8
"""Shorter values (true, 1, none) are words that occur in any text."""
_NAME = re.compile(
    r"(api|access|secret|private|encryption|signing|account|storage|master)_?key|key_?secret|secret|token(?!i[sz])|passw(or)?d|"
    r"passphrase|credential|jwt|_pwd$|_pass$|auth(?!or)|_pat$|_dsn$|^key$",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:([^/\s@]+)@", re.IGNORECASE)
_OPTION = re.compile(r"(-{0,2}[A-Za-z][\w.\-]*)=(.+)", re.DOTALL)
_NUMBER = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?|true|false|none", re.IGNORECASE)
REDACTED = "[redacted]"


def is_secret_name(name: str) -> bool:
    """Returns whether what goes by that name (an environment variable, an option) looks like a credential."""
    return _NAME.search(name) is not None


def redact_addresses(text: str) -> str:
    """Returns the text with the passwords in its addresses (scheme://user:password@host) left out."""
    return _IN_ADDRESS.sub(lambda found: found[0].replace(f":{found[1]}@", f":{REDACTED}@"), text)


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of a program with the values of options that look like credentials left out.

    Both `--api-key=VALUE` and `--api-key VALUE` are seen, and `api_key=VALUE` without dashes. A number is no credential
    (`--max-tokens 4096`), unless the option is a password.
    """
    shown, option = [], ""
    for argument in arguments:
        found = _OPTION.fullmatch(argument)
        if found is not None:
            is_secret, option = _is_secret_option(found[1], found[2]), ""
            shown.append(f"{found[1]}={REDACTED}" if is_secret else redact_addresses(argument))
        elif argument.startswith("-") and not _NUMBER.fullmatch(argument):
            option = argument
            shown.append(argument)
        else:
            is_secret = bool(option) and _is_secret_option(option, argument)
            shown.append(REDACTED if is_secret else redact_addresses(argument))
            option = ""
    return shown


def _is_secret_option(option: str, value: str) -> bool:
    name = option.lstrip("-").rpartition(".")[2].replace("-", "_")
    is_number = _NUMBER.fullmatch(value) is not None and "pass" not in name.lower()
    return is_secret_name(name) and not is_number


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
        if is_secret_name(name) and not _is_path(value):
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
