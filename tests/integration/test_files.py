"""Files of runs through real processes: the SDK, its agent, the services and an S3 server."""

from __future__ import annotations

import hashlib
import random
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
