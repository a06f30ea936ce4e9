"""Artifacts through real processes: scripts, their agents, the services and an S3 server."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import runyard
from runyard.errors import FailedPrecondition, NotFound
from tests.integration import scripts
from tests.integration.yard import CHECKOUT, Yard, clean_environment

MIB = 1 << 20

LOG = """
import runyard
with runyard.init(entity="nico", project="PROJECT", config={"seed": 1}) as run:
    artifact = runyard.Artifact("data", "dataset", description="rows", metadata={"rows": 3})
    artifact.add_dir("files")
    with artifact.new_file("made/list.txt") as file:
        file.write("one\\n")
    artifact.add_reference("file:///etc/hostname", "host")
    run.log_artifact(artifact, aliases=["best"], tags=["t"])
    artifact.wait(60)
    print("VERSION", artifact.qualified_name, ",".join(artifact.aliases))
"""

USE = """
import runyard, pathlib
with runyard.init(entity="nico", project="PROJECT") as run:
    artifact = run.use_artifact("data:best", type="dataset")
    root = artifact.download()
    artifact.verify()
    print("USED", artifact.name, artifact.metadata, sorted(p.name for p in pathlib.Path(root).rglob("*") if p.is_file()))
    run.log_model("model.bin", name="net", aliases=["good"]).wait(60)
    print("MODEL", run.use_model("net:good"))
"""


def project_of(request: pytest.FixtureRequest) -> str:
    """Returns a project of the test's own, in the yard that it runs in."""
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()[:10]
    return f"artifacts-{digest}"


def environment(yard: Yard, folder: Path, **more: str) -> dict[str, str]:
    return yard.environment(folder / "runyard", RUNYARD_CACHE_DIR=str(folder / "cache"), **more)


def api_of(yard: Yard, monkeypatch: pytest.MonkeyPatch, folder: Path) -> runyard.Api:
    monkeypatch.setenv("RUNYARD_CACHE_DIR", str(folder / "cache"))
    monkeypatch.chdir(folder)
    return runyard.Api(base_url=yard.base_url)


def files_in(folder: Path) -> None:
    (folder / "files" / "deep").mkdir(parents=True)
    (folder / "files" / "a.txt").write_bytes(b"a")
    (folder / "files" / "deep" / "same.txt").write_bytes(b"a")
    (folder / "files" / "empty").write_bytes(b"")
    (folder / "files" / "big.bin").write_bytes(random.Random(1).randbytes(35 * MIB + 7))


def test_a_dataset_is_logged_used_and_traced(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs: what one logs the other uses; unchanged makes no new version; the lineage and the command line tell."""
    project = project_of(request)
    files_in(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"weights")
    more = environment(yard, tmp_path)
    code, output = scripts.run(LOG.replace("PROJECT", project), tmp_path, more)
    assert code == 0 and f"VERSION nico/{project}/data:v0 latest,best" in output.replace("best,latest", "latest,best"), output  # fmt: skip
    assert "1 artifact" in output and f"artifact nico/{project}/data:v0" in output
    code, output = scripts.run(LOG.replace("PROJECT", project), tmp_path, more)
    assert code == 0 and "data:v0 (unchanged)" in output, output
    code, output = scripts.run(USE.replace("PROJECT", project), tmp_path, more)
    assert code == 0, output
    names = "['a.txt', 'big.bin', 'empty', 'host', 'list.txt', 'same.txt']"
    assert f"USED data:v0 {{'rows': 3}} {names}" in output
    assert f"MODEL {tmp_path}/artifacts/net:v0/model.bin" in output

    api = api_of(yard, monkeypatch, tmp_path)
    artifact = api.artifact(f"nico/{project}/data")
    assert (artifact.version, artifact.description, artifact.tags) == ("v0", "rows", ["t"])
    assert artifact.get_entry("deep/same.txt").digest == hashlib.sha256(b"a").hexdigest()
    (user,) = artifact.used_by()
    assert [a.name for a in user.used_artifacts()] == ["data:v0", "net:v0"]
    assert [a.name for a in user.logged_artifacts()] == ["net:v0"]
    logged_by = artifact.logged_by()
    assert logged_by.config == {"seed": 1}
    lineage = artifact.lineage(depth=3)
    assert {v.path.rpartition("/")[2] for v in lineage.versions} == {"data:v0", "net:v0"}
    assert user.path in lineage.run_paths and logged_by.path in lineage.run_paths
    assert [a.name for a in api.artifacts(f"nico/{project}", "model")] == ["net:v0"]
    assert api.artifact_exists(f"nico/{project}/data:best")
    assert not api.artifact_exists(f"nico/{project}/data:worst")

    root = artifact.download(root=tmp_path / "fresh", skip_cache=True)
    for path in ("a.txt", "big.bin", "empty", "deep/same.txt"):
        assert (Path(root) / path).read_bytes() == (tmp_path / "files" / path).read_bytes()


def test_versions_change_and_go(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another content is another version; aliases move; what is changed is saved; what is deleted frees what nobody else has."""
    project = project_of(request)
    script = """
import runyard
with runyard.init(entity="nico", project="PROJECT") as run:
    for number in range(3):
        artifact = runyard.Artifact("data", "dataset")
        with artifact.new_file("shared") as file:
            file.write("s" * 1000)
        with artifact.new_file("own") as file:
            file.write(str(number) * 100)
        run.log_artifact(artifact, aliases=["best"] if number == 1 else None)
"""
    more = environment(yard, tmp_path)
    code, output = scripts.run(script.replace("PROJECT", project), tmp_path, more)
    assert code == 0 and "3 artifacts" in output, output
    api = api_of(yard, monkeypatch, tmp_path)
    versions = api.artifact_versions(f"nico/{project}/data")
    assert [one.name for one in versions] == ["data:v2", "data:v1", "data:v0"]
    assert [set(one.aliases) for one in versions] == [{"latest"}, {"best"}, set()]

    first = versions[2]
    first.description, first.metadata = "the first", {"k": [1, 2]}
    first.aliases.append("best")
    first.tags = ["kept"]
    first.save()
    again = api.artifact(f"nico/{project}/data:best")
    assert (again.version, again.description, again.metadata, again.tags) == (
        "v0",
        "the first",
        {"k": [1, 2]},
        ["kept"],
    )
    with pytest.raises(FailedPrecondition, match="alias"):
        again.delete()
    receipt = api.artifact(f"nico/{project}/data:v1").delete()
    assert (receipt.deleted_count, receipt.freed_bytes, receipt.shared_bytes) == (1, 100, 1000)
    assert again.delete(delete_aliases=True).freed_bytes == 100
    with pytest.raises(NotFound):
        api.artifact(f"nico/{project}/data:v0")
    last = api.delete_artifact(f"nico/{project}/data", delete_aliases=True)
    assert (last.deleted_count, last.freed_bytes) == (1, 1100)


def test_two_processes_log_one_name_at_once(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They get different versions, each whole; the same content of both is kept once."""
    project = project_of(request)
    script = """
import runyard, sys
with runyard.init(entity="nico", project="PROJECT") as run:
    for number in range(5):
        artifact = runyard.Artifact("data", "dataset")
        with artifact.new_file("shared") as file:
            file.write("s" * 100_000)
        with artifact.new_file("own") as file:
            file.write(f"{run.id} {number}")
        run.log_artifact(artifact)
"""
    more = environment(yard, tmp_path)
    processes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "train.py"
        path.write_text(script.replace("PROJECT", project))
        own = {**more, "RUNYARD_DIR": str(tmp_path / name / "runyard"), "RUNYARD_RUN_ID": name}
        processes.append(scripts.start(path, own))
    for process in processes:
        code, output = scripts.finish(process)
        assert code == 0, output
    api = api_of(yard, monkeypatch, tmp_path)
    versions = api.artifact_versions(f"nico/{project}/data")
    assert [one.name for one in versions] == [f"data:v{n}" for n in reversed(range(10))]
    found: dict[str, list[str]] = {"one": [], "two": []}
    for version in reversed(versions):
        path = Path(version.get_entry("own").download(root=tmp_path / "out" / version.version))
        run_id, _, number = path.read_text().partition(" ")
        found[run_id].append(number)
    assert found == {"one": list("01234"), "two": list("01234")}


def test_an_offline_run_is_synced(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder holds all that is needed, though source and cache are gone; `sync --status` tells before and after."""
    project = project_of(request)
    (tmp_path / "source").write_bytes(b"content")
    script = """
import runyard
with runyard.init(entity="nico", project="PROJECT", id="off", mode="offline") as run:
    artifact = runyard.Artifact("data", "dataset")
    artifact.add_file("source")
    run.log_artifact(artifact)
"""
    more = environment(yard, tmp_path)
    code, output = scripts.run(script.replace("PROJECT", project), tmp_path, more)
    assert code == 0, output
    (tmp_path / "source").unlink()
    assert command(more, "cache", "clean", "--all")["removed_count"] == 1
    (before,) = command(more, "sync", "--status", str(tmp_path / "runyard"))
    assert (before["artifacts_unsent"], before["state"]) == (1, "unsent")
    (synced,) = command(more, "sync", str(tmp_path / "runyard"))
    assert (synced["outcome"], synced["artifacts_durable"]) == ("complete", 1)
    (after,) = command(more, "sync", "--status", str(tmp_path / "runyard"))
    assert (after["artifacts_unsent"], after["state"]) == (0, "complete")
    shown = command(more, "artifacts", "show", f"nico/{project}/data")
    assert (shown["logged_by"], shown["files"][0]["path"]) == (f"nico/{project}/off", "source")
    got = command(more, "artifacts", "get", f"nico/{project}/data:v0", "--root", "back", cwd=tmp_path)  # fmt: skip
    assert (Path(got["root"]) / "source").read_bytes() == b"content"


def test_the_command_line(yard: Yard, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """put, ls, alias, lineage, rm; the cache is checked and mended."""
    path = f"nico/{project_of(request)}/table"
    (tmp_path / "table.csv").write_text("a,b\n")
    more = environment(yard, tmp_path)
    put = command(more, "artifacts", "put", "table.csv", "-n", path, "-a", "raw", cwd=tmp_path)
    assert (put["path"], put["file_count"], sorted(put["aliases"])) == (f"{path}:v0", 1, ["latest", "raw"])  # fmt: skip
    (tmp_path / "table.csv").write_text("a,b,c\n")
    assert command(more, "artifacts", "put", "table.csv", "-n", path, cwd=tmp_path)["version"] == "v1"  # fmt: skip
    rows = command(more, "artifacts", "ls", path.rpartition("/")[0])
    assert [row["name"] for row in rows] == ["table:v1"]
    assert len(command(more, "artifacts", "ls", path, "--versions")) == 2
    moved = command(more, "artifacts", "alias", f"{path}:v1", "raw", "best")
    assert sorted(moved["aliases"]) == ["best", "latest", "raw"]
    assert command(more, "artifacts", "alias", f"{path}:v1", "--remove", "best")["aliases"]
    (link,) = command(more, "artifacts", "lineage", f"{path}:v1", "--depth", "1")["links"]
    assert (link["kind"], link["version_path"]) == ("logged", f"{path}:v1")
    command(more, "artifacts", "get", f"{path}:raw", cwd=tmp_path)
    (kept,) = [p for p in (tmp_path / "cache" / "objects").rglob("*") if p.is_file()]
    kept.chmod(0o644)
    kept.write_text("damaged")
    assert command(more, "cache", "verify", code=1) == {"good_count": 0, "damaged": [kept.parent.name + kept.name]}  # fmt: skip
    assert command(more, "artifacts", "rm", f"{path}:v0")["deleted_count"] == 1
    error = command(more, "artifacts", "rm", f"{path}:v1", code=1)
    assert error["reason"] == "ARTIFACT_HAS_ALIASES"
    assert command(more, "artifacts", "rm", path, "--all", "--with-aliases")["deleted_count"] == 1
    assert command(more, "artifacts", "show", path, code=1)["reason"] == "ARTIFACT_NOT_FOUND"


def command(
    more: dict[str, str], *arguments: str, code: int = 0, cwd: Path | None = None
) -> dict[str, object] | list[dict[str, object]]:
    """Runs `runyard … --json` and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "runyard", *arguments, "--json"],
        env=clean_environment(more),
        cwd=cwd or CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    return found  # type: ignore[no-any-return]  # JSON
