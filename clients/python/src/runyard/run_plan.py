"""Which run init() is about: its id, what happens if it exists, where it continues, and what this process is in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyard import last_runs, naming, ranks
from runyard.errors import UsageError
from runyard.ranks import Place
from runyard.run_branch import BranchPoint, read_branch_point
from runyard.settings import ResolvedSettings


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """What was decided before anything is written."""

    settings: ResolvedSettings
    """With run_id, resume and writer_label as they were decided."""
    run_id: str
    place: Place
    rewind_to_step: int | None = None
    fork: Mapping[str, Any] | None = None
    next_step: int | None = None
    """Where steps go on, whatever the run holds; None: after what was logged before, see `next_step_here`."""
    notes: tuple[tuple[str, str], ...] = ()
    """(topic, sentence) to tell the user."""

    def next_step_here(self, own_folder: Path | None = None) -> int | None:
        """Returns where steps go on as far as this disk tells; None: not known here.

        Reads journals of before, so it is for a run that no server has answered.
        """
        if (
            self.next_step is not None
            or not self.settings.run_id
            or self.settings.resume == "never"
        ):
            return self.next_step
        root = Path(self.settings.dir).expanduser()
        last_step = last_runs.last_local_step(
            root,
            self.run_id,
            but=own_folder,
            writer_label=self.settings.writer_label,
            launch=self.place.launch,
        )
        return None if last_step is None else last_step + 1

    @property
    def is_origin_told_here(self) -> bool:
        """Returns whether this process tells where the run came from: of the ranks that write one run, the first does."""
        return not self.place.rank or not self.settings.run_id

    @property
    def start_fields(self) -> dict[str, Any]:
        """Returns what the START record says of it."""
        fields: dict[str, Any] = {"identity": self.place.as_identity(), "fork": self.fork}
        if self.rewind_to_step is not None:
            fields["rewind_to_step"] = self.rewind_to_step
        return {name: value for name, value in fields.items() if value not in (None, {})}


def plan_run(
    settings: ResolvedSettings,
    *,
    resume_from: str | None,
    fork_from: str | None,
    environ: Mapping[str, str],
) -> RunPlan:
    """Returns the plan; raises InvalidArgument and UsageError for wishes that contradict each other."""
    if resume_from is not None and fork_from is not None:
        raise UsageError("init(): give resume_from or fork_from, not both")
    place = ranks.find_place(environ)
    settings = dataclasses.replace(settings, writer_label=settings.writer_label or place.label)
    root = Path(settings.dir).expanduser()
    if resume_from is not None:
        return _rewound(settings, place, read_branch_point(resume_from, argument="resume_from"))
    if fork_from is not None:
        return _forked(settings, place, read_branch_point(fork_from, argument="fork_from"))
    notes: list[tuple[str, str]] = []
    if settings.shared and not settings.run_id:
        settings = _shared(settings, place)
    elif place.world_size > 1 and not settings.run_id:
        notes.append(
            (
                "ranks",
                f"this is rank {place.rank} of {place.world_size} ({place.source}): each rank is a run of its own. Give all the "
                "same id=…, or set RUNYARD_SHARED=true, to have them write one run",
            )
        )
    if settings.resume == "auto":
        settings = _automatic(settings, root)
    run_id = settings.run_id or naming.draw_run_id()
    return RunPlan(settings, run_id, place, notes=tuple(notes))


def _rewound(settings: ResolvedSettings, place: Place, branch: BranchPoint) -> RunPlan:
    if settings.run_id and settings.run_id != branch.run_id:
        raise UsageError(
            f"init(id={settings.run_id!r}, resume_from={branch.run!r}): these are two runs; resume_from goes back in the run "
            "itself, fork_from starts another one from it"
        )
    if settings.resume == "never":
        raise UsageError('init(resume="never", resume_from=…): resume_from continues a run')
    settings = _in_place_of(settings, branch)
    settings = dataclasses.replace(settings, run_id=branch.run_id, resume="must")
    return RunPlan(
        settings,
        branch.run_id,
        place,
        rewind_to_step=branch.step,
        next_step=branch.step + 1,
    )


def _in_place_of(settings: ResolvedSettings, branch: BranchPoint) -> ResolvedSettings:
    """Returns the settings with the owner and project that the branch point names; raises UsageError if others were given."""
    if "/" not in branch.run:
        return settings
    entity, project, _ = branch.run.split("/")
    for what, given, named in (
        ("entity", settings.entity, entity),
        ("project", settings.project, project),
    ):
        if given and given != named:
            raise UsageError(
                f"init({what}={given!r}, resume_from={branch.run!r}): the run to go back in is in {what} {named!r}"
            )
    return dataclasses.replace(settings, entity=entity, project=project)


def _forked(settings: ResolvedSettings, place: Place, branch: BranchPoint) -> RunPlan:
    if settings.resume == "must":
        raise UsageError('init(resume="must", fork_from=…): fork_from starts a new run')
    path = branch.path(settings.entity, settings.project)
    if settings.shared and not settings.run_id:
        settings = _shared(settings, place)
    run_id = settings.run_id or naming.draw_run_id()
    if path == BranchPoint(run_id, 0).path(settings.entity, settings.project):
        raise UsageError(
            f"init(id={run_id!r}, fork_from={branch.run!r}): a run cannot be a fork of itself; resume_from goes back in it"
        )
    resume = "" if settings.resume == "auto" else settings.resume
    return RunPlan(
        dataclasses.replace(settings, resume=resume),
        run_id,
        place,
        fork={"run_path": path, "step": branch.step},
        next_step=branch.step + 1,
    )


def _shared(settings: ResolvedSettings, place: Place) -> ResolvedSettings:
    run_id = ranks.shared_run_id(place)
    if not run_id:
        launcher = place.source or "no launcher"
        raise UsageError(
            f"RUNYARD_SHARED is set, but {launcher} names no job that tells its processes from those of others; give all "
            "processes the same id=…"
        )
    return dataclasses.replace(settings, run_id=run_id)


def _automatic(settings: ResolvedSettings, root: Path) -> ResolvedSettings:
    """Returns the settings for resume="auto": the id given, else that of the last run here if it did not end well."""
    run_id = settings.run_id or last_runs.run_to_resume(root, settings)
    return dataclasses.replace(settings, run_id=run_id, resume="allow" if run_id else "")
