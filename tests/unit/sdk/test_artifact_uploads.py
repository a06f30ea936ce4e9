"""The agent's part in artifacts: drafts are filled and committed, whatever is lost, killed or changed on the way."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
import random
import zlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard import journal_format as form
from runyard.agent.artifact_contents import GROUP_COUNT_MAX
from runyard.agent.artifacts import ENTRIES_PER_CALL
from runyard.agent.run import COMPLETE
from runyard.artifacts.artifact import Artifact
from runyard.artifacts.entries import by_path, manifest_digest
from runyard.artifacts.pending import hand_over
from runyard.errors import InvalidArgument
from runyard.finish_progress import STALL_S, FinishProgress, artifacts_text
from runyard.journal_status import read_status
from runyard.naming import draw_request_id
from runyard.run_folder import Mark
from runyard.terminal import Terminal
from tests.simulation import loop as virtual
from tests.unit.sdk.agent_fakes import Disk, FakeServer, Trainer, upload_of

CONFORMANCE = Path(__file__).resolve().parents[3] / "clients/conformance"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("RUNYARD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return virtual.run(main)


def log(trainer: Trainer, artifact: Artifact, **more: Any) -> str:
    """Does what run.log_artifact does, into the journal of a made-up trainer; returns the request's id."""
    entries = by_path(artifact.manifest.entries.values())
    request_id = draw_request_id()
    hand_over(entries, artifact._cache, trainer.folder / "artifacts", request_id)
    fields = {
        "request_id": request_id, "name": artifact.collection_name, "type": artifact.type, "description": "",
        "metadata": {}, "aliases": [], "tags": [], "ttl_s": 0, "digest": manifest_digest(entries),
        "entry_count": len(entries), **more,
    }  # fmt: skip
    trainer.journal.append(form.ARTIFACT, json.dumps(fields).encode())
    artifact._give_lease_back()
    return request_id


def answer_of(trainer: Trainer, request_id: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(
        (trainer.folder / "artifacts" / f"{request_id}.json").read_bytes()
    )
    return fields


def artifact_of(files: dict[str, bytes], folder: Path, name: str = "data") -> Artifact:
    artifact = Artifact(name, "dataset")
    for path, content in files.items():
        source = folder / "source"
        source.write_bytes(content)
        artifact.add_file(source, path)
    return artifact


def test_an_artifact_becomes_a_version(tmp_path: Path) -> None:
    """Its contents arrive once each, its entries whole; what was handed over is removed, and the mark counts it."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    files = {"a/one": b"1" * 10, "a/two": b"2" * 20, "same": b"1" * 10, "empty": b""}
    artifact = artifact_of(files, tmp_path)
    artifact.add_reference("https://example.invalid/x", checksum=False)
    request_id = log(trainer, artifact, aliases=["best"])
    trainer.finish()
    before = read_status(trainer.folder)

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert before.artifacts_unsent == 1
    assert run(main()) == COMPLETE
    answer = answer_of(trainer, request_id)
    assert answer["path"] == "e/p/data:v0" and not answer["is_unchanged"]
    entries = fake.entries_by_version["e/p/data:v0"]
    assert {path: fake.contents[entries[path].sha256] for path in files} == files
    assert entries["x"].reference == "https://example.invalid/x"
    assert sum(fake.groups) == 3
    assert not list((trainer.folder / "artifacts" / "staged").iterdir())
    assert sorted(p.name for p in (trainer.folder / "artifacts").iterdir()) == [
        f"{request_id}.json",
        "staged",
    ]
    mark = trainer.mark()
    assert (
        mark["artifacts_durable"] == mark["artifacts_total"] == 1 and not mark["artifacts_failed"]
    )
    assert read_status(trainer.folder).artifacts_unsent == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), density=st.floats(0, 0.7), kill_count=st.integers(0, 4))
def test_whatever_is_lost_or_killed_every_version_comes_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int, density: float, kill_count: int
) -> None:
    """Replies lost, calls refused for now, the agent killed at any moment: each artifact is one version, v0 before v1."""
    chance = random.Random(seed)
    root = tmp_path_factory.mktemp("root")
    disk, fake = Disk(), FakeServer(chance)
    fake.density, fake.artifact_part_bytes = density, 1 << 24
    trainer = Trainer(root, disk)
    wanted: dict[str, list[dict[str, bytes]]] = {"one": [], "two": []}
    requests: list[tuple[str, str]] = []
    for number in range(5):
        name = chance.choice(["one", "two"])
        files = {f"f{k}": bytes([number, k]) * 5 for k in range(chance.randint(1, 4))}
        requests.append((name, log(trainer, artifact_of(files, root, name))))
        wanted[name].append(files)
    trainer.finish()

    async def main() -> Any:
        for _ in range(kill_count):
            task = asyncio.ensure_future(upload_of(trainer, disk, fake).run())
            await asyncio.sleep(chance.uniform(0, 8))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return await upload_of(trainer, disk, fake).run()

    assert run(main()) == COMPLETE
    for name, versions in wanted.items():
        found = [
            {p: fake.contents[e.sha256] for p, e in fake.entries_by_version[v.path].items()}
            for v in fake.versions.get(name, [])
        ]
        assert found == versions
    told = [answer_of(trainer, request_id)["path"] for _, request_id in requests]
    numbers = {"one": 0, "two": 0}
    for (name, _), path in zip(requests, told, strict=True):
        assert path == f"e/p/{name}:v{numbers[name]}"
        numbers[name] += 1
    assert trainer.mark()["artifacts_durable"] == 5


def test_the_same_content_makes_no_new_version(tmp_path: Path) -> None:
    """An unchanged artifact is found by its digest: no entry and no byte is sent again, and the answer says so."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    first = log(trainer, artifact_of({"a": b"x"}, tmp_path))
    second = log(trainer, artifact_of({"a": b"x"}, tmp_path))
    trainer.finish()

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert run(main()) == COMPLETE
    assert [answer_of(trainer, one)["is_unchanged"] for one in (first, second)] == [False, True]
    assert len(fake.versions["data"]) == 1 and fake.lots == [1] and fake.groups == [1]


@pytest.mark.parametrize("count_max", [1000, 100])
def test_many_entries_go_in_lots_and_contents_in_groups(tmp_path: Path, count_max: int) -> None:
    """No call that is taken holds more entries or contents than the server takes, a server of before fewer."""
    disk, fake = Disk(), FakeServer()
    fake.content_count_max = count_max
    trainer = Trainer(tmp_path, disk)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(ENTRIES_PER_CALL + 50):
        (folder / f"{number:05d}").write_text(str(number))
    artifact = Artifact("many", "dataset")
    artifact.add_dir(folder)
    log(trainer, artifact)
    trainer.finish()

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert run(main()) == COMPLETE
    assert fake.lots == [ENTRIES_PER_CALL, 50]
    assert max(fake.groups) == min(GROUP_COUNT_MAX, count_max)
    assert sum(fake.groups) == len(fake.contents) == ENTRIES_PER_CALL + 50


def test_a_large_content_goes_in_parts_and_goes_on(tmp_path: Path) -> None:
    """A server that cuts it otherwise gets its parts; after a kill only what is missing is sent."""
    disk, fake = Disk(), FakeServer()
    fake.artifact_part_bytes = 100
    trainer = Trainer(tmp_path, disk)
    content = random.Random(1).randbytes(1050)
    request_id = log(trainer, artifact_of({"big": content}, tmp_path))
    trainer.finish()

    async def main() -> Any:
        task = asyncio.ensure_future(upload_of(trainer, disk, fake).run())
        while len(fake.parts) < 4:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kept = dict(fake.parts)
        outcome = await upload_of(trainer, disk, fake).run()
        return outcome, kept

    outcome, kept = run(main())
    assert outcome == COMPLETE and 4 <= len(kept) < 11
    assert answer_of(trainer, request_id)["path"] == "e/p/data:v0"
    (stored,) = fake.contents.values()
    assert stored == content


def test_an_immutable_file_that_changed_is_told(tmp_path: Path) -> None:
    """Other bytes than those that were added are not sent; the run ends, and the failure is in answer, mark and status."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    source = tmp_path / "weights"
    source.write_bytes(b"before")
    artifact = Artifact("model", "model")
    artifact.add_file(source, policy="immutable")
    request_id = log(trainer, artifact)
    source.write_bytes(b"after!")
    after = log(trainer, artifact_of({"a": b"fine"}, tmp_path, "model"))
    trainer.finish()

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert run(main()) == COMPLETE
    error = answer_of(trainer, request_id)["error"]
    assert "is not what was added as 'weights'" in error["message"]
    assert answer_of(trainer, after)["path"] == "e/p/model:v0"
    mark = trainer.mark()
    assert (mark["artifacts_durable"], mark["artifacts_failed"]) == (1, 1)
    assert "artifact model did not become a version" in mark["message"]
    assert read_status(trainer.folder).artifacts_unsent == 1
    assert (trainer.folder / "artifacts" / f"{request_id}.manifest").exists()


@pytest.mark.parametrize("harm", ["missing", "manifest", "refused"])
def test_what_cannot_be_sent_is_told_and_keeps_nothing_open(tmp_path: Path, harm: str) -> None:
    """A file that is gone, a damaged manifest, a refusal for good."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    request_id = log(trainer, artifact_of({"a": b"x"}, tmp_path))
    trainer.finish()
    folder = trainer.folder / "artifacts"
    if harm == "missing":
        next((folder / "staged").iterdir()).unlink()
    elif harm == "manifest":
        (folder / f"{request_id}.manifest").write_bytes(b'{"path": "a", "si')
    else:
        fake.refuse_draft = InvalidArgument("no such type", reason="ARTIFACT_TYPE_MISMATCH")

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert run(main()) == COMPLETE
    words = {"missing": "is gone", "manifest": "is damaged", "refused": "no such type"}
    assert words[harm] in answer_of(trainer, request_id)["error"]["message"]


def test_finish_waits_while_artifacts_move() -> None:
    """Entries and bytes of artifacts count as moving, and are shown; when nothing moved for a while, the time is up."""
    terminal = Terminal(is_silent=True)
    progress = FinishProgress(terminal, 10, start_s=0.0)
    mark = Mark(artifacts_total=2, artifacts_durable=1, artifact_entries_total=5000)
    progress.look(mark, 1.0)
    assert not progress.are_files_moving(1.0)
    mark = dataclasses.replace(mark, artifact_entries_done=2000, artifact_bytes_sent=3 << 20)
    progress.look(mark, 70.0)
    assert progress.are_files_moving(80.0) and not progress.are_files_moving(70.0 + STALL_S)
    said = "sending artifacts: 1 of 2, 2,000 of 5,000 entries, 3.0 MiB sent"
    assert progress.text(mark) == said
    assert artifacts_text(dataclasses.replace(mark, artifacts_failed=1)) == ""


def test_a_forgotten_draft_is_begun_anew(tmp_path: Path) -> None:
    """A server that dropped a draft halfway gets it again."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    request_id = log(trainer, artifact_of({"a": b"x"}, tmp_path))
    trainer.finish()
    commits = []
    commit = fake.commit_draft

    async def forgetful(draft_id: str, request: Any) -> Any:
        commits.append(draft_id)
        if len(commits) == 1:
            fake.drafts.clear()
        return await commit(draft_id, request)

    fake.commit_draft = forgetful  # type: ignore[method-assign]  # a server that forgets

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert run(main()) == COMPLETE
    assert answer_of(trainer, request_id)["path"] == "e/p/data:v0" and len(commits) == 2


def test_a_moved_run_folder_is_sent(tmp_path: Path) -> None:
    """Copies are told relative to the run folder, so that an offline run may be carried elsewhere."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    request_id = log(trainer, artifact_of({"a": b"x"}, tmp_path))
    trainer.finish()
    moved = tmp_path / "elsewhere"
    trainer.folder.rename(moved)
    trainer.folder = moved

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert run(main()) == COMPLETE
    assert answer_of(trainer, request_id)["path"] == "e/p/data:v0"


def test_what_another_client_writes_becomes_versions(tmp_path: Path) -> None:
    """The conformance vector of artifacts: journal, manifests and staged files as any client lays them out."""
    vectors = json.loads((CONFORMANCE / "journal_vectors.json").read_text("utf-8"))["vectors"]
    (vector,) = (one for one in vectors if "beside" in one)
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    trainer.journal.close()
    trainer.die()
    for segment, packed in vector["segments_zlib_base64"].items():
        content = zlib.decompress(base64.b64decode(packed))
        (trainer.folder / "journal" / segment).write_bytes(content)
    for name, text in vector["beside"].items():
        (trainer.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (trainer.folder / name).write_text(text, "utf-8")
    fake.contents[hashlib.sha256(b"old").digest()] = b"old"

    async def main() -> Any:
        return await upload_of(trainer, disk, fake).run()

    assert run(main()) == COMPLETE
    by_name = {r["content"]["name"]: r["content"] for r in vector["records"] if r["kind"] == "ARTIFACT"}  # fmt: skip
    for name, record in by_name.items():
        (version,) = fake.versions[name]
        assert version.digest == record["digest"]
        assert version.entry_count == record["entry_count"]
        assert answer_of(trainer, record["request_id"])["path"] == version.path
    entries = fake.entries_by_version["e/p/data:v0"]
    assert fake.contents[entries["data/\u00e9.csv"].sha256] == b"a,b\n1,2\n"
    assert entries["web"].reference == "s3://bucket/key" and not entries["web"].sha256
    assert fake.versions["data"][0].aliases == ("latest", "best")
    assert fake.versions["links"][0].tags == ()
