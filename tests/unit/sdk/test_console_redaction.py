"""Redaction: values of environment variables that look like credentials are not kept; other values are."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard.console.lines import STDOUT, ConsoleLines
from runyard.console.redaction import Redaction

SECRET = "s3cr3t-value-42"


@pytest.mark.parametrize(
    "name",
    ["WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "MYSQL_PWD", "OPENAI_APIKEY", "GITHUB_PAT",
     "GOOGLE_CREDENTIALS", "RUNYARD_API_KEY", "my_private_key", "SENTRY_DSN", "BASIC_AUTH"],
)  # fmt: skip
def test_credentials_are_redacted(name: str) -> None:
    """The value of a variable whose name looks like a credential is replaced, and the name tells by what."""
    redaction = Redaction({name: SECRET})
    expected = f"use [redacted {name}] now".encode()
    assert expected == redaction.redact(f"use {SECRET} now".encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOME", "/home/ann/something"),
        ("PWD", "/home/ann/project"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("SSH_AUTH_SOCK", str(Path(__file__))),
        ("GIT_AUTHOR_NAME", "Ann Author"),
        ("HF_TOKEN", "short"),
        ("MONKEY_BUSINESS", "bananas and more"),
    ],
)
def test_other_values_stay(name: str, value: str) -> None:
    """Paths, short words and variables of other names are printed as they are."""
    text = f"{name} is {value}".encode()
    assert text == Redaction({name: value}).redact(text)


def test_passwords_in_addresses_are_redacted() -> None:
    """The password of an address is a credential, whatever its variable is called."""
    redaction = Redaction({"DATABASE_URL": "postgresql://ann:hunter2hunter2@db/x"})
    assert b"hunter2" not in redaction.redact(b"connecting to postgresql://ann:hunter2hunter2@db/x")


def test_each_line_of_a_key_is_redacted() -> None:
    """A key of several lines is not printed line by line either."""
    key = "-----BEGIN KEY-----\nMIIEabcdefgh\nijklmnopqrst\n-----END KEY-----"
    redaction = Redaction({"TLS_PRIVATE_KEY": key})
    for line in key.splitlines():
        assert line.encode() not in redaction.redact(key.encode())


def test_the_longer_of_two_is_replaced_whole() -> None:
    """Of two secrets of which one holds the other, nothing of the longer one is left."""
    redaction = Redaction({"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefghijkl"})
    assert redaction.redact(b"abcdefghijkl") == b"[redacted B_TOKEN]"


def test_a_secret_in_pieces_is_redacted() -> None:
    """A secret that comes in chunks, or at a place where a long line is cut, is not kept in parts."""
    redaction = Redaction({"A_TOKEN": SECRET})
    printed = (b"x" * 16_380 + SECRET.encode()) * 3 + b"\n" + SECRET.encode()
    for size in (1, 7, 1_000, 16_384):
        lines = ConsoleLines(
            redact=redaction.redact,
            ends_inside=redaction.ends_inside,
            secret_bytes_max=redaction.longest,
        )
        blocks = []
        for at in range(0, len(printed), size):
            blocks += lines.feed(STDOUT, printed[at : at + size], 1)
            if size > 1:
                blocks += lines.flush(1)
        blocks += lines.flush(1, is_last=True)
        kept = b"".join(block.text for block in blocks)
        assert SECRET[:8].encode() not in kept
        assert SECRET[7:].encode() not in kept
