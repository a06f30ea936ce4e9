"""Reads of lines through the handler, over stores in memory: pages, searches, and what a reader who follows is told."""

from __future__ import annotations

import pytest

from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.domain.errors import InvalidArgument
from runyard_server.storage.ports.points import BlockEntry
from tests.contract.console_store import printed
from tests.unit.query.test_service import World

PATH = "e/p/r"


async def ask(world: World, **fields: object) -> pb.ListConsoleLinesResponse:
    request = pb.ListConsoleLinesRequest(run_path=PATH, **fields)  # type: ignore[arg-type]  # names are the message's
    return await world.rpc.ListConsoleLines(request, None)


async def test_who_follows_is_told_each_line_once() -> None:
    """A poll brings what came since the last one and nothing twice; a poll that is repeated brings the same again."""
    world = World()
    run = await world.add_run("r")

    async def say(line: int, text: str) -> None:
        batch = printed(run.run_key, (line, text), sequence=line)
        await world.points.insert_block([BlockEntry(batch)])

    await say(1, "a")
    first = await ask(world, is_newest_first=True)
    assert list(first.texts) == ["a"]
    await say(2, "b")
    second = await ask(world, changes_token=first.changes_token)
    assert (list(second.texts), second.is_cut) == (["b"], False)
    await say(3, "c")
    assert list((await ask(world, changes_token=first.changes_token)).texts) == ["b", "c"]
    third = await ask(world, changes_token=second.changes_token)
    assert list(third.texts) == ["c"]
    last = await ask(world, changes_token=third.changes_token)
    assert (list(last.texts), last.changes_token) == ([], third.changes_token)


async def test_a_token_of_another_run_is_refused() -> None:
    """A changes_token is good for the run that it was given for."""
    world = World()
    await world.add_run("r")
    await world.add_run("other")
    token = (await ask(world)).changes_token
    request = pb.ListConsoleLinesRequest(run_path="e/p/other", changes_token=token)
    with pytest.raises(InvalidArgument):
        await world.rpc.ListConsoleLines(request, None)
