"""Artifacts in a script: what goes into them, what is refused, and what lies in the run folder once they are logged."""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runyard
from runyard import journal_format as form
from runyard.artifacts import staging
from runyard.artifacts.entries import Entry, manifest_digest
from runyard.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotOffered,
    ResourceExhausted,
    UsageError,
    WaitTimeout,
)
from runyard.journal_reader import JournalReader


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a cache of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNYARD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    monkeypatch.setenv("RUNYARD_CONSOLE", "off")
    return tmp_path


def made(**files: bytes) -> runyard.Artifact:
    artifact = runyard.Artifact("data", "dataset")
    for name, content in files.items():
        with artifact.new_file(name, "xb") as file:
            file.write(content)
    return artifact


def frames(run: runyard.Run, kind: int) -> list[dict[str, Any]]:
    folder = run._parts.folder
    assert folder is not None
    return [f.content for f in JournalReader.open(folder.path).frames() if f.kind == kind]


def manifest_of(run: runyard.Run, number: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the n-th ARTIFACT record and the lines of its manifest."""
    folder = run._parts.folder
    assert folder is not None
    record = frames(run, form.ARTIFACT)[number]
    path = folder.path / "artifacts" / f"{record['request_id']}.manifest"
    return record, [json.loads(line) for line in path.read_text().splitlines()]


def test_the_digest_is_that_of_the_contract() -> None:
    """SHA-256 over PATH, SIZE, SHA256, REFERENCE and ETAG, by path in byte order, as protos say."""
    artifact = made(b=b"two", a=b"one")
    artifact.add_reference("s3://bucket/key", "\u00e9", checksum=False)
    lines = [
        f"a\x003\x00{hashlib.sha256(b'one').hexdigest()}\x00\x00\n",
        f"b\x003\x00{hashlib.sha256(b'two').hexdigest()}\x00\x00\n",
        "\u00e9\x000\x00\x00s3://bucket/key\x00\n",
    ]
    assert artifact.digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert [entry.path for entry in artifact] == ["a", "b", "\u00e9"]
    assert (artifact.size, artifact.file_count) == (6, 3)
    reference = Entry("\u00e9", 0, ref="s3://bucket/key")
    assert manifest_digest([artifact["a"], artifact["b"], reference]) == artifact.digest


def test_a_mutable_file_is_kept_as_it_was(folder: Path) -> None:
    """What is written into the file after add_file() is not in the artifact; the cache holds each content once."""
    source = folder / "x.txt"
    source.write_bytes(b"first")
    artifact = runyard.Artifact("data", "dataset")
    entry = artifact.add_file(source)
    source.write_bytes(b"other")
    artifact.add_file(source, "y.txt")
    artifact.add_file(source, "z/y.txt")
    assert Path(entry.local_path).read_bytes() == b"first"
    assert entry.digest == hashlib.sha256(b"first").hexdigest() and entry.path == "x.txt"
    assert sum(1 for p in (folder / "cache" / "objects").rglob("*") if p.is_file()) == 2


def test_large_files_are_copied_in_one_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond what is read at once is hashed and copied in bounded pieces; unchanged it is not kept twice."""
    monkeypatch.setattr(staging, "WHOLE_BYTES_MAX", 1000)
    source = folder / "big"
    content = os.urandom(3_000_000)
    source.write_bytes(content)
    artifact = runyard.Artifact("data", "dataset")
    first = artifact.add_file(source, "one")
    second = artifact.add_file(source, "two")
    assert first.local_path == second.local_path
    assert Path(first.local_path).read_bytes() == content
    assert list((folder / "cache" / "tmp").iterdir()) == []
    immutable = artifact.add_file(source, "three", policy="immutable")
    assert immutable.local_path == str(source) and immutable.sha256 == first.sha256


def test_a_file_that_changes_while_it_is_read_is_detected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that goes on changing is refused; one that comes to rest is taken as it then is."""
    source = folder / "log"
    source.write_bytes(b"x")
    read = staging._read_whole
    changes = [1]

    def read_and_change(file: int, size_bytes: int) -> bytes:
        content = read(file, size_bytes)
        if changes[0]:
            changes[0] -= 1
            source.write_bytes(content + b"y")
        return content

    monkeypatch.setattr(staging, "_read_whole", read_and_change)
    assert runyard.Artifact("a", "t").add_file(source).size == 2
    changes[0] = 100
    with pytest.raises(FailedPrecondition, match="changed while it was read, 3 times"):
        runyard.Artifact("a", "t").add_file(source)


def test_a_folder_is_added_whole(folder: Path) -> None:
    """Names are relative to the folder, links are followed, a loop of links ends; merge= lets files replace others."""
    root = folder / "root"
    (root / "sub").mkdir(parents=True)
    for number in range(100):
        (root / "sub" / f"{number:03d}").write_text(str(number))
    (root / "top").write_text("top")
    (root / "loop").symlink_to(root)
    artifact = runyard.Artifact("data", "dataset")
    artifact.add_dir(root)
    assert artifact.file_count == 101 and artifact["sub/007"].size == 1
    (root / "top").write_text("changed")
    with pytest.raises(ValueError, match="'top' is in the artifact already with another content"):
        artifact.add_dir(root)
    artifact.add_dir(root, merge=True)
    assert artifact["top"].size == 7
    artifact.add_dir(root, name="under/here")
    assert artifact.file_count == 202
    artifact.remove("under")
    assert artifact.file_count == 101
    (root / "broken").symlink_to(folder / "nothing")
    with pytest.raises(ValueError, match=r"there is no file .*broken"):
        artifact.add_dir(root, name="more")
    assert artifact.file_count == 101


def test_wrong_calls_are_told(folder: Path) -> None:
    """Files that are none, names that lead out, policies, modes and kinds that do not exist."""
    artifact = made(a=b"x")
    with pytest.raises(ValueError, match=r"add_file\(\): 'nothing' is no file"):
        artifact.add_file("nothing")
    with pytest.raises(ValueError, match="is a folder; add_dir"):
        artifact.add_file(folder)
    with pytest.raises(ValueError, match="is no folder"):
        artifact.add_dir(folder / "nothing")
    (folder / "f").write_text("f")
    os.mkfifo(folder / "pipe")
    with pytest.raises(ValueError, match="is no file"):
        artifact.add_file(folder / "pipe")
    for name in ("../x", "/etc/passwd", "a//../../b", "a\x00b", "c:/x", "a\\b", "x" * 1025, "d" * 256):  # fmt: skip
        with pytest.raises(ValueError, match="cannot be a name in an artifact"):
            artifact.add_file(folder / "f", name)
    assert artifact.add_file(folder / "f", "./b/./c").path == "b/c"
    with pytest.raises(ValueError, match="policy 'often'"):
        artifact.add_file(folder / "f", policy="often")
    with pytest.raises(ValueError, match="another content; overwrite=True"):
        artifact.add_file(folder / "f", "a")
    assert artifact.add_file(folder / "f", "a", overwrite=True).size == 1
    with pytest.raises(ValueError, match="mode 'a'"), artifact.new_file("n", "a"):
        pass
    with pytest.raises(KeyError, match="has no 'q'"):
        artifact.get_path("q")
    with pytest.raises(FileNotFoundError):
        artifact.remove("q")
    with pytest.raises(NotOffered, match="a int is no media value"):
        artifact.add(3, "three")
    for name in ("", "a b", "a/b", "x" * 129, "..", "é"):
        with pytest.raises(ValueError, match="artifact name"):
            runyard.Artifact(name, "t")
    for kind in ("", "x" * 129, "a\nb"):
        with pytest.raises(ValueError, match="type "):
            runyard.Artifact("a", kind)
    with pytest.raises(ValueError, match="metadata take"):
        runyard.Artifact("a", "t", metadata={"x": "y" * (1 << 20)})
    with pytest.raises(ValueError, match="ttl"):
        artifact.ttl = 3  # type: ignore[assignment]  # a wrong value


def test_a_new_file_comes_only_if_all_was_written() -> None:
    """An exception in the block leaves the artifact as it was."""
    artifact = runyard.Artifact("data", "dataset")
    with pytest.raises(RuntimeError), artifact.new_file("a.txt") as file:
        file.write("half")
        raise RuntimeError
    assert artifact.file_count == 0
    with artifact.new_file("a.txt") as file:
        file.write("whole")
    with pytest.raises(ValueError, match="mode='w' replaces"), artifact.new_file("a.txt"):
        pass
    with artifact.new_file("a.txt", "w") as file:
        file.write("new")
    assert Path(artifact["a.txt"].local_path).read_text() == "new"


def test_logging_hands_it_over(folder: Path) -> None:
    """Record and manifest say what protos/journal.md says; the run folder holds the bytes, whatever becomes of the cache."""
    (folder / "big.bin").write_bytes(b"big")
    artifact = made(a=b"one", same=b"one")
    artifact.add_file(folder / "big.bin", policy="immutable")
    artifact.add_reference("https://example.invalid/x", checksum=False)
    artifact.description, artifact.metadata = "words", {"n": 1, "nan": float("nan")}
    artifact.ttl = datetime.timedelta(days=1)
    with runyard.init(project="p") as run:
        assert run.log_artifact(artifact, aliases=["best", "latest"], tags=["t"]) is artifact
        record, lines = manifest_of(run)
        run_folder = run._parts.folder
        assert run_folder is not None
        staged = [p.name for p in (run_folder.path / "artifacts" / "staged").iterdir()]
        with pytest.raises(UsageError, match="are final"):
            artifact.add_file(folder / "big.bin", "more")
        with pytest.raises(UsageError, match="offline run"):
            artifact.wait()
        with pytest.raises(UsageError, match="no version yet"):
            _ = artifact.version
    assert record["request_id"] and record["digest"] == artifact.digest
    assert (record["name"], record["type"], record["description"]) == ("data", "dataset", "words")
    assert record["metadata"]["n"] == 1
    assert (record["aliases"], record["tags"], record["ttl_s"]) == (["best"], ["t"], 86_400)
    assert record["entry_count"] == 4
    sha256 = hashlib.sha256(b"one").hexdigest()
    name = f"{record['request_id']}.{sha256}"
    assert staged == [name]
    assert lines[0] == {"path": "a", "size_bytes": 3, "sha256": sha256, "source": f"staged/{name}"}
    assert lines[1]["source"] == str(folder / "big.bin") and lines[1]["mtime_ns"] > 0
    assert lines[2]["path"] == "same"
    assert lines[3] == {"path": "x", "size_bytes": 0, "sha256": "", "reference": "https://example.invalid/x", "etag": ""}  # fmt: skip


def test_paths_become_artifacts(folder: Path) -> None:
    """log_artifact takes files, folders and addresses; log_model gives the type."""
    (folder / "dir").mkdir()
    (folder / "dir" / "a").write_text("a")
    (folder / "my model.pt").write_text("m")
    with runyard.init(id="abc") as run:
        run.log_artifact("dir", type="dataset")
        run.log_model("my model.pt")
        run.log_artifact(folder / "dir" / "a", name="named", type="t", aliases="best")
        with pytest.raises(ValueError, match="there is no file or folder 'nothing'"):
            run.log_artifact("nothing")
        with pytest.raises(ValueError, match="looks like a version"):
            run.log_artifact("dir", aliases=["v7"])
        runyard.log_artifact("dir", name="module", type="t")
        records = frames(run, form.ARTIFACT)
    assert [(r["name"], r["type"]) for r in records] == [
        ("run-abc-dir", "dataset"),
        ("run-abc-my_model.pt", "model"),
        ("named", "t"),
        ("module", "t"),
    ]
    assert records[2]["aliases"] == ["best"]
    with pytest.raises(UsageError, match="a finished run"):
        run.log_artifact("dir")


def test_source_code_is_an_artifact(folder: Path) -> None:
    """log_code() takes sources beneath a folder, never those of an environment or a run folder; functions choose."""
    for name in (
        "train.py", "src/net.py", "src/Dockerfile.gpu", "requirements.txt", "notes.md", "src/data.csv", ".git/hook.py",
        "venv/lib/other.py", "venv/pyvenv.cfg", "runyard/run-1/source/train.py",
    ):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    run = runyard.init(project="code", id="c")
    assert run.log_code() is not None
    assert run.log_code("src", "nets", include_fn=lambda path: path.endswith("v")) is not None
    chosen = run.log_code(
        folder, include_fn=lambda path, root: True, exclude_fn=lambda path, root: root in path[:-9]
    )
    assert run.log_code("src", include_fn=lambda path: False) is None
    with pytest.raises(InvalidArgument, match=r"'nowhere' is no folder"):
        run.log_code("nowhere")
    run.finish()
    record, entries = manifest_of(run)
    assert (record["type"], record["name"]) == ("code", "source-code-code")
    assert [entry["path"] for entry in entries] == [
        "requirements.txt", "src/Dockerfile.gpu", "src/net.py", "train.py",
    ]  # fmt: skip
    record, entries = manifest_of(run, 1)
    assert (record["name"], [entry["path"] for entry in entries]) == ("nets", ["data.csv"])
    assert chosen is None, "each path that holds its root is excluded"


def test_a_path_cannot_be_file_and_folder() -> None:
    """No disk could hold both: told at log_artifact()."""
    artifact = made(a=b"x", **{"a/b/c": b"y"})
    with runyard.init() as run, pytest.raises(ValueError, match="'a' is a file of the artifact"):
        run.log_artifact(artifact)


def test_an_offline_run_cannot_use_artifacts() -> None:
    """Nothing could be recorded: said at once."""
    with runyard.init() as run, pytest.raises(UsageError, match="an offline run cannot record"):
        run.use_artifact("data:latest")


def test_a_disabled_run_passes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept, and wait() does not wait."""
    monkeypatch.setenv("RUNYARD_MODE", "disabled")
    with runyard.init() as run:
        artifact = run.log_artifact(made(a=b"x"))
        assert artifact.wait() is artifact and artifact.file_count == 1
        assert run.use_artifact(artifact) is artifact


def test_a_full_disk_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Staging on a full disk raises a clear error and leaves nothing half written."""
    (folder / "f").write_bytes(b"content")
    artifact = runyard.Artifact("data", "dataset")

    def full(temporary: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ResourceExhausted, match=r"the disk of the cache .* is full.*immutable"):
        artifact.add_file(folder / "f")
    with pytest.raises(ResourceExhausted, match="is full"), artifact.new_file("n") as file:
        file.write("x")
    monkeypatch.undo()
    assert artifact.file_count == 0 and list((folder / "cache" / "tmp").iterdir()) == []


def test_wait_takes_the_agents_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version, a failure, or nothing in time."""
    version = {
        "project_path": "e/p", "name": "data", "type": "dataset", "version": 3, "aliases": ["latest", "best"], "tags": [],
        "description": "", "metadata_json": '{"k":1}', "digest": "00", "entry_count": 1, "size_bytes": 1, "added_bytes": 1,
        "logged_by": "e/p/r", "create_time_s": 100.0, "update_time_s": 100.0, "expire_time_s": 160.0,
    }  # fmt: skip
    monkeypatch.setenv("RUNYARD_MODE", "offline")
    with runyard.init() as run:
        waiting, done, failed = (run.log_artifact(made(a=bytes([n]))) for n in range(3))
        for artifact in (waiting, done, failed):
            assert artifact._pending is not None
            artifact._pending._is_offline = False
        assert done._pending and failed._pending
        answer = json.dumps({"version": version})
        threading.Timer(0.05, done._pending._path.write_text, [answer]).start()
        assert done.wait(timeout=20) is done
        error = {"code": "failed_precondition", "reason": "FILE_CHANGED", "message": "it changed"}
        failed._pending._path.write_text(json.dumps({"error": error}))
        with pytest.raises(FailedPrecondition, match="did not become a version: it changed"):
            failed.wait()
        with pytest.raises(WaitTimeout, match="no version after"):
            waiting.wait(timeout=0.05)
        assert run.artifacts_pending == 1
    assert (done.version, done.name, done.qualified_name) == ("v3", "data:v3", "e/p/data:v3")
    assert done.aliases == ["latest", "best"] and done.metadata == {"k": 1}
    assert done.ttl == datetime.timedelta(seconds=60) and not done.is_draft()


def test_media_lie_beside_their_description() -> None:
    """A table with images comes back; its files are in the artifact, each once."""
    image = runyard.Image(np.zeros((2, 2, 3), dtype=np.uint8))
    rows = [[1, "a", [1, 2], image], [2, None, {"k": 1.5}, image]]
    table = runyard.Table(columns=["n", "s", "o", "i"], data=rows, allow_mixed_types=True)
    artifact = runyard.Artifact("tables", "dataset")
    assert artifact.add(table, "in/rows").path == "in/rows.table.json"
    artifact.add(image, "one")
    paths = list(artifact.manifest)
    endings = sorted(path.partition(".")[2] for path in paths)
    assert endings == ["image.json", "parquet", "png", "png", "table.json"]
    with pytest.raises(ValueError, match="is in the artifact already"):
        artifact.add(table, "in/rows")
    artifact.add(table, "in/rows", overwrite=True)
    back = artifact.get("in/rows")
    assert back.columns == ["n", "s", "o", "i"]
    assert [row[:3] for row in back.data] == [row[:3] for row in rows]
    assert back.data[0][3]["file"] in paths and artifact.get("other") is None


def test_a_new_draft_begins_with_the_entries() -> None:
    """The new artifact may be changed; the old one stays."""
    artifact = made(a=b"x", b=b"y")
    with runyard.init() as run:
        run.log_artifact(artifact)
        draft = artifact.new_draft()
        draft.remove("a")
        with draft.new_file("c") as file:
            file.write("z")
        run.log_artifact(draft)
        _, lines = manifest_of(run, 1)
    assert [line["path"] for line in lines] == ["b", "c"] and artifact.file_count == 2


def test_an_artifact_cannot_be_added_to_in_wrong_ways() -> None:
    """Names and values that do not fit together."""
    with runyard.init() as run:
        with pytest.raises(InvalidArgument, match="is called 'data', and name='other'"):
            run.log_artifact(made(a=b"x"), name="other")
        with pytest.raises(NotOffered):
            runyard.Artifact("a", "t", incremental=True)
