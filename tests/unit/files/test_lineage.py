"""Lineage over the memory stores: links both ways, step by step, within a bound."""

from __future__ import annotations

import pytest

from runyard_server.domain.artifacts import ArtifactName, LinkKind, VersionName
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.run import RunKey
from runyard_server.files.lineage import LINK_COUNT_MAX, Lineage
from tests.unit.files.artifact_desk import ArtifactDesk
from tests.unit.files.desk import PATH

OTHER = "local/p/y"
Links = set[tuple[str, str, str]]


def links_of(lineage: Lineage) -> Links:
    paths = {version.version_id: version.path for version in lineage.versions}
    return {(one.run_path, one.kind.value, paths[one.version_id]) for one in lineage.links}


async def test_links_are_followed_as_far_as_asked() -> None:
    """X logs data, y uses it and logs net, x uses net."""
    desk = ArtifactDesk()
    await desk.log("data", {"a": b"1"}, run=PATH)
    used = await desk.service.artifacts.use(OTHER, "local/p/data:v0")
    assert used == await desk.service.artifacts.use(OTHER, "local/p/data")
    await desk.log("net", {"a": b"2"}, run=OTHER)
    await desk.service.artifacts.use(PATH, "local/p/net")
    trace = desk.service.artifacts.get_lineage
    near: Links = {
        (PATH, "logged", "local/p/data:v0"),
        (PATH, "used", "local/p/net:v0"),
    }
    far: Links = {
        (OTHER, "used", "local/p/data:v0"),
        (OTHER, "logged", "local/p/net:v0"),
    }
    for depth in (0, 1):
        assert near == links_of(await trace(PATH, "", depth=depth))
    for depth in (2, 20):
        assert near | far == links_of(await trace(PATH, "", depth=depth))
    around = await trace("", "local/p/data", depth=1)
    assert links_of(around) == {
        (PATH, "logged", "local/p/data:v0"),
        (OTHER, "used", "local/p/data:v0"),
    }
    assert not around.is_cut
    alone = await desk.log("alone", {"a": b"3"})
    await desk.service.artifacts.delete([alone.version.path], "", with_aliases=True)
    assert near == links_of(await trace(PATH, "", depth=1))


async def test_the_graph_is_bounded() -> None:
    """The graph holds 1,000 links at most, the nearest ones, and says that it is cut."""
    desk = ArtifactDesk()
    await desk.log("data", {"a": b"1"})
    name = VersionName(ArtifactName("local/p", "data"))
    for number in range(LINK_COUNT_MAX):
        await desk.artifacts.link_run(
            name,
            run_key=RunKey(100 + number),
            run_path=f"local/p/r{number}",
            kind=LinkKind.USED,
            time_unix_ns=number,
        )
    lineage = await desk.service.artifacts.get_lineage("", "local/p/data", depth=3)
    assert (len(lineage.links), lineage.is_cut) == (LINK_COUNT_MAX, True)
    from_run = await desk.service.artifacts.get_lineage(PATH, "", depth=1)
    assert (len(from_run.links), from_run.is_cut) == (1, False)


async def test_one_start_is_named() -> None:
    """A run or a version, not both and not none; the depth has a limit."""
    artifacts = ArtifactDesk().service.artifacts
    for run_path, artifact_path, depth in (
        ("", "", 1),
        (PATH, "local/p/data", 1),
        (PATH, "", 21),
    ):
        with pytest.raises(InvalidArgument):
            await artifacts.get_lineage(run_path, artifact_path, depth=depth)


async def test_a_purged_run_leaves_its_versions() -> None:
    """Versions of a purged run stay, and no longer know who logged them; its links and drafts are gone."""
    desk = ArtifactDesk()
    await desk.log("data", {"a": b"1"}, run=OTHER)
    await desk.service.artifacts.use(OTHER, "local/p/data")
    await desk.artifacts.purge_run(RunKey(6))
    assert (await desk.service.artifacts.get("local/p/data")).logged_by == ""
    lineage = await desk.service.artifacts.get_lineage("", "local/p/data", depth=5)
    assert (len(lineage.versions), lineage.links) == (1, [])
    assert await desk.load_artifact("local/p/data") == {"a": b"1"}
