"""What the process beside a script finds out: real repositories, installed distributions, a listing of GPUs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard import journal_format as form
from runyard.journal_reader import JournalReader
from runyard.origin.git import Repository
from runyard.origin.gpus import gpu_facts
from runyard.origin.main import Wish, gather
from runyard.origin.programs import ask
from runyard.origin.requirements import requirement_lines
from tests.integration.readback import wait_until

TIMEOUT_S = 30


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of git without this machine's and this user's configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    (tmp_path / "gitconfig").write_text(
        "[user]\nname = n\nemail = e@f\n[init]\ndefaultBranch = main\n"
    )
    own = {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"), "GIT_CONFIG_NOSYSTEM": "1"}
    return {**kept, **own, "HOME": str(tmp_path)}


def git(folder: Path, environ: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environ, check=True, capture_output=True, text=True, timeout=TIMEOUT_S
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, environ: dict[str, str]) -> Path:
    """A repository with one commit of train.py and weights.bin."""
    folder = tmp_path / "repository"
    (folder / "sub").mkdir(parents=True)
    git(folder, environ, "init", "-q")
    (folder / "train.py").write_text("lr = 1\n")
    (folder / "weights.bin").write_bytes(bytes(range(256)))
    git(folder, environ, "add", ".")
    git(folder, environ, "commit", "-q", "-m", "first")
    return folder


def gathered(tmp_path: Path, environ: dict[str, str], **wishes: Any) -> tuple[dict[str, Any], Path]:
    """Returns the facts, and the folder of the run's files."""
    folder = tmp_path / "runyard" / "run-1"
    (folder / "files").mkdir(parents=True)
    gather(Wish(folder, **wishes), environ)
    found = json.loads((folder / "origin.json").read_text())
    listed = sorted(found["files"])
    there = sorted(
        str(path.relative_to(folder / "files"))
        for path in (folder / "files").rglob("*")
        if path.is_file()
    )
    assert found["version"] == 1 and set(listed) <= set(there)
    assert not (folder / "origin.new").exists()
    return dict(found["facts"]), folder / "files"


def test_a_repository_with_changes(
    tmp_path: Path, repository: Path, environ: dict[str, str]
) -> None:
    """Remote without credentials, branch, commit, changes as a diff of the whole repository, and untracked names are told."""
    git(repository, environ, "remote", "add", "other", "https://h/other")
    git(repository, environ, "remote", "add", "origin", "https://me:geheim@h/o/r.git")
    (repository / "train.py").write_text("lr = 2\n")
    (repository / "weights.bin").write_bytes(bytes(256))
    (repository / "new é.txt").write_text("n")
    git(repository, environ, "mv", "train.py", "model.py")
    facts, files = gathered(
        tmp_path, environ, directory=repository / "sub", is_git=True, diff_bytes_max=10_000
    )
    found = facts["git"]
    commit = git(repository, environ, "rev-parse", "HEAD")
    assert (found["remote"], found["branch"], found["commit"]) == (
        "https://h/o/r.git",
        "main",
        commit,
    )
    assert (found["is_dirty"], found["untracked"], found["untracked_count"]) == (
        True,
        ["new é.txt"],
        1,
    )
    patch = (files / "diff.patch").read_text()
    assert found["diff"] == {"file": "diff.patch", "size_bytes": len(patch.encode())}
    assert "lr = 2" in patch and "Binary files a/weights.bin and b/weights.bin differ" in patch
    assert "problem" not in found and git(repository, environ, "status", "--porcelain") != ""


def test_a_diff_can_be_applied(tmp_path: Path, repository: Path, environ: dict[str, str]) -> None:
    """The kept diff, applied to the commit, gives what ran; settings of the user's git do not change its form."""
    (repository / "train.py").write_text("lr = 3\n")
    for name, value in (
        ("diff.noprefix", "true"),
        ("color.ui", "always"),
        ("diff.external", "false"),
    ):
        git(repository, environ, "config", name, value)
    _, files = gathered(tmp_path, environ, directory=repository, is_git=True, diff_bytes_max=10_000)
    git(repository, environ, "checkout", "-q", "--", ".")
    git(repository, environ, "apply", str(files / "diff.patch"))
    assert (repository / "train.py").read_text() == "lr = 3\n"


def test_a_diff_that_is_too_large(
    tmp_path: Path, repository: Path, environ: dict[str, str]
) -> None:
    """A diff above the limit is not kept, in no part, and the facts say so; the rest is told."""
    (repository / "train.py").write_text("x = 1\n" * 100_000)
    facts, files = gathered(
        tmp_path, environ, directory=repository, is_git=True, diff_bytes_max=1_000
    )
    assert facts["git"]["diff"] == {"problem": "larger than 1000 bytes, so it is not kept"}
    assert facts["git"]["is_dirty"] and not (files / "diff.patch").exists()


def test_a_clean_repository(tmp_path: Path, repository: Path, environ: dict[str, str]) -> None:
    """Without changes there is no diff; the journals' own folder, and a detached head without a branch, are no changes."""
    git(repository, environ, "checkout", "-q", "--detach")
    folder = repository / "runyard" / "run-1"
    (folder / "files").mkdir(parents=True)
    wish = Wish(folder, repository, is_git=True, diff_bytes_max=1_000)
    gather(wish, environ)
    facts = json.loads((folder / "origin.json").read_text())["facts"]
    commit = git(repository, environ, "rev-parse", "HEAD")
    assert facts == {"git": {"commit": commit, "is_dirty": False}}


def test_submodules(tmp_path: Path, repository: Path, environ: dict[str, str]) -> None:
    """Submodules are listed with their commits and whether those are the committed ones."""
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, environ, "init", "-q")
    git(
        outer,
        environ,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(repository),
        "lib",
    )
    git(outer, environ, "commit", "-q", "-m", "with lib")
    git(outer / "lib", environ, "commit", "-q", "--allow-empty", "-m", "further")
    commit = git(outer / "lib", environ, "rev-parse", "HEAD")
    found = Repository(outer, environ).facts()
    assert found["submodules"] == [{"path": "lib", "commit": commit, "state": "another commit"}]
    assert found["is_dirty"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("outside", {}),
        ("bare", {"branch": "main", "problem": "the repository has no working tree"}),
        (
            "unborn",
            {"branch": "main", "problem": "the branch has no commit yet", "is_dirty": False},
        ),
    ],
)
def test_repositories_that_have_less(
    tmp_path: Path, environ: dict[str, str], kind: str, expected: dict[str, Any]
) -> None:
    """Outside of a repository nothing is told; a bare one, and one without a commit, say what they lack."""
    folder = tmp_path / kind
    folder.mkdir()
    if kind != "outside":
        git(folder, environ, "init", "-q", *(["--bare"] if kind == "bare" else []))
    assert expected == Repository(folder, environ).facts()


def test_a_repository_of_somebody_else(repository: Path, environ: dict[str, str]) -> None:
    """Where git refuses the repository, its reason is told, and what its files say all the same."""
    commit = git(repository, environ, "rev-parse", "HEAD")
    # What git has for its own tests of this.
    found = Repository(repository, {**environ, "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}).facts()
    assert (found["commit"], found["branch"]) == (commit, "main")
    assert "dubious ownership" in found["problem"]


def test_without_git(tmp_path: Path, repository: Path, environ: dict[str, str]) -> None:
    """Without the program, what the repository's files say is told, and why there is no more; outside of one nothing is."""
    nowhere = {**environ, "PATH": str(tmp_path / "empty")}
    found = Repository(repository, nowhere).facts()
    assert (found["branch"], found["problem"]) == ("main", "there is no git")
    assert Repository(tmp_path, nowhere).facts() == {}


def test_a_hook_that_starts_the_script(repository: Path, environ: dict[str, str]) -> None:
    """Variables that tell git of another repository do not mislead it."""
    found = Repository(
        repository, {**environ, "GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "x"}
    ).facts()
    assert found["branch"] == "main" and "problem" not in found


def test_many_untracked_files(repository: Path, environ: dict[str, str]) -> None:
    """All untracked files are counted, a limited number is named."""
    for number in range(1_200):
        (repository / f"f{number:04}").touch()
    found = Repository(repository, environ).facts()
    assert found["untracked_count"] == 1_200 and len(found["untracked"]) == 1_000


def test_a_program_that_takes_too_long(tmp_path: Path) -> None:
    """A program that does not end in time is killed, with what it started, and said so."""
    answer = ask(
        ["sh", "-c", "echo begun; sleep 600 & wait"],
        folder=tmp_path, environ=dict(os.environ), timeout_s=0.3, bytes_max=100,
    )  # fmt: skip
    assert (answer.output, answer.problem) == (b"begun\n", "sh took longer than 0.3 s")


def distribution(
    folder: Path, name: str, version: str, origin: dict[str, Any] | None = None
) -> None:
    path = folder / f"{name}-{version}.dist-info"
    path.mkdir(parents=True)
    path.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    if origin is not None:
        path.joinpath("direct_url.json").write_text(json.dumps(origin))


def test_requirements(tmp_path: Path) -> None:
    """Distributions are listed as pip freeze does: by name, once each, with where they were installed from."""
    first, second = tmp_path / "first", tmp_path / "second"
    distribution(first, "Zoo", "1.0")
    distribution(first, "alpha_beta", "2.0")
    distribution(second, "alpha-beta", "1.0")
    distribution(second, "mine", "0.1", {"url": "file:///src/mine", "dir_info": {"editable": True}})
    distribution(
        second, "vcs", "3", {"url": "https://me:geheim@h/vcs.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    )  # fmt: skip
    distribution(second, "wheel-of", "3", {"url": "https://h/w.whl", "archive_info": {}})
    (second / "broken-1.dist-info").mkdir()
    found = metadata.distributions(path=[str(first), str(second)])
    assert requirement_lines(found) == [
        "alpha_beta==2.0",
        "# Editable install of mine==0.1\n-e file:///src/mine",
        "vcs @ git+https://h/vcs.git@abc",
        "wheel-of @ https://h/w.whl",
        "Zoo==1.0",
    ]


def test_gpus(tmp_path: Path) -> None:
    """Names, memory and versions come from nvidia-smi; without it, or where it fails, there are none."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    environ = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    assert gpu_facts(tmp_path, {"PATH": str(program.parent)}) == {}
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" ]; then echo "NVIDIA H100 80GB HBM3, 81559, 550.54.15"; echo "NVIDIA L4, [N/A], 550.54.15"\n'
        'else echo "| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4  |"; fi\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert gpu_facts(tmp_path, environ) == {
        "count": 2,
        "names": ["NVIDIA H100 80GB HBM3", "NVIDIA L4"],
        "memory_bytes": [81559 << 20, 0],
        "driver_version": "550.54.15",
        "cuda_version": "12.4",
    }
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' ; exit 9\n")
    assert gpu_facts(tmp_path, environ) == {}


def test_the_source(tmp_path: Path, environ: dict[str, str]) -> None:
    """The script is kept under source/; a file that the script put there itself is not replaced."""
    script = tmp_path / "train.py"
    script.write_text("x = 1\n")
    facts, files = gathered(tmp_path, environ, directory=tmp_path, source=script)
    assert facts["source"] == {"file": "source/train.py", "size_bytes": 6}
    assert (files / "source/train.py").read_text() == "x = 1\n"
    (files / "source/train.py").write_text("mine")
    gather(Wish(files.parent, tmp_path, source=script), environ)
    assert (files / "source/train.py").read_text() == "mine"
    assert "problem" in json.loads((files.parent / "origin.json").read_text())["facts"]["source"]


def test_what_cannot_be_found_out_keeps_nothing_else_away(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """A script that is gone, and a folder that is, are told as problems beside what was found."""
    facts, _ = gathered(
        tmp_path, environ, directory=tmp_path / "gone", source=tmp_path / "gone.py", is_git=True, is_requirements=True
    )  # fmt: skip
    assert "cannot be read" in facts["source"]["problem"]
    assert facts["requirements"]["count"] > 10


def test_a_run_records_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run tells of its files, then of the facts, once the process has them; the files lie in the run's folder."""
    monkeypatch.chdir(tmp_path)
    settings = {"silent": True, "save_requirements": True, "save_git": False, "save_code": False}
    run = runyard.init(mode="offline", dir=tmp_path / "runs", settings=settings)
    (folder,) = (tmp_path / "runs").glob("run-*")
    wait_until((folder / "origin.json").exists, 60, "origin.json")
    run.finish()
    frames = list(JournalReader.open(folder).frames())
    (file,) = (frame.content for frame in frames if frame.kind == form.FILE)
    assert (file["name"], file["policy"], file["is_copy"]) == ("requirements.txt", "now", True)
    assert file["path"] == str(folder / "files/requirements.txt")
    (change,) = (frame.content for frame in frames if frame.kind == form.CHANGE)
    assert change["host_facts"]["requirements"]["file"] == "requirements.txt"
    assert [frame.kind for frame in frames] == [form.START, form.FILE, form.CHANGE, form.FINISH]


def test_nothing_is_started_where_all_is_switched_off(tmp_path: Path) -> None:
    """With every part switched off, and in mode disabled, no process looks and nothing is recorded."""
    run = runyard.init(mode="offline", dir=tmp_path / "runs", settings={"silent": True})
    assert run._records.origin is not None and run._records.origin.take() is None
    run.finish()
    (folder,) = (tmp_path / "runs").glob("run-*")
    assert not (folder / "origin.json").exists() and not list((folder / "files").iterdir())
    with runyard.init(mode="disabled") as disabled:
        assert disabled._records.origin is None


def test_of_ranks_that_share_a_run_the_first_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several ranks that write one run, rank 0 finds out where it came from, and no other does."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, is_told in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        run = runyard.init(mode="offline", dir=tmp_path, id="shared", settings={"silent": True})
        assert (run._records.origin is not None) is is_told
        run.finish()


def test_the_process_itself_needs_nothing_but_the_standard_library() -> None:
    """What runs beside the training process loads no transport and no numpy."""
    code = "import sys, runyard.origin.main; print([n for n in ('grpc', 'google.protobuf', 'numpy', 'psutil') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    assert done.stdout.strip() == "[]"
