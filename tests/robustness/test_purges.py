"""kill -9 of the server while it purges, at random moments: the purge goes on, and its receipt is the whole truth."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from runyard import Api
from tests.integration.readback import readback
from tests.integration.test_deletion import (
    FILE_BYTES,
    METRICS,
    ROWS,
    await_purged,
    by_store,
    cli,
    train,
)
from tests.integration.yard import CallError, Yard

RUNS = 4


def test_kills_during_a_purge_change_nothing_of_its_receipt(tmp_path: Path) -> None:
    """Killed on its way, each run is purged whole, with every row and object counted once."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    folder = tmp_path / "training"
    # What a killed server took is left alone until its lease ends; here that comes soon.
    with Yard(tmp_path / "yard", settings=["metadata.purger.lease=3s"]) as yard:
        drops = [train(yard, folder, "kills", f"drop{number}") for number in range(RUNS)]
        keep = train(yard, folder, "kills", "keep")
        with readback(yard.grpc) as reader:
            for path in (*drops, keep):
                reader.wait_for_state(path, "FINISHED", timeout_s=30)
            before = reader.history(keep)
        for path in (
            drops
        ):  # its purge begins at once, also where those before wait for the lease of the dead
            assert cli(yard, folder, "runs", "delete", path, "--now", "--yes").returncode == 0
            time.sleep(chance.uniform(0.0, 4.0))
            yard.kill()
            yard.start()
        for receipt in await_purged(yard, folder, "kills", *drops):
            stores = by_store(receipt)
            assert (stores["objects"]["objects"], stores["objects"]["rows"]) == (1, 1), receipt
            assert stores["objects"]["bytes"] == FILE_BYTES
            assert ROWS * METRICS <= stores["clickhouse"]["rows"] < 2 * ROWS * METRICS, receipt
            assert stores["clickhouse"]["bytes"] > 0 and stores["sql"]["rows"] >= 3
            with pytest.raises(CallError, match="deleted"):
                yard.call("metadata.v1.MetadataService/GetRun", {"path": receipt["path"]})
        with readback(yard.grpc) as reader:
            assert reader.history(keep) == before
        assert Api(yard.base_url).run(keep).file("model.bin").size == FILE_BYTES
