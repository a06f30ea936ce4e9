"""Reads of what runs log besides numbers: checks what is asked, chooses steps, and keeps replies within their size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runyard_server.domain.media import MediaKind
from runyard_server.domain.page_tokens import make_page_token, read_page_token
from runyard_server.domain.run import RunKey
from runyard_server.query import planner
from runyard_server.query.planner import EVERYTHING, Selection, Steps
from runyard_server.query.runs import RunFinder
from runyard_server.storage.ports.media import (
    MediaKey,
    MediaReader,
    MediaStats,
    MediaSteps,
    StoredMedia,
)
from runyard_server.storage.ports.runs import RunIndex

STEPS_DEFAULT, STEPS_MAX = 100, 1_000
RUN_PATHS_MAX, NAMES_MAX = 100, 100
REPLY_BYTES_MAX = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MediaPage:
    """A page of names."""

    media: tuple[MediaStats, ...]
    next_page_token: str
    total_count: int


@dataclass(frozen=True, slots=True)
class MediaAsk:
    """Which values are wanted; see query.v1.QueryMediaRequest."""

    run_paths: tuple[str, ...]
    names: tuple[str, ...]
    steps: Steps = field(default_factory=Steps)
    step_count_max: int = 0
    selection: Selection = EVERYTHING


@dataclass(frozen=True, slots=True)
class FoundMedia:
    """One value, and the path of the run whose files its items name; "" if that run is gone."""

    stored: StoredMedia
    file_run_path: str


@dataclass(frozen=True, slots=True)
class MediaSeries:
    """Values of one name of one run."""

    run_path: str
    name: str
    values: tuple[FoundMedia, ...]
    step_count: int
    is_sampled: bool


@dataclass(frozen=True, slots=True)
class MediaReply:
    """Values, by run and name as asked."""

    series: tuple[MediaSeries, ...]
    is_cut: bool


class MediaQueries:
    """Answers ListMedia and QueryMedia."""

    def __init__(self, reader: MediaReader, finder: RunFinder, *, index: RunIndex) -> None:
        self._reader = reader
        self._finder = finder
        self._index = index

    async def list_media(
        self,
        run_path: str,
        *,
        name_contains: str = "",
        kinds: Sequence[int] = (),
        page_size: int = 0,
        page_token: str = "",
    ) -> MediaPage:
        """Returns a page of a run's names, in byte order."""
        planner.check_text("name_contains", name_contains)
        wanted = tuple(sorted(set(kinds)))
        unknown = [kind for kind in wanted if kind not in set(MediaKind)]
        if unknown:
            raise planner.invalid("kinds", unknown[0], "there is no such kind of media")
        query = f"media {run_path} {name_contains} {wanted}"
        position = read_page_token(query, page_token, str)
        limit = planner.clamp(
            page_size, default=planner.METRICS_PAGE_DEFAULT, most=planner.METRICS_PAGE_MAX
        )
        run = await self._finder.find(run_path)
        stats = await self._reader.list_media(
            run.run_key, scopes=planner.scopes_of([run], EVERYTHING)
        )
        text = name_contains.lower()
        matching = [
            one for one in stats if text in one.name.lower() and (not wanted or one.kind in wanted)
        ]
        after = str(position[0]).encode() if position else b""
        page = [one for one in matching if one.name.encode() > after][: limit + 1]
        token = make_page_token(query, page[limit - 1].name) if len(page) > limit else ""
        return MediaPage(tuple(page[:limit]), token, len(matching))

    async def read_media(self, ask: MediaAsk) -> MediaReply:
        """Returns values of each name of each run that has some in the range."""
        paths = planner.check_names("run_paths", ask.run_paths, most=RUN_PATHS_MAX)
        names = planner.check_names("names", ask.names, most=NAMES_MAX)
        selection = planner.check_selection(ask.selection, run_count=len(paths))
        limit = planner.clamp(ask.step_count_max, default=STEPS_DEFAULT, most=STEPS_MAX)
        runs = await self._finder.find_all(paths)
        keys = {(run.run_key, name): (path, name) for path, run in runs.items() for name in names}
        if ask.steps.is_empty:
            return MediaReply((), is_cut=False)
        scopes = planner.scopes_of(runs.values(), selection)
        chosen = await self._reader.choose_steps(
            list(keys),
            first_step=ask.steps.first,
            last_step=ask.steps.last,
            step_count_max=limit,
            scopes=scopes,
        )
        fitting, is_cut = fit({key: chosen[key] for key in keys if key in chosen})
        values = await self._reader.read_values(fitting, scopes=scopes)
        paths_by_key = {run.run_key: path for path, run in runs.items()}
        found = await self._with_paths(values, paths_by_key)
        series = [
            MediaSeries(
                *keys[key],
                tuple(found[key]),
                chosen[key].step_count,
                is_sampled=len(steps) < chosen[key].step_count,
            )
            for key, steps in fitting.items()
            if key in found  # else purged a moment ago
        ]
        return MediaReply(tuple(series), is_cut)

    async def _with_paths(
        self, values: Mapping[MediaKey, Sequence[StoredMedia]], paths: Mapping[RunKey, str]
    ) -> dict[MediaKey, list[FoundMedia]]:
        """Returns the values with the paths of the runs that own their files."""
        owners = {one.run_key for some in values.values() for one in some}
        elsewhere = sorted(owners - paths.keys())
        documents = await self._index.read_runs(elsewhere) if elsewhere else {}
        known = dict(paths) | {
            key: document.path for key, document in documents.items() if not document.is_deleted
        }
        return {
            key: [FoundMedia(one, known.get(one.run_key, "")) for one in some]
            for key, some in values.items()
        }


def fit(
    chosen: Mapping[MediaKey, MediaSteps], *, bytes_max: int = REPLY_BYTES_MAX
) -> tuple[dict[MediaKey, list[int]], bool]:
    """Returns the steps that one reply can hold, in order, at least one; and whether any is left out."""
    fitting: dict[MediaKey, list[int]] = {}
    left = bytes_max
    for key, one in chosen.items():
        for step, size in zip(one.steps, one.sizes, strict=True):
            if size > left and fitting:
                return fitting, True
            left -= size
            fitting.setdefault(key, []).append(step)
    return fitting, False
