"""The suite of RunIndex: each case says which sentence of storage/ports/runs.py it checks."""

from __future__ import annotations

import dataclasses

import pytest

from runyard_server.domain.run import (
    Cut,
    HistoryPart,
    Host,
    MetricDefinition,
    RunDocument,
    RunKey,
    RunState,
)
from runyard_server.storage.ports.runs import IndexedRun, RunFilter, RunIndex
from tests.stores import new_run_key

CONFIGS = (
    "{}",
    '{"lr":0.1,"nested":{"a":{"b":[1,2,{"c":null}]}},"text":"é\\u0000\\n","flag":true}',
    '{"most":18446744073709551615,"least":-9223372036854775808,"tiny":5e-324}',
    '{"nan":{"$float":"NaN"},"inf":{"$float":"-Infinity"},"list":[{"$float":"Infinity"}]}',
    '{"a.b":1,"a":{"b":2}}',
    '{"a":1,"a.b":{"c":2},"a.b.c":3}',
    '{"":1,"x":{"":{"":2}}," ":3,"`quoted`":4,"new\\nline":5}',
    '{"float":1e300,"big_list":[1,2.5,"x",[true,null]]}',
)


def document(project: str, run_id: str = "r1", **changes: object) -> RunDocument:
    """Returns a document of entity `e`."""
    plain = RunDocument(
        run_key=new_run_key(),
        entity="e",
        project=project,
        run_id=run_id,
        display_name=f"Brisk-Ängström-{run_id}",
        state=RunState.RUNNING,
        create_time_unix_ns=1,
        update_time_unix_ns=2,
        version=1,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # names are the fields'


def keys_of(documents: list[RunDocument]) -> list[RunKey]:
    return [one.run_key for one in documents]


class RunIndexSuite:
    """What every index of runs promises. `project` is new for each case."""

    async def test_a_document_comes_back_whole(self, index: RunIndex, project: str) -> None:
        """Documents in, the same documents out, every field of them."""
        full = document(
            project,
            run_id="tête à-tête & co",
            config_json=CONFIGS[1],
            notes="two\nlines \U0001f680",
            tags=("b", "a", "ü"),
            group="g",
            job_type="train",
            start_time_unix_ns=1_760_000_000_123_456_789,
            end_time_unix_ns=1_760_000_001_000_000_001,
            heartbeat_time_unix_ns=3,
            exit_code=-9,
            host=Host(hostname="h", pid=2**40, cpu_count=8, extra_json='{"gpu": ["A"]}'),
            metric_definitions=(
                MetricDefinition("val/*", step_metric="epoch", summaries=("min", "last")),
                MetricDefinition("acc", goal="maximize", is_hidden=True),
            ),
            attempt_count=3,
            writer_count=1024,
            version=2**63,
        )
        bare = document(project, "bare", exit_code=None)
        await index.publish([full, bare])
        assert await index.read_runs([full.run_key, bare.run_key]) == {
            full.run_key: full,
            bare.run_key: bare,
        }
        assert await index.query_runs(RunFilter("e", project), before_key=None, limit=9) == (
            [bare, full],
            2,
        )

    @pytest.mark.parametrize("config_json", CONFIGS)
    async def test_any_config_comes_back_to_the_letter(
        self, index: RunIndex, project: str, config_json: str
    ) -> None:
        """A config that the store cannot index is kept all the same, integers exact."""
        one = document(project, config_json=config_json)
        await index.publish([one])
        assert (await index.read_runs([one.run_key]))[one.run_key].config_json == config_json

    async def test_the_highest_version_wins(self, index: RunIndex, project: str) -> None:
        """Of one run the highest version MUST win, in whatever order; a repeat changes nothing."""
        first = document(project, version=1)
        third = dataclasses.replace(first, version=3, display_name="third")
        second = dataclasses.replace(first, version=2, display_name="second")
        await index.publish([third])
        await index.publish([first, second])
        await index.publish([third, second])
        assert await index.read_runs([first.run_key]) == {first.run_key: third}
        assert await index.query_runs(RunFilter("e", project), before_key=None, limit=9) == (
            [third],
            1,
        )

    async def test_a_filter_sees_the_latest_version_only(
        self, index: RunIndex, project: str
    ) -> None:
        """A run that was running and is finished is not found as running."""
        old = document(project, display_name="before")
        new = dataclasses.replace(old, version=2, state=RunState.FINISHED, display_name="after")
        await index.publish([old])
        await index.publish([new])
        running = RunFilter("e", project, states=(RunState.RUNNING,))
        assert await index.query_runs(running, before_key=None, limit=9) == ([], 0)
        named = RunFilter("e", project, name_contains="before")
        assert await index.query_runs(named, before_key=None, limit=9) == ([], 0)

    async def test_pages_go_from_the_newest_to_the_oldest(
        self, index: RunIndex, project: str
    ) -> None:
        """run_key descending, below `before_key`; the count is of the filter alone."""
        documents = [document(project, f"r{number}") for number in range(7)]
        await index.publish(documents)
        await index.publish([document(project + "-other")])
        seen: list[RunKey] = []
        before = None
        for expected in (3, 3, 1, 0):
            page, total = await index.query_runs(
                RunFilter("e", project), before_key=before, limit=3
            )
            assert (len(page), total) == (expected, 7)
            seen += keys_of(page)
            before = seen[-1]
        assert seen == keys_of(documents)[::-1]

    async def test_names_and_ids_are_searched_whatever_the_case(
        self, index: RunIndex, project: str
    ) -> None:
        """A name matches if it, or the run's id, contains the text; `%` and `_` stand for themselves."""
        one = document(project, "abc_1", display_name="Grüne-Wiese-1")
        two = document(project, "xyz", display_name="100% dune")
        await index.publish([one, two])
        cases = {"GRÜNE": [one], "ABC_": [one], "0%": [two], "%": [two], "_": [one], "'": []}
        for text, expected in cases.items():
            where = RunFilter("e", project, name_contains=text)
            page, total = await index.query_runs(where, before_key=None, limit=9)
            assert (page, total) == (expected, len(expected)), text

    async def test_states_filter(self, index: RunIndex, project: str) -> None:
        """Runs in one of the states are found."""
        by_state = {state: document(project, state.value, state=state) for state in RunState}
        await index.publish(list(by_state.values()))
        wanted = (RunState.CRASHED, RunState.FAILED)
        where = RunFilter("e", project, states=wanted)
        page, total = await index.query_runs(where, before_key=None, limit=9)
        assert ({one.state for one in page}, total) == (set(wanted), 2)

    async def test_deleted_runs_are_left_out(self, index: RunIndex, project: str) -> None:
        """Deleted runs MUST be left out of pages and names; their document says that they are deleted."""
        one = document(project)
        gone = dataclasses.replace(one, version=2, is_deleted=True)
        await index.publish([one])
        assert await index.find_run_key("e", project, "r1") == one.run_key
        await index.publish([gone])
        assert await index.query_runs(RunFilter("e", project), before_key=None, limit=9) == ([], 0)
        assert await index.find_run_key("e", project, "r1") is None
        assert await index.read_runs([one.run_key]) == {one.run_key: gone}

    async def test_keys_are_found_by_name(self, index: RunIndex, project: str) -> None:
        """Returns the runs that were published, many at once, with where their history lies; others are left out."""
        parts = (HistoryPart(RunKey(7), cuts=(Cut(2, -3),)), HistoryPart(RunKey(8), 5, 1))
        one = dataclasses.replace(document(project, "r1"), history_parts=parts)
        two = document(project + "2", "r'2\\")
        await index.publish([one, two])
        names = [("e", project, "r1"), ("e", project + "2", "r'2\\"), ("e", project, "R1")]
        expected = {
            names[0]: IndexedRun(one.run_key, parts),
            names[1]: IndexedRun(two.run_key),
        }
        assert await index.find_runs(names) == expected
        assert await index.find_runs([]) == {}
        assert await index.find_run_key("f", project, "r1") is None

    async def test_unknown_keys_are_left_out(self, index: RunIndex, project: str) -> None:
        """Unknown ones are left out."""
        assert await index.read_runs([new_run_key()]) == {}
        assert await index.read_runs([]) == {}
