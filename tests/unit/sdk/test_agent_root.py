"""An agent whose root was removed or replaced leaves what is there now to another one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from pathlib import Path
from typing import NoReturn

import pytest

from runyard.agent.agent import Agent
from runyard.agent.budget import Budget
from runyard.agent.disk import LocalDisk
from runyard.agent.process_setup import is_named, take_lock
from runyard.agent.world import World


def no_server(url: str) -> NoReturn:
    raise AssertionError(f"a server was asked for: {url}")


def test_a_replaced_root_ends_the_agent(tmp_path: Path) -> None:
    """`rm -rf runyard` under an idle agent, then a new run: the old agent ends and touches nothing of it."""
    root = tmp_path / "runyard"
    root.mkdir()
    lock = take_lock(str(root))
    assert lock is not None
    held = os.fstat(lock)
    assert is_named(str(root / "agent.lock"), held)
    agent = Agent(
        str(root), base_url="http://x", world=World(LocalDisk(), Budget(1 << 20), time.time_ns),
        make_server=no_server, idle_exit_s=60.0,
        is_root_ours=lambda: is_named(str(root / "agent.lock"), held),
    )  # fmt: skip

    async def story() -> bool:
        serving = asyncio.create_task(agent.run())
        await asyncio.sleep(0)
        shutil.rmtree(root)
        (root / "run-20260101_000000-abc" / "journal").mkdir(parents=True)
        await asyncio.wait_for(serving, 30.0)
        return agent.has_new_work()

    assert asyncio.run(story()) is False
    other = take_lock(str(root))
    assert other is not None
    assert not is_named(str(root / "agent.lock"), held)
    for number in (lock, other):
        os.close(number)


def serve_once(root: Path) -> None:
    """Runs an agent without a server until it has nothing to do."""
    agent = Agent(
        str(root), base_url="http://x", world=World(LocalDisk(), Budget(1 << 20), time.time_ns),
        make_server=no_server, idle_exit_s=0.0,
    )  # fmt: skip
    asyncio.run(agent.run())


@pytest.mark.parametrize(
    ("mark", "is_removed"),
    [
        ({"is_complete": True}, True),
        ({"is_complete": True, "refused_ranges": [[3, 4]]}, False),
        ({"is_complete": True, "refused_unlisted": 7}, False),
    ],
)
def test_segments_of_a_complete_run_are_removed_by_the_next_agent(
    tmp_path: Path, mark: dict[str, object], is_removed: bool
) -> None:
    """Segments that an agent could not remove (killed, disk full) go with the next one, unless some of it was refused."""
    folder = tmp_path / "run-20260101_000000-abc"
    (folder / "journal").mkdir(parents=True)
    segments = [folder / "journal" / name for name in ("00000001.seg", "00000003.seg")]
    for path in segments:
        path.write_bytes(b"durable")
    (folder / "mark.json").write_text(json.dumps(mark))
    serve_once(tmp_path)
    assert [path.exists() for path in segments] == [not is_removed] * 2
    assert (folder / "mark.json").exists()
