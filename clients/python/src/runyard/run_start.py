"""`init()`: from arguments to a run that logs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runyard import (
    extended_json,
    last_runs,
    naming,
    not_offered,
    run_console,
    run_registry,
    spawned_child,
)
from runyard import journal_format as form
from runyard.active_run import Run, RunParts
from runyard.agent_link import AgentLink
from runyard.errors import CLASS_BY_REASON, FailedPrecondition, InvalidArgument, UsageError
from runyard.exit_hooks import FINISH_CALLED, End
from runyard.host import describe_host
from runyard.journal import JournalWriter, NullJournal
from runyard.journal_room import JournalRoom
from runyard.offline_link import start_sampling
from runyard.origin_link import OriginLink
from runyard.run_config import config_fields
from runyard.run_end import shown_path
from runyard.run_folder import REFUSED, UNREACHABLE, RunAnswer, RunFolder, fallback_root
from runyard.run_plan import RunPlan, plan_run
from runyard.settings import FIELDS, ResolvedSettings, Settings, launcher_environment, resolve
from runyard.terminal import Terminal, is_notebook
from runyard.version import VERSION

POLL_INTERVAL_S = 0.003
CONFIG_BYTES_MAX = 4 << 20
"""Largest config, as JSON; the server takes no larger one."""


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: str | Path | None = None,
    id: str | None = None,
    name: str | None = None,
    *,
    notes: str | None = None,
    tags: Sequence[str] | str | None = None,
    config: Any = None,
    config_exclude_keys: Sequence[str] | None = None,
    config_include_keys: Sequence[str] | None = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    reinit: bool | str | None = None,
    resume: bool | str | None = None,
    resume_from: str | None = None,
    fork_from: str | None = None,
    writer: str | None = None,
    save_code: bool | None = None,
    sync_tensorboard: bool | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    **others: Any,
) -> Run:
    """Starts a run and makes it the current one. Arguments are named and meant as in wandb.

    `resume_from="RUN?_step=N"` goes back in a run: what it logged after step N is superseded. `fork_from="RUN?_step=N"` starts a
    new run whose history is that run's up to step N, with its config beneath the one given. `writer` labels this process
    where several write one run; launchers of distributed jobs give it (rank17). `sync_tensorboard` copies what it writes for TensorBoard.

    Returns within a second where a server answers. Where none does, it says so once and the run goes on: everything
    is kept in the run's folder and sent when the server answers. Raises InvalidArgument for arguments that cannot be,
    and the server's error where it refuses the run (resume="must" for a run that does not exist, a deleted id).
    """
    given = _given_settings(settings)
    arguments = {
        "entity": entity,
        "project": project,
        "dir": dir,
        "run_id": id,
        "name": name,
        "notes": notes,
        "tags": tags,
        "group": group,
        "job_type": job_type,
        "mode": mode,
        "resume": resume,
        "writer_label": writer,
        "save_code": save_code,
    }
    resolved = resolve(arguments, given)
    if id is not None:
        naming.check_run_id(id)  # an empty one too: it was given
    _check(resolved)
    terminal = Terminal(is_silent=resolved.silent, is_quiet=resolved.quiet)
    plan = plan_run(
        _off_in_spawned_child(resolved, terminal),
        resume_from=resume_from,
        fork_from=fork_from,
        environ=launcher_environment(),
    )
    not_offered.check_init_arguments(others, terminal.note)
    active = _settle_active(reinit, terminal)
    if active is None:
        values = _picked_config(config, config_include_keys, config_exclude_keys)
        _tell_notes(terminal, given, plan)
        active = _start(plan, values, terminal)
    return _synced(active) if sync_tensorboard or others.get("tensorboard") else active


def _synced(run: Run) -> Run:
    """Returns the run, which takes what is written for TensorBoard from now on."""
    from runyard.integration import tensorboard

    tensorboard.sync(run)
    return run


def _off_in_spawned_child(settings: ResolvedSettings, terminal: Terminal) -> ResolvedSettings:
    """Returns the settings; disabled where multiprocessing imports the script in a child."""
    if not spawned_child.is_importing_script():
        return settings
    terminal.note("spawned_child", spawned_child.NOTE)
    return dataclasses.replace(settings, mode="disabled")


def _tell_notes(terminal: Terminal, given: Settings, plan: RunPlan) -> None:
    for setting in given.ignored:
        terminal.note(f"setting.{setting}", f"the setting {setting!r} has no effect in runyard")
    for topic, sentence in plan.notes:
        terminal.note(topic, sentence)


def _start(plan: RunPlan, config: Mapping[str, Any], terminal: Terminal) -> Run:
    settings, run_id = plan.settings, plan.run_id
    plain_config = extended_json.plain(config, note=terminal.note)
    _check_size(plain_config)
    start_time_unix_ns = time.time_ns()
    root, folder = None, None
    if settings.mode != "disabled":
        root, folder = _make_folder(settings, run_id, start_time_unix_ns, terminal)
    if folder is not None:
        terminal.log_to(folder.write_log)
    room = None
    if folder is not None:
        room = JournalRoom(folder.path.parent, settings.journal_bytes_max)
    journal = _open_journal(folder, room, settings, terminal)
    link = None
    if folder is not None and root is not None and settings.mode == "online":
        link = AgentLink(root, settings)
    parts = RunParts(
        run_id=run_id,
        settings=settings,
        journal=journal,
        terminal=terminal,
        folder=folder,
        link=link,
        start_time_unix_ns=start_time_unix_ns,
        config=config,
    )
    run = Run(parts)
    start = _start_content(parts, plain_config) | plan.start_fields
    if settings.store_wait_s != FIELDS["store_wait_s"].default:
        start["store_wait_s"] = settings.store_wait_s
    if room is not None and settings.journal_keep_days:
        start.update(keep_days=settings.journal_keep_days, keep_bytes_max=room.bytes_max // 2)
    journal.append(form.START, extended_json.dumps(start).encode())
    if folder is not None and link is not None:
        try:
            _connect(run, parts, folder, link)
            _continue_steps(run, plan, folder, terminal)
        except BaseException:  # Ctrl-C, or the server's refusal: nobody will hold this run
            run.end_without_waiting(End(1, FINISH_CALLED, "init() was broken off"))
            folder.release()
            raise
    else:
        _continue_steps(run, plan, folder, terminal)
    if root is not None and folder is not None and settings.mode == "offline":
        _sample_offline(root, settings, terminal)
    if folder is not None and plan.is_origin_told_here:
        _find_origin(run, OriginLink(folder, settings), terminal)
    if root is not None:
        last_runs.note_started(root, settings, run_id=run_id)
    is_first = run_registry.current() is None
    run_registry.activate(run)
    _print_start(run, terminal, folder)
    if folder is not None and is_first:  # of several open runs the first one keeps what is printed
        run.keep_console(run_console.begin(folder, settings, terminal))
    journal.on_tick = run.tick
    return run


def _connect(run: Run, parts: RunParts, folder: RunFolder, link: AgentLink) -> None:
    """Starts the agent and takes the server's answer; raises the error of one that refuses the run."""
    problem = link.start()
    if problem:
        parts.terminal.warn(
            "agent", f"the agent does not start ({problem}): nothing is sent for now"
        )
    answer = _await_answer(folder, link, parts.settings, parts.terminal)
    if answer is not None and answer.error_reason:
        kind = CLASS_BY_REASON.get(answer.error_reason, FailedPrecondition)
        raise kind(answer.error_message, reason=answer.error_reason)
    if answer is not None:
        run.take_answer(answer)


def _sample_offline(root: Path, settings: ResolvedSettings, terminal: Terminal) -> None:
    """Has the machine sampled; online the agent does it."""
    problem = start_sampling(root, settings)
    if problem:
        terminal.warn("sampling", f"system metrics of this run are not kept: {problem}")


def _find_origin(run: Run, origin: OriginLink, terminal: Terminal) -> None:
    """Starts to find out where the run came from; without that, training goes on all the same."""
    problem = origin.start()
    if problem:
        terminal.warn(
            "origin", f"git state, packages and source of this run are not kept: {problem}"
        )
    run.keep_origin(origin)


def _continue_steps(run: Run, plan: RunPlan, folder: RunFolder | None, terminal: Terminal) -> None:
    """Lets the run count on from what is known here, where no server has said how far it has come."""
    if run.disabled or run.is_answered:
        return
    step = plan.next_step_here(None if folder is None else folder.path)
    if step is not None:
        run.continue_at(step)
    elif plan.settings.run_id and plan.settings.resume != "never":
        terminal.note(
            "steps",
            f"nothing here tells how far run {plan.run_id} has come: if it exists, its steps count from 0 again. They are kept "
            "beside the earlier ones; give log(step=…) to say where they belong",
        )


def _given_settings(settings: Settings | Mapping[str, Any] | None) -> Settings:
    if isinstance(settings, Settings):
        return settings
    if settings is None:
        return Settings()
    if isinstance(settings, Mapping):
        return Settings(**{str(key): value for key, value in settings.items()})
    raise InvalidArgument(
        f"init(settings=…) is of type {type(settings).__name__}; it must be runyard.Settings or a dict"
    )


def _check(settings: ResolvedSettings) -> None:
    if settings.run_id:
        naming.check_run_id(settings.run_id)
    if settings.project:
        naming.check_project_name(settings.project)
    if settings.entity:
        naming.check_entity_name(settings.entity)
    for what, text in (
        ("name", settings.name),
        ("group", settings.group),
        ("job_type", settings.job_type),
    ):
        naming.check_label(text or "", what)
    naming.check_notes(settings.notes or "")
    naming.check_tags(tuple(settings.tags or ()))
    if settings.resume == "must" and not settings.run_id:
        raise UsageError(
            'init(resume="must") needs the id of the run to resume: id=… or RUNYARD_RUN_ID'
        )


def _check_size(config: Any) -> None:
    size_bytes = len(extended_json.dumps(config).encode())
    if size_bytes > CONFIG_BYTES_MAX:
        raise InvalidArgument(
            f"config has {size_bytes} bytes as JSON, at most {CONFIG_BYTES_MAX} are allowed; keep large values in a "
            f"file of the run (run.save)",
            reason="FIELD_TOO_LARGE",
        )


def _settle_active(reinit: bool | str | None, terminal: Terminal) -> Run | None:
    """Returns the active run if init() shall give it back; finishes it if it shall make room."""
    active = run_registry.current()
    if active is None or reinit == "create_new":
        return None
    if reinit in (None, "default"):
        is_finished_first = is_notebook()
    elif reinit in (True, "finish_previous"):
        is_finished_first = True
    elif reinit in (False, "return_previous"):
        is_finished_first = False
    else:
        raise InvalidArgument(
            f"init(reinit={reinit!r}): it is one of True, False, 'default', 'return_previous', 'finish_previous', "
            f"'create_new'"
        )
    if is_finished_first:
        run_registry.finish_all()
        return None
    terminal.note(
        "reinit",
        f"run {active.id} is active: init() returns it. finish() it first, or give reinit='finish_previous'",
    )
    return active


def _picked_config(
    config: Any, include: Sequence[str] | None, exclude: Sequence[str] | None
) -> dict[str, Any]:
    if include is not None and exclude is not None:
        raise UsageError("init(): give config_include_keys or config_exclude_keys, not both")
    values = config_fields(config)
    if include is not None:
        return {key: value for key, value in values.items() if key in include}
    return {key: value for key, value in values.items() if key not in (exclude or ())}


def _make_folder(
    settings: ResolvedSettings, run_id: str, start_time_unix_ns: int, terminal: Terminal
) -> tuple[Path | None, RunFolder | None]:
    """Returns (root, folder) of the run: where wanted, else in the system's folder for such, else nowhere."""
    try:
        wanted = Path(settings.dir).expanduser().absolute()
        return wanted, RunFolder.create(wanted, run_id, start_time_unix_ns)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of nobody
        why = getattr(error, "strerror", None) or str(error)
        try:
            other = fallback_root()
            folder = RunFolder.create(other, run_id, start_time_unix_ns)
        except OSError as other_error:
            terminal.warn(
                "folder",
                f"neither {settings.dir} ({why}) nor the folder for temporary files ({other_error}) can be "
                f"written: training goes on, and nothing of this run is kept. Set RUNYARD_DIR to a folder with room",
            )
            return None, None
        terminal.warn("folder", f"{settings.dir} cannot be written ({why}): using {other}")
        return other, folder


def _open_journal(
    folder: RunFolder | None,
    room: JournalRoom | None,
    settings: ResolvedSettings,
    terminal: Terminal,
) -> JournalWriter:
    if folder is None:
        return NullJournal(is_loss=settings.mode != "disabled")
    return JournalWriter(
        folder.journal_path,
        on_trouble=lambda message: terminal.warn("disk", message),
        room=room,
    )


def _start_content(parts: RunParts, config: Mapping[str, Any]) -> dict[str, Any]:
    settings = parts.settings
    fields = {
        "format": 1,
        "request_id": naming.draw_request_id(),
        "mode": settings.mode,
        "base_url": settings.base_url,
        "entity": settings.entity,
        "project": settings.project,
        "run_id": parts.run_id,
        "is_id_given": bool(settings.run_id),
        "display_name": settings.name,
        "resume": settings.resume,
        "config": config,
        "notes": settings.notes,
        "tags": list(settings.tags),
        "group": settings.group,
        "job_type": settings.job_type,
        "writer_label": settings.writer_label,
        "start_time_unix_ns": parts.start_time_unix_ns,
        "host": extended_json.plain(describe_host(settings, launcher_environment())),
        "system": _system_wishes(settings),
    }
    return {key: value for key, value in fields.items() if value not in ("", [], {})}


def _system_wishes(settings: ResolvedSettings) -> dict[str, Any]:
    """Returns what the agent shall sample, where that is not what it does anyway."""
    wishes: dict[str, Any] = {}
    if settings.system_interval_s != ResolvedSettings.system_interval_s:
        wishes["interval_s"] = settings.system_interval_s
    if settings.open_metrics_endpoints:
        wishes["open_metrics_endpoints"] = dict(settings.open_metrics_endpoints)
        wishes["open_metrics_filters"] = extended_json.plain(settings.open_metrics_filters)
    return wishes


def _await_answer(
    folder: RunFolder, link: AgentLink, settings: ResolvedSettings, terminal: Terminal
) -> RunAnswer | None:
    """Returns the server's answer; None, after saying so, if there is none for now."""
    deadline_s = time.monotonic() + settings.init_timeout_s
    reason = (
        f"the server at {settings.base_url} has not answered within {settings.init_timeout_s:g} s"
    )
    while time.monotonic() < deadline_s:
        answer = folder.read_answer()
        if answer is not None:
            return answer
        mark = folder.read_mark()
        if mark is not None and mark.server == UNREACHABLE:
            reason = mark.message or f"the server at {settings.base_url} does not answer"
            break
        if mark is not None and mark.server == REFUSED:
            return RunAnswer("", "", "", "", False, 0, "REFUSED", mark.message)
        failure = link.failure()
        if failure:
            reason = failure
            break
        time.sleep(POLL_INTERVAL_S)
    terminal.warn(
        "unreachable",
        f"{reason}\nThe run goes on: all is kept in {shown_path(folder.path)} and sent when the server answers",
    )
    return None


def _print_start(run: Run, terminal: Terminal, folder: RunFolder | None) -> None:
    if run.disabled or folder is None:
        return
    if not terminal.is_quiet:
        terminal.line(f"Tracking run with runyard version {VERSION}")
    terminal.line(f"Run data is saved locally in {shown_path(folder.path)}")
    if run.url is None:
        terminal.line("This run is offline: `runyard sync` sends it")
        return
    verb = "Resuming" if run.resumed else "Syncing"
    terminal.line(f"{verb} run {terminal.strong(run.name)}")
    if not terminal.is_quiet and run.project_url is not None:
        terminal.line(f"⭐️ View project at {terminal.link(run.project_url)}")
    terminal.line(f"🚀 View run at {terminal.link(run.url)}")
