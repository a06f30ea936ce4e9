"""Artifacts through real services and a real S3 server, in JSON over HTTP as any client may speak; servers are killed on the way."""

from __future__ import annotations

import base64
import hashlib
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.integration.readback import wait_until
from tests.integration.yard import CallError, Yard

MIB = 1 << 20
PART = 5 * MIB
PURGE_TIMEOUT_S = 120


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


class Client:
    """Logs artifacts of one run, step by step."""

    def __init__(self, yard: Yard, project: str) -> None:
        self.yard = yard
        self.project = project
        ask = {"requestId": uuid.uuid4().hex, "project": project}
        run = yard.call("metadata.v1.MetadataService/StartRun", ask)["run"]
        self.run = f"{run['entity']}/{run['project']}/{run['runId']}"
        self.run_key = run["runKey"]
        self.prefix = self.run.rpartition("/")[0]

    def call(self, method: str, **request: Any) -> dict[str, Any]:
        return self.yard.call(f"files.v1.ArtifactsService/{method}", request)

    def begin(self, name: str, files: dict[str, bytes], request_id: str = "") -> dict[str, Any]:
        """Begins a draft and adds all entries; returns the draft, and what is missing as `missing`."""
        entries = [
            {
                "path": path,
                "sizeBytes": str(len(content)),
                "sha256": b64(hashlib.sha256(content).digest()),
            }
            for path, content in files.items()
        ]
        lines = [
            f"{path}\0{len(content)}\0{hashlib.sha256(content).hexdigest()}\0\0\n"
            for path, content in sorted(files.items(), key=lambda item: item[0].encode())
        ]
        draft = self.call(
            "CreateDraft",
            runPath=self.run,
            requestId=request_id or uuid.uuid4().hex,
            name=name,
            type="model",
            digest=b64(hashlib.sha256("".join(lines).encode()).digest()),
            entryCount=str(len(files)),
        )
        if "draftId" in draft and not draft.get("isPresent"):
            added = self.call("AddEntries", draftId=draft["draftId"], entries=entries)
            draft["missing"] = [entries[i]["path"] for i in added.get("missing", [])]
        return draft

    def announce(self, draft: dict[str, Any], contents: list[bytes]) -> list[dict[str, Any]]:
        asks = [
            {
                "sha256": b64(hashlib.sha256(content).digest()),
                "sizeBytes": str(len(content)),
                "partBytes": str(PART),
                "partMd5s": [
                    b64(hashlib.md5(content[i : i + PART]).digest())
                    for i in range(0, max(len(content), 1), PART)
                ],
            }
            for content in contents
        ]
        reply = self.call("CreateContentUploads", draftId=draft["draftId"], contents=asks)
        return list(reply["uploads"])

    def send(self, draft: dict[str, Any], contents: list[bytes]) -> list[int]:
        """Sends what has not arrived and completes it; returns how many parts of each were sent."""
        sent, counts = [], []
        for upload, content in zip(self.announce(draft, contents), contents, strict=True):
            if upload.get("isPresent"):
                counts.append(0)
                continue
            etags = upload.get("arrivedEtags") or [""] * len(upload["partUrls"])
            counts.append(etags.count(""))
            size = int(upload["partBytes"]) if "partBytes" in upload else 1
            for number, url in enumerate(upload["partUrls"]):
                if not etags[number]:
                    etags[number] = put(url, content[number * size : (number + 1) * size])
            sent.append({"uploadId": upload["uploadId"], "partEtags": etags})
        self.call("CompleteContentUploads", uploads=sent)
        return counts

    def log(self, name: str, files: dict[str, bytes], **labels: Any) -> dict[str, Any]:
        draft = self.begin(name, files)
        if draft.get("missing"):
            self.send(draft, [files[path] for path in draft["missing"]])
        return self.call("CommitDraft", draftId=draft["draftId"], **labels)

    def load(self, artifact: str) -> dict[str, bytes]:
        """Returns the files of a version, by the URLs that the server gives."""
        page = self.call("ListEntries", artifactPath=f"{self.prefix}/{artifact}", withUrls=True)
        entries = page.get("entries", [])
        return {
            entry["path"]: urllib.request.urlopen(url, timeout=30).read()
            for entry, url in zip(entries, page.get("downloadUrls", []), strict=True)
        }


def put(url: str, content: bytes) -> str:
    request = urllib.request.Request(url, data=content, method="PUT")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(reply.headers["ETag"])


def test_an_artifact_from_draft_to_deletion(yard: Yard) -> None:
    """Versions share their bytes, aliases move, URLs serve the bytes, and deleting frees them on the S3 server."""
    client = Client(yard, f"artifacts-{yard.shape}")
    big = hashlib.shake_256(b"big").digest(11 * MIB)
    first = client.log("net", {"big.bin": big, "ü/empty": b"", "a.txt": b"one"}, aliases=["best"])
    assert first["version"]["aliases"] == ["latest", "best"]
    second = client.log("net", {"big.bin": big, "a.txt": b"two"}, ttlS="3600")
    assert (second["version"]["version"], second["version"]["addedBytes"]) == (1, "3")
    assert second["version"]["expireTime"]
    again = client.log("net", {"big.bin": big, "a.txt": b"one", "ü/empty": b""})
    assert again["isUnchanged"] and again["version"].get("version", 0) == 0
    assert client.load("net:best") == {"big.bin": big, "ü/empty": b"", "a.txt": b"one"}
    page = client.call("ListEntries", artifactPath=f"{client.prefix}/net:v1", withUrls=True)
    listed = client.call("ListArtifacts", projectPath=client.prefix)
    assert listed["artifacts"][0]["versionCount"] == "2"
    receipt = client.call("DeleteArtifacts", versionPaths=[f"{client.prefix}/net:v1"])
    assert (receipt["freedBytes"], receipt["sharedBytes"]) == ("3", str(len(big)))
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(page["downloadUrls"][0], timeout=30)
    with pytest.raises(CallError) as refused:
        client.call("DeleteArtifacts", artifactPath=f"{client.prefix}/net")
    assert "ARTIFACT_HAS_ALIASES" in str(refused.value.body)
    receipt = client.call("DeleteArtifacts", artifactPath=f"{client.prefix}/net", withAliases=True)
    assert (receipt["freedObjects"], receipt["freedBytes"]) == ("3", str(len(big) + 3))


def test_versions_stay_when_their_run_is_purged(yard: Yard) -> None:
    """The run and its links go; the version stays, and no longer knows who logged it."""
    client = Client(yard, f"purged-{yard.shape}")
    client.log("net", {"a": b"stays"})
    path = f"{client.prefix}/net"
    client.call("UseArtifact", runPath=client.run, artifactPath=path)
    lineage = client.call("GetLineage", runPath=client.run)
    assert len(lineage["links"]) == 2
    end = {"runKey": client.run_key, "writer": 1, "cause": "TRANSITION_CAUSE_FINISH_CALLED"}
    yard.call("metadata.v1.MetadataService/FinishRun", end)
    yard.call("metadata.v1.MetadataService/DeleteRuns", {"runPaths": [client.run], "isNow": True})
    wait_until(
        lambda: "loggedBy" not in client.call("GetArtifact", artifactPath=path)["version"],
        PURGE_TIMEOUT_S,
        "the purge",
    )
    assert client.call("GetLineage", artifactPath=path).get("links", []) == []
    assert client.load("net") == {"a": b"stays"}


def test_an_upload_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    """Killed before the bytes, between the parts, and after the commit: nothing is visible early, nothing is sent twice."""
    content = hashlib.shake_256(b"killed").digest(2 * PART + 7)
    files = {"w.bin": content, "b.txt": b"text"}
    with Yard(tmp_path / "yard") as yard:
        client = Client(yard, "killed")
        draft = client.begin("net", files, request_id="same")
        uploads = client.announce(draft, [content])
        put(uploads[0]["partUrls"][1], content[PART : 2 * PART])
        yard.kill()
        yard.start()
        again = client.begin("net", files, request_id="same")
        assert (again["draftId"], again["missing"]) == (draft["draftId"], ["w.bin", "b.txt"])
        with pytest.raises(CallError) as refused:
            client.call("CommitDraft", draftId=draft["draftId"])
        assert "CONTENT_MISSING" in str(refused.value.body)
        with pytest.raises(CallError) as refused:
            client.call("GetArtifact", artifactPath=f"{client.prefix}/net")
        assert "ARTIFACT_NOT_FOUND" in str(refused.value.body)
        assert client.send(draft, [content, b"text"]) == [2, 1]
        done = client.call("CommitDraft", draftId=draft["draftId"])
        yard.kill()
        yard.start()
        assert done == client.call("CommitDraft", draftId=draft["draftId"])
        assert client.begin("net", files, request_id="same")["version"] == done["version"]
        assert client.load("net") == files
