"""Settings of the SDK: an argument beats the environment, the environment beats a settings file.

The only module of the SDK that reads the environment. Settings files are INI files with a section [runyard]:
`<RUNYARD_DIR>/settings.ini` beats `~/.config/runyard/settings.ini`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyard.errors import InvalidArgument

DEFAULT_BASE_URL = "http://127.0.0.1:8080"
DEFAULT_ENTITY = "local"
DEFAULT_PROJECT = "uncategorized"
DEFAULT_FOLDER = "runyard"
JOURNAL_BYTES_LEAST = 1 << 20
MODES = ("online", "offline", "disabled")
PREEMPTIONS = ("auto", "sigterm", "off")
CONSOLES = ("auto", "redirect", "wrap", "off")
_CONSOLE_ALIASES = {"wrap_raw": "wrap", "wrap_emu": "wrap", "true": "auto", "false": "off"}
_MODE_ALIASES = {"run": "online", "dryrun": "offline"}
ENVIRONMENT_NAMES = (
    "CUDA_*", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "NCCL_*", "OMP_*", "MKL_*", "RANK",
    "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_*",
    "SLURM_ARRAY_*", "SLURM_NNODES", "SLURM_NODEID", "SLURM_NTASKS*", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_CPUS_*",
    "SLURM_GPUS*", "HF_HOME", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "TORCH_*", "PYTORCH_*", "XLA_*", "JAX_*", "TF_*",
    "LD_LIBRARY_PATH", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV",
)  # fmt: skip
"""Environment variables that are kept with a run unless the settings name others; `*` and `?` stand for what they do in file names."""


@dataclasses.dataclass(frozen=True)
class ResolvedSettings:
    """All settings of one init(), each from the strongest source that gave it."""

    base_url: str = DEFAULT_BASE_URL
    """HTTP address of the server, without a slash at the end."""
    api_key: str = ""
    """Key that names the caller; not asked for while the server listens on this machine only."""
    entity: str = ""
    """Owner of the run. Empty: the server's default."""
    project: str = ""
    """Project of the run. Empty: "uncategorized"."""
    run_id: str = ""
    """Id of the run. Empty: drawn."""
    name: str = ""
    """Readable name of the run. Empty: the server gives one."""
    mode: str = "online"
    """online, offline (nothing is sent before `runyard sync`) or disabled (nothing is kept)."""
    dir: str = DEFAULT_FOLDER
    """Folder of the journals."""
    notes: str = ""
    """Free text about the run."""
    tags: tuple[str, ...] = ()
    """Labels of the run."""
    group: str = ""
    """Group of the run."""
    job_type: str = ""
    """Kind of work."""
    resume: str = ""
    """What happens if the id exists: "allow", "must", "never" or "" (as "allow"); "auto" without an id continues the last run of
    this folder if it did not end well."""
    silent: bool = False
    """True: nothing is printed."""
    quiet: bool = False
    """True: no tables and no project lines."""
    init_timeout_s: float = 10.0
    """Longest wait of init() for a server that is being asked; the run goes on without its answer."""
    finish_timeout_s: float = 60.0
    """Longest wait of finish() until all is durable, longer only while files go out; what remains is sent later."""
    unreachable_timeout_s: float = 5.0
    """Longest wait of finish() for a server that does not answer."""
    store_wait_s: float = 900.0
    """How long after the end of a run its agent waits for an object store that does not answer; what is left then is sent by a later
    agent, or by `runyard sync`."""
    writer_label: str = ""
    """Label of this writer, where several write one run ("rank17")."""
    shared: bool = False
    """True: all processes of one job, as its launcher names it, write one run, unless an id is given."""
    preemption: str = "auto"
    """Which SIGTERM announces that the machine is taken away: "auto" (one in a job of Slurm), "sigterm" (every one) or "off"."""
    console: str = "auto"
    """How what is printed is kept: "redirect" (all that this process and its children write to stdout and stderr), "wrap" (what Python
    prints), "auto" (redirect; wrap in notebooks) or "off"."""
    console_bytes_per_s_max: int = 8 << 20
    """What is printed faster than this, for longer than a few seconds, is counted and not kept."""
    redact: bool = True
    """Whether values of environment variables that look like credentials are taken out of what is printed before it is kept."""
    system_interval_s: float = 10.0
    """Seconds between two samples of the machine (CPU, memory, disks, network, GPUs). 0: nothing is sampled."""
    open_metrics_endpoints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Addresses of metrics in the text format of OpenMetrics or Prometheus, by the name that they get in the run."""
    open_metrics_filters: Any = None
    """Which of their metrics are wanted: patterns of ENDPOINT.METRIC, each with patterns of labels; None: all."""
    save_command: bool = True
    """Whether the command line, the program and its arguments are kept; values that look like credentials never are."""
    save_code: bool = True
    """Whether the script, or the notebook, is kept as a file of the run."""
    save_git: bool = True
    """Whether the state of the git repository around the working directory is kept: remote, branch, commit and what differs from it."""
    git_diff_bytes_max: int = 10 << 20
    """Largest diff that is kept; of a larger one the run says only that it is. 0: no diff is made."""
    save_requirements: bool = True
    """Whether the list of installed distributions is kept as a file of the run."""
    save_environment: bool = True
    """Whether the environment variables of `environment_names` are kept."""
    environment_names: tuple[str, ...] = ENVIRONMENT_NAMES
    """Names and globs of the environment variables that are kept; those whose names look like credentials never are."""
    save_machine: bool = True
    """Whether CPU, memory, disk and GPUs are kept, and container, pod and Slurm job."""
    journal_bytes_max: int = 0
    """Most that the journals of all runs under `dir` may take on the disk. 0: a fifth of what is free, at least 1 GiB."""
    journal_keep_days: float = 0.0
    """For how many days journals are kept after the server has them. 0: not at all."""
    cache_dir: str = ""
    """Folder of the cache of artifact contents, shared by all runs and processes. Empty: `runyard` in the user's folder of caches."""
    cache_bytes_max: int = 0
    """Most that the cache may hold. 0: 50 GiB, or half of what is free there and held by it, if that is less."""
    artifact_dir: str = "artifacts"
    """Folder into which artifacts are downloaded, each into one of its own, unless `download(root=…)` names another."""
    max_end_of_run_history_metrics: int = 10
    """Rows of the table "Run history"."""
    max_end_of_run_summary_metrics: int = 10
    """Rows of the table "Run summary"."""


FIELDS = {field.name: field for field in dataclasses.fields(ResolvedSettings)}
_ALIASES = {
    "run_name": "name",
    "run_notes": "notes",
    "run_tags": "tags",
    "run_group": "group",
    "run_job_type": "job_type",
    "root_dir": "dir",
    "init_timeout": "init_timeout_s",
    "finish_timeout": "finish_timeout_s",
    "host": "base_url",
    "x_stats_sampling_interval": "system_interval_s",
    "x_stats_open_metrics_endpoints": "open_metrics_endpoints",
    "x_stats_open_metrics_filters": "open_metrics_filters",
}
"""Names under which scripts written for wandb, or the environment, give a setting."""
_OPPOSITES = {"disable_git": "save_git"}
"""Switches of wandb, by the one of ours whose opposite they are."""
_ENVIRONMENT = {
    "RUNYARD_BASE_URL": "base_url",
    "RUNYARD_API_KEY": "api_key",
    "RUNYARD_ENTITY": "entity",
    "RUNYARD_PROJECT": "project",
    "RUNYARD_RUN_ID": "run_id",
    "RUNYARD_NAME": "name",
    "RUNYARD_MODE": "mode",
    "RUNYARD_DIR": "dir",
    "RUNYARD_NOTES": "notes",
    "RUNYARD_TAGS": "tags",
    "RUNYARD_RUN_GROUP": "group",
    "RUNYARD_JOB_TYPE": "job_type",
    "RUNYARD_RESUME": "resume",
    "RUNYARD_SILENT": "silent",
    "RUNYARD_QUIET": "quiet",
    "RUNYARD_INIT_TIMEOUT_S": "init_timeout_s",
    "RUNYARD_FINISH_TIMEOUT_S": "finish_timeout_s",
    "RUNYARD_STORE_WAIT_S": "store_wait_s",
    "RUNYARD_WRITER_LABEL": "writer_label",
    "RUNYARD_SHARED": "shared",
    "RUNYARD_JOURNAL_BYTES_MAX": "journal_bytes_max",
    "RUNYARD_JOURNAL_KEEP_DAYS": "journal_keep_days",
    "RUNYARD_CACHE_DIR": "cache_dir",
    "RUNYARD_CACHE_BYTES_MAX": "cache_bytes_max",
    "RUNYARD_ARTIFACT_DIR": "artifact_dir",
    "RUNYARD_PREEMPTION": "preemption",
    "RUNYARD_CONSOLE": "console",
    "RUNYARD_CONSOLE_BYTES_PER_S_MAX": "console_bytes_per_s_max",
    "RUNYARD_REDACT": "redact",
    "RUNYARD_SYSTEM_INTERVAL_S": "system_interval_s",
    "RUNYARD_OPEN_METRICS_ENDPOINTS": "open_metrics_endpoints",
    "RUNYARD_SAVE_COMMAND": "save_command",
    "RUNYARD_SAVE_CODE": "save_code",
    "RUNYARD_SAVE_GIT": "save_git",
    "RUNYARD_GIT_DIFF_BYTES_MAX": "git_diff_bytes_max",
    "RUNYARD_SAVE_REQUIREMENTS": "save_requirements",
    "RUNYARD_SAVE_ENVIRONMENT": "save_environment",
    "RUNYARD_ENVIRONMENT_NAMES": "environment_names",
    "RUNYARD_SAVE_MACHINE": "save_machine",
}


class Settings:
    """Holds settings given by a script: `runyard.Settings(quiet=True, finish_timeout_s=120)`.

    Names are those of ResolvedSettings; wandb's names for the same things are taken too. Names that runyard has no
    use for are kept in `ignored`, and init() says so once.
    """

    def __init__(self, **given: Any) -> None:
        self.given: dict[str, Any] = {}
        self.ignored: list[str] = []
        self.update(given)

    def update(self, given: Mapping[str, Any]) -> None:
        """Sets settings by name; None means not given."""
        for name, value in given.items():
            field = _ALIASES.get(name, _OPPOSITES.get(name, name))
            if field not in FIELDS:
                self.ignored.append(name)
            elif value is not None:
                setting = parse_setting(field, value, source=f"Settings({name}=…)")
                self.given[field] = not setting if name in _OPPOSITES else setting

    def __getattr__(self, name: str) -> Any:
        given = self.__dict__.get("given", {})
        field = _ALIASES.get(name, name)
        if field in given:
            return given[field]
        if field in FIELDS:
            return FIELDS[field].default
        raise AttributeError(f"runyard has no setting {name!r}; it has {', '.join(sorted(FIELDS))}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("given", "ignored"):
            super().__setattr__(name, value)
        else:
            self.update({name: value})

    def __repr__(self) -> str:
        return (
            f"Settings({', '.join(f'{k}={v!r}' for k, v in self.given.items() if k != 'api_key')})"
        )


def resolve(
    arguments: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> ResolvedSettings:
    """Returns the settings: arguments, then `settings`, then the environment, then settings files, then defaults.

    An argument of None is not given. Raises InvalidArgument for a value that cannot be.
    """
    environ = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    given = {k: v for k, v in (arguments or {}).items() if v is not None}
    for name, value in given.items():
        values[name] = parse_setting(name, value, source=f"init({name}=…)")
    for name, value in (settings.given if settings is not None else {}).items():
        values.setdefault(name, value)
    for variable, name in _ENVIRONMENT.items():
        text = environ.get(variable)
        if text and name not in values:
            values[name] = parse_setting(name, text, source=variable)
    folder = Path(values.get("dir", DEFAULT_FOLDER)).expanduser()
    for path in (folder / "settings.ini", _user_file(environ, home)):
        for name, text in _read_file(path).items():
            field = _ALIASES.get(name, name)
            if field in FIELDS and field not in values:
                values[field] = parse_setting(field, text, source=str(path))
    return ResolvedSettings(**values)


def parse_setting(name: str, value: Any, *, source: str) -> Any:
    """Returns the value in the type of the setting; raises InvalidArgument naming source, value and what is allowed."""
    default = FIELDS[name].default
    if name == "open_metrics_endpoints":
        return _parse_endpoints(value, source)
    if name == "open_metrics_filters":
        return value
    if isinstance(default, bool):
        return _parse_bool(value, source)
    if name == "journal_bytes_max":
        return _parse_bytes(str(value), source)
    if name == "console_bytes_per_s_max":
        return max(1, _parse_size(str(value), source))
    if name in ("git_diff_bytes_max", "cache_bytes_max"):
        return _parse_size(str(value), source)
    if isinstance(default, (int, float)):
        return _parse_number(value, type(default), source)
    if isinstance(default, tuple):
        parts = value.split(",") if isinstance(value, str) else list(value)
        return tuple(dict.fromkeys(str(part).strip() for part in parts if str(part).strip()))
    if name == "mode":
        mode = _MODE_ALIASES.get(str(value).lower(), str(value).lower())
        if mode not in MODES:
            raise InvalidArgument(
                f"{source}: mode {value!r} is not one of {', '.join(MODES)}", reason="FIELD_INVALID"
            )
        return mode
    if name == "preemption":
        return _parse_choice(name, str(value).lower(), PREEMPTIONS, source)
    if name == "console":
        way = str(value).lower()
        return _parse_choice(name, _CONSOLE_ALIASES.get(way, way), CONSOLES, source)
    if name == "resume":
        return _parse_resume(value, source)
    if name == "base_url":
        return _parse_url(str(value), source)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not isinstance(value, str):
        raise InvalidArgument(
            f"{source}: {name} is {type(value).__name__} {value!r}; it must be a string",
            reason="FIELD_INVALID",
        )
    return value


def agent_environment(settings: ResolvedSettings) -> dict[str, str]:
    """Returns the environment for the agent: ours, with the key and with search paths made absolute.

    The agent works in the journals' folder, so that no module beside the script can stand in for a library's.
    """
    environ = dict(os.environ)
    if settings.api_key:
        environ["RUNYARD_API_KEY"] = settings.api_key
    environ["RUNYARD_PREEMPTION"] = settings.preemption
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    package_folder = str(Path(__file__).resolve().parent.parent)
    paths = [str(Path(path).absolute()) for path in paths]
    if Path(package_folder).name not in ("site-packages", "dist-packages"):
        paths.append(package_folder)
    environ["PYTHONPATH"] = os.pathsep.join(paths)
    return environ


def ends_with_all_around() -> bool:
    """Returns whether the end of this process, or the signal for it, is soon the end of its agent too.

    So it is in a container whose first process it is, in a pod, and in a job of a batch system.
    """
    is_in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    return os.getpid() == 1 or is_in_pod or bool(slurm_job())


def launcher_environment() -> Mapping[str, str]:
    """Returns the environment, in which launchers of distributed jobs say what this process is; see ranks."""
    return os.environ


def slurm_job() -> str:
    """Returns the id of the Slurm job that this process belongs to; "" outside of one."""
    return os.environ.get("SLURM_JOB_ID", "")


def user_cache_folder() -> Path:
    """Returns the folder of runyard in the user's folder of caches; raises RuntimeError if there is no home folder."""
    configured = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(configured) if configured else Path.home() / ".cache") / "runyard"


def s3_endpoint() -> str:
    """Returns the address of the S3 that `s3://` means, as Amazon's own tools are told it; "" for Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def is_terminal_plain() -> bool:
    """Returns whether the user asked programs for output without colour (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _user_file(environ: Mapping[str, str], home: Path | None) -> Path:
    if home is not None:
        return home / ".config" / "runyard" / "settings.ini"
    configured = environ.get("XDG_CONFIG_HOME")
    try:
        folder = Path(configured) if configured else Path.home() / ".config"
    except RuntimeError:  # no home folder
        return Path(os.devnull)
    return folder / "runyard" / "settings.ini"


def _read_file(path: Path) -> Mapping[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return {}
    if not text.strip():
        return {}
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text if text.lstrip().startswith("[") else "[runyard]\n" + text)
    except configparser.Error as error:
        raise InvalidArgument(f"the settings file {path} cannot be read: {error}") from None
    return {
        name.replace("-", "_"): value
        for section in ("default", "runyard")
        if parser.has_section(section)
        for name, value in parser.items(section)
        if value
    }


def _parse_bool(value: Any, source: str) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on", "y", "t"):
        return True
    if text in ("0", "false", "no", "off", "n", "f", ""):
        return False
    raise InvalidArgument(f"{source}: {value!r} is neither true nor false", reason="FIELD_INVALID")


def _parse_number(value: Any, kind: type, source: str) -> float:
    try:
        number: float = kind(value)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < sys.maxsize:
        raise InvalidArgument(
            f"{source}: {value!r} is not a number of at least 0", reason="FIELD_INVALID"
        )
    return number


def _parse_endpoints(value: Any, source: str) -> dict[str, str]:
    """Returns addresses by name, from a mapping or from "name=http://…,name=http://…"."""
    if isinstance(value, str):
        value = dict(part.strip().partition("=")[::2] for part in value.split(",") if part.strip())
    if not isinstance(value, Mapping):
        raise InvalidArgument(
            f"{source}: {value!r} gives no addresses; it looks like {{'node': 'http://127.0.0.1:9100/metrics'}}",
            reason="FIELD_INVALID",
        )
    return {str(name): _parse_url(str(url), source) for name, url in value.items()}


def _parse_choice(name: str, value: str, choices: tuple[str, ...], source: str) -> str:
    if value not in choices:
        raise InvalidArgument(
            f"{source}: {name} {value!r} is not one of {', '.join(choices)}", reason="FIELD_INVALID"
        )
    return value


def _parse_size(text: str, source: str) -> int:
    """Returns "20000000", "512 MiB" or "20GB" in bytes; units with an i are powers of 1024, the others of 1000."""
    units = {unit: index for index, unit in enumerate(("", "k", "m", "g", "t"))}
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if found is None or (found[3] and not found[2]):
        raise InvalidArgument(
            f"{source}: {text!r} is no size; it looks like 20000000, 512 MiB or 20 GiB",
            reason="FIELD_INVALID",
        )
    return int(float(found[1]) * (1024 if found[3] else 1000) ** units[found[2]])


def _parse_bytes(text: str, source: str) -> int:
    size_bytes = _parse_size(text, source)
    if 0 < size_bytes < JOURNAL_BYTES_LEAST:
        raise InvalidArgument(
            f"{source}: {text!r} is too small: at least {JOURNAL_BYTES_LEAST} bytes (1 MiB), or 0 for a fifth of what "
            f"is free",
            reason="FIELD_INVALID",
        )
    return size_bytes


def _parse_resume(value: Any, source: str) -> str:
    """Returns "allow", "must", "never", "auto" or ""; wandb's True means auto, its False nothing."""
    if value in (False, "", "False", "false"):
        return ""
    if value is True or value in ("True", "true"):
        return "auto"
    if value in ("allow", "must", "never", "auto"):
        return str(value)
    raise InvalidArgument(
        f"{source}: resume {value!r} is not one of allow, must, never, auto, True, False",
        reason="FIELD_INVALID",
    )


def _parse_url(value: str, source: str) -> str:
    url = value.strip().rstrip("/")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("http", "https") or not rest:
        raise InvalidArgument(
            f"{source}: base_url {value!r} is no address; it looks like http://127.0.0.1:8080",
            reason="FIELD_INVALID",
        )
    return url
