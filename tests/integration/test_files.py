"""Files of runs through real processes: the SDK, its agent, the services and an S3 server."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

import runyard
from tests.integration import scripts
from tests.integration.test_write_read import run_id_of
from tests.integration.yard import Yard

MIB = 1 << 20

SAVE_BIG = """
import runyard
run = runyard.init(entity="nico", project="files")
run.save("big.bin", policy="now")
run.save("copy.bin", policy="now")
run.save("big.bin", policy="end")
run.save("empty.txt")
"""


def test_a_large_file_comes_back_and_its_bytes_are_sent_once(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A file of several parts, saved under two names and once more unchanged; SHA-256 holds end to end."""
    content = random.Random(1).randbytes(40 * MIB + 11)
    (tmp_path / "big.bin").write_bytes(content)
    (tmp_path / "copy.bin").write_bytes(content)
    (tmp_path / "empty.txt").write_bytes(b"")
    run_id = run_id_of(request)
    code, output = scripts.run(
        SAVE_BIG, tmp_path, yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id)
    )
    assert code == 0, output
    files = {
        file.name: file
        for file in runyard.Api(base_url=yard.base_url).run(f"nico/files/{run_id}").files()
    }
    assert {"big.bin", "copy.bin", "empty.txt"} <= files.keys()
    digest = hashlib.sha256(content).hexdigest()
    for name in ("big.bin", "copy.bin"):
        assert (files[name].size_bytes, files[name].sha256) == (len(content), digest)
        assert files[name].download(tmp_path / "back").read_bytes() == content
    path = f"nico/files/{run_id}"
    freed = [
        yard.call("files.v1.FilesService/DeleteFiles", {"runPath": path, "names": [name]})
        for name in ("big.bin", "copy.bin")
    ]
    assert [reply.get("freedBytes") for reply in freed] == [None, str(len(content))]


def cli(yard: Yard, folder: Path, *words: str) -> tuple[int, str, str]:
    """Runs the command `runyard` in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "runyard", *words, "--base-url", yard.base_url],
        cwd=folder,
        env=yard.environment(folder / "runyard"),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


def test_files_by_command(yard: Yard, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """put, ls, get and rm; what is there is not replaced unasked; errors say what is wrong."""
    run_id = run_id_of(request)
    path = f"nico/files/{run_id}"
    script = "import runyard\nrunyard.init(entity='nico', project='files').log({'a': 1})\n"
    code, output = scripts.run(
        script, tmp_path, yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id)
    )
    assert code == 0, output
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("hello")
    (tmp_path / "data" / "deep" / "b [1].csv").write_text("x,y\n1,2\n")
    code, out, err = cli(yard, tmp_path, "files", "put", path, "data")
    assert (code, out, err) == (0, "uploaded 2 files\n", "")
    code, out, _ = cli(yard, tmp_path, "files", "ls", path, "data/")
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()[:3]] == ["name", "data/a.txt", "[1].csv"]
    code, out, _ = cli(yard, tmp_path, "files", "get", path, "data/*", "--root", "back")
    assert (code, out) == (0, "downloaded 2 files\n")
    assert (tmp_path / "back/data/deep/b [1].csv").read_text() == "x,y\n1,2\n"
    (tmp_path / "back/data/a.txt").write_text("mine")
    code, out, err = cli(yard, tmp_path, "files", "get", path, "data/a.txt", "--root", "back")
    assert code == 1
    assert "replace=True overwrites it" in err
    assert (tmp_path / "back/data/a.txt").read_text() == "mine"
    code, _, err = cli(yard, tmp_path, "files", "rm", path, "data/a.txt")
    assert code == 1
    assert "give --yes" in err
    code, out, _ = cli(yard, tmp_path, "files", "rm", path, "data/a.txt", "--yes")
    assert (code, out) == (0, "removed 1 file, freed 5 B\n")
    for words, said in (
        (("files", "get", path, "../secret"), "has a . or .. part"),
        (("files", "get", path, "none"), "has no file of none"),
        (("files", "put", path, "none"), "there is no file 'none'"),
        (("files", "ls", f"{path}x"), "no run"),
    ):
        code, _, err = cli(yard, tmp_path, *words)
        assert code == 1
        assert said in err, err


RESTORE = """
import os, runyard
run = runyard.init(entity="nico", project="files")
with runyard.restore("model.bin", run_path={path!r}) as file:
    assert file.name == os.path.join(run.dir, "model.bin"), file.name
    assert file.read() == "weights", "content"
with open(os.path.join(run.dir, "model.bin"), "w") as file:
    file.write("trained on")
assert runyard.restore("model.bin", run_path={path!r}).read() == "trained on"
assert runyard.restore("model.bin", run_path={path!r}, replace=True).read() == "weights"
assert runyard.restore("model.bin", run_path={path!r}, root="elsewhere").name == os.path.join("elsewhere", "model.bin")
for name, kind in (("none", runyard.errors.NotFound), ("../model.bin", ValueError)):
    try:
        runyard.restore(name, run_path={path!r})
    except kind as error:
        print(error)
    else:
        raise SystemExit(f"{{name}} was restored")
"""


def test_a_file_is_restored(yard: Yard, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """From another run, into this run's folder or elsewhere; what is there is taken; it is not uploaded again."""
    first, second = run_id_of(request), run_id_of(request) + "b"
    (tmp_path / "model.bin").write_text("weights")
    script = "import runyard\nrunyard.init(entity='nico', project='files').save('model.bin')\n"
    for run_id, text in ((first, script), (second, RESTORE.format(path=f"nico/files/{first}"))):
        environment = yard.environment(tmp_path / "runyard", RUNYARD_RUN_ID=run_id)
        code, output = scripts.run(text, tmp_path, environment)
        assert code == 0, output
    assert "has no file 'none'" in output
    run = runyard.Api(base_url=yard.base_url).run(f"nico/files/{second}")
    assert "model.bin" not in [file.name for file in run.files()]
    file = runyard.Api(base_url=yard.base_url).run(f"nico/files/{first}").file("model.bin")
    assert file.read() == b"weights"
    file.delete()
    with pytest.raises(runyard.errors.NotFound):
        file.delete()
    with pytest.raises(runyard.errors.NotFound):
        file.read()
