"""References to s3://, through each library that can be used for them, against each real S3 server."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import minio
import pytest

import runyard
from runyard.artifacts import references
from runyard.errors import InvalidArgument, NotFound, Unavailable, UsageError
from tests.contract.s3_server import S3Server

BUCKET = "elsewhere"
CONTENTS = {"data/a.txt": b"one", "data/sub/é b.bin": b"\0" * 70_000, "data-not/c": b"three"}


@pytest.fixture(params=["boto3", "minio"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The library that is used: the other one cannot be imported."""
    name = str(request.param)
    pytest.importorskip(name, reason=f"{name} is not installed; references use what is")
    monkeypatch.setitem(sys.modules, "minio" if name == "boto3" else "boto3", None)
    return name


@pytest.fixture(params=["weed", "juicefs"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket with objects, and the environment that leads to it."""
    server: S3Server = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server.endpoint}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = minio.Minio(
        server.endpoint, server.access_key, server.secret_key, secure=False, region="us-east-1"
    )
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    for key, content in CONTENTS.items():
        client.put_object(BUCKET, key, io.BytesIO(content), len(content))


def test_a_prefix_gives_its_objects(bucket: None, library: str, tmp_path: Path) -> None:
    """Path, size, address and ETag of each object beneath it; what is read back is what lies there."""
    artifact = runyard.Artifact("data", "dataset")
    entries = artifact.add_reference(f"s3://{BUCKET}/data", name="in")
    assert [(one.path, one.size) for one in entries] == [
        ("in/a.txt", 3),
        ("in/sub/é b.bin", 70_000),
    ]
    assert all(one.ref.startswith(f"s3://{BUCKET}/data/") and one.etag for one in entries)
    for one, key in zip(entries, ("data/a.txt", "data/sub/é b.bin"), strict=True):
        assert b"".join(references.read_target(one)) == CONTENTS[key]
    (single,) = runyard.Artifact("data", "dataset").add_reference(f"s3://{BUCKET}/data/a.txt")
    assert (single.path, single.etag) == ("a.txt", entries[0].etag)


def test_what_is_not_there_is_told(bucket: None, library: str) -> None:
    """A key without objects, a bucket that is not there."""
    with pytest.raises((NotFound, InvalidArgument), match="nothing"):
        runyard.Artifact("data", "dataset").add_reference(f"s3://{BUCKET}/nothing")
    with pytest.raises((NotFound, Unavailable), match="object store answered"):
        runyard.Artifact("data", "dataset").add_reference("s3://no-such-bucket/x")


def test_an_endpoint_that_is_no_address_is_told(
    bucket: None, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "store.example:9000")
    with pytest.raises(UsageError, match=r"'store.example:9000' .* begins with http"):
        runyard.Artifact("data", "dataset").add_reference(f"s3://{BUCKET}/data")
