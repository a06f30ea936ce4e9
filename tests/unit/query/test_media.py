"""Reads of media through the handler: pages, ranges, samples, sizes, histories, and what cannot be asked."""

from __future__ import annotations

import dataclasses

import pytest

from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.domain.errors import DomainError
from runyard_server.domain.media import MediaKind, MediaValue
from runyard_server.domain.run import Cut, HistoryPart, RunDocument
from runyard_server.query.media import fit
from runyard_server.storage.ports.media import MediaSteps
from runyard_server.storage.ports.points import BlockEntry
from tests.media_values import histogram, media, media_batch
from tests.unit.query.test_service import World

MIB = 1 << 20


@pytest.fixture
def world() -> World:
    return World()


async def log(
    world: World, run: RunDocument, *values: MediaValue, writer: int = 1, first: int = 1
) -> None:
    numbered = [dataclasses.replace(v, sequence=first + n) for n, v in enumerate(values)]
    await world.points.insert_block([BlockEntry(media_batch(run.run_key, numbered, writer=writer))])


async def listed(world: World, run_path: str, **more: object) -> pb.ListMediaResponse:
    return await world.rpc.ListMedia(pb.ListMediaRequest(run_path=run_path, **more), None)  # type: ignore[arg-type]  # fields of the message


async def read(
    world: World, run_paths: list[str], names: list[str], **more: object
) -> pb.QueryMediaResponse:
    request = pb.QueryMediaRequest(run_paths=run_paths, names=names, **more)  # type: ignore[arg-type]  # fields of the message
    return await world.rpc.QueryMedia(request, None)


async def test_names_come_by_page(world: World) -> None:
    """In byte order, filtered by text and kind of the last value, each once over all pages."""
    run = await world.add_run("r")
    names = ["Z", "a/one", "a/Two", "b"]
    await log(world, run, *(media(name, 3) for name in names), histogram("a/h", 2, [0, 1], [1]))
    reply = await listed(world, "e/p/r")
    assert [(m.name, m.kind, m.first_step, m.last_step, m.step_count) for m in reply.media] == [
        ("Z", MediaKind.IMAGE, 3, 3, 1),
        ("a/Two", MediaKind.IMAGE, 3, 3, 1),
        ("a/h", MediaKind.HISTOGRAM, 2, 2, 1),
        ("a/one", MediaKind.IMAGE, 3, 3, 1),
        ("b", MediaKind.IMAGE, 3, 3, 1),
    ]
    found, token = [], ""
    while True:
        page = await listed(
            world,
            "e/p/r",
            name_contains="A/",
            kinds=[MediaKind.IMAGE],
            page_size=1,
            page_token=token,
        )
        found += [one.name for one in page.media]
        assert page.total_count == 2
        token = page.next_page_token
        if not token:
            break
    assert found == ["a/Two", "a/one"]


async def test_values_come_by_run_and_name_as_asked(world: World) -> None:
    """One entry for each that has values in the range, all fields as logged, sampled evenly and so told."""
    runs = [await world.add_run(name) for name in ("r1", "r2")]
    await log(world, runs[0], *(media("x", step) for step in range(10)))
    await log(world, runs[1], histogram("h", 4, [0.0, 0.5, 2.0], [1, 7], non_finite_count=3))
    reply = await read(world, ["e/p/r2", "e/p/r1"], ["x", "h", "none"], step_count_max=4)
    assert [(s.run_path, s.name, s.step_count, s.is_sampled) for s in reply.series] == [
        ("e/p/r2", "h", 1, False),
        ("e/p/r1", "x", 10, True),
    ]
    assert not reply.is_cut
    (stored,) = reply.series[0].values
    assert (stored.writer, stored.file_run_path) == (1, "e/p/r2")
    assert stored.value == ingest_pb2.MediaValue(
        sequence=1, name="h", step=4, time_unix_ns=17, kind=ingest_pb2.MEDIA_KIND_HISTOGRAM,
        histogram=ingest_pb2.Histogram(edges=[0.0, 0.5, 2.0], counts=[1, 7], non_finite_count=3),
    )  # fmt: skip
    assert [one.value.step for one in reply.series[1].values] == [0, 3, 6, 9]
    assert reply.series[1].values[1].value.items_json == '[{"file":"a.png"}]'
    part = pb.StepRange(first_step=2, last_step=4)
    reply = await read(world, ["e/p/r1"], ["x"], range=part)
    assert [one.value.step for one in reply.series[0].values] == [2, 3, 4]
    reply = await read(world, ["e/p/r1"], ["x"], range=pb.StepRange(first_step=2, last_step=1))
    assert not reply.series


async def test_a_reply_stays_within_its_size(world: World) -> None:
    """Steps come in order up to 8 MiB; what is left out is told, and a single value always comes."""
    run = await world.add_run("r")
    large = '[{"caption":"' + "x" * (MIB - 20) + '"}]'
    values = [media(name, step, items_json=large) for name in ("a", "b") for step in range(5)]
    await log(world, run, *values)
    reply = await read(world, ["e/p/r"], ["a", "b"])
    assert reply.is_cut
    assert [(s.name, len(s.values), s.is_sampled) for s in reply.series] == [
        ("a", 5, False),
        ("b", 2, True),
    ]
    assert reply.ByteSize() < 8 * MIB + 4096
    key = (run.run_key, "a")
    assert fit({key: MediaSteps((1, 2), (10 * MIB, 1), 2)}) == ({key: [1]}, True)


async def test_histories_are_followed(world: World) -> None:
    """A rewind's superseded values are left out unless all attempts are asked for; a fork's come from the parent's files."""
    parent = await world.add_run("parent")
    await log(world, parent, *(media("x", step) for step in range(4)))
    fork = await world.add_run("fork")
    await log(world, fork, media("x", 2), media("x", 9))
    await log(world, fork, media("x", 3), writer=2)
    parts = (
        HistoryPart(fork.run_key, cuts=(Cut(1, 2),)),
        HistoryPart(parent.run_key, last_step=1),
    )
    await world.index.publish([dataclasses.replace(fork, history_parts=parts, version=2)])
    reply = await read(world, ["e/p/fork"], ["x"])
    assert [
        (one.value.step, one.writer, one.file_run_path) for one in reply.series[0].values
    ] == [
        (0, 0, "e/p/parent"),
        (1, 0, "e/p/parent"),
        (2, 1, "e/p/fork"),
        (3, 2, "e/p/fork"),
    ]  # fmt: skip
    stats = (await listed(world, "e/p/fork")).media[0]
    assert (stats.first_step, stats.last_step, stats.step_count) == (0, 3, 4)
    everything = await read(world, ["e/p/fork"], ["x"], attempts=pb.ATTEMPT_SELECTION_ALL)
    assert [one.value.step for one in everything.series[0].values] == [2, 3, 9]
    gone = dataclasses.replace(parent, is_deleted=True, version=2)
    await world.index.publish([gone])
    reply = await read(world, ["e/p/fork"], ["x"])
    assert [one.file_run_path for one in reply.series[0].values][:3] == ["", "", "e/p/fork"]


async def test_a_resumed_run_goes_on_behind_its_media(world: World) -> None:
    """The receipt's last step is that of metrics and media together."""
    run = await world.add_run("r")
    await log(world, run, media("x", 7))
    request = pb.GetReceiptRequest(run_path="e/p/r")
    assert (await world.rpc.GetReceipt(request, None)).last_step == 7
    await world.log(run, {"loss": [(9, 0.5)]}, first_sequence=2)
    assert (await world.rpc.GetReceipt(request, None)).last_step == 9


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"run_paths": [], "names": ["x"]}, "FIELD_INVALID"),
        ({"run_paths": ["e/p/r"], "names": []}, "FIELD_INVALID"),
        ({"run_paths": ["e/p/r"], "names": ["x" * 513]}, "FIELD_INVALID"),
        ({"run_paths": ["e/p/r"], "names": [f"n{n}" for n in range(101)]}, "QUERY_TOO_LARGE"),
        ({"run_paths": [f"e/p/r{n}" for n in range(101)], "names": ["x"]}, "QUERY_TOO_LARGE"),
        ({"run_paths": ["e/p/r", "e/p/s"], "names": ["x"], "writers": [1]}, "FIELD_INVALID"),
        ({"run_paths": ["e/p/none"], "names": ["x"]}, "RUN_NOT_FOUND"),
        ({"run_paths": ["e/p"], "names": ["x"]}, "FIELD_INVALID"),
    ],
)
async def test_what_cannot_be_asked_is_named(
    world: World, fields: dict[str, object], reason: str
) -> None:
    """Limits are those of the contract, and errors say which field."""
    await world.add_run("r")
    with pytest.raises(DomainError) as caught:
        await world.rpc.QueryMedia(pb.QueryMediaRequest(**fields), None)  # type: ignore[arg-type]  # fields of the message
    assert caught.value.reason == reason
    with pytest.raises(DomainError) as caught:
        await listed(world, "e/p/r", kinds=[8])
    assert caught.value.reason == "FIELD_INVALID"
