"""What the agent needs of the world: a server to call and a disk to read; the simulator brings its own of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Protocol

from runyard import journal_format as form
from runyard.agent.artifact_ports import ArtifactCalls
from runyard.errors import Error

if TYPE_CHECKING:
    from runyard.agent.columns import Event, RowTable


@dataclasses.dataclass(frozen=True)
class StartedRun:
    """What StartRun answered."""

    path: str
    run_key: int
    writer: int
    attempt: int
    display_name: str
    is_resumed: bool
    config_json: str = ""
    """The run's config as extended JSON: that of earlier attempts and of this one."""
    attempt_first_writer: int = 0
    """First writer of the attempt; 0 where the server does not say."""


@dataclasses.dataclass(frozen=True)
class Change:
    """A CHANGE record: `content` is its JSON object."""

    sequence: int
    content: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class SummaryChange:
    """Sets one key of the summary, or removes it (`value_json` empty)."""

    sequence: int
    key: str
    value_json: str


@dataclasses.dataclass(frozen=True)
class Batch:
    """The records first_sequence to last_sequence of a writer, as they go to ingest."""

    run_key: int
    writer: int
    first_sequence: int
    last_sequence: int
    tables: Sequence[RowTable]
    summary_changes: Sequence[SummaryChange]
    console: Sequence[Event] = ()
    """CONSOLE records; a batch of the console's journal holds nothing else."""
    journal: str = form.RUN_JOURNAL
    """Which journal it is of."""
    media: Sequence[Event] = ()
    """MEDIA records."""


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A series that the server refused for good, inside a success."""

    metric: str
    reason: str
    message: str
    points: int


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a writer's part in a run ended; `cause` is a TransitionCause without its prefix."""

    cause: str
    exit_code: int | None
    evidence: str
    time_unix_ns: int
    last_sequence: int
    records_refused: int = 0
    """Records that will never be durable: refused by the server, or damaged."""
    exception: Mapping[str, str] | None = None
    """`type`, `message` and `traceback` of the exception that ended the process."""
    is_of_kernel: bool = False
    """Whether a Jupyter kernel was shut down."""
    is_correction: bool = False
    """Whether it replaces the end that the process told of itself."""


@dataclasses.dataclass(frozen=True)
class ProcessEnd:
    """How a process ended, as the system says; `exit_code` and `signal` are both None where it does not tell."""

    exit_code: int | None
    signal: int | None
    """The signal that ended it."""
    is_out_of_memory: bool
    evidence: str
    time_unix_ns: int


@dataclasses.dataclass(frozen=True)
class Beat:
    """One run's sign of life."""

    run_key: int
    writer: int
    is_process_alive: bool
    last_step: int | None
    records_written: int
    records_durable: int


@dataclasses.dataclass(frozen=True)
class StopOrder:
    """Asks that a run be stopped; comes with every answer until it is."""

    run_key: int
    requested_by: str
    reason: str
    grace_s: float
    """How long the training process may take before SIGTERM."""
    may_kill: bool
    """Whether SIGKILL may follow."""
    request_time_unix_ns: int
    """Tells a further request from the same one."""


@dataclasses.dataclass(frozen=True)
class BeatAnswer:
    """When to beat next, and what the server says of the runs."""

    next_beat_s: float
    unknown_run_keys: Sequence[int]
    stop_orders: Sequence[StopOrder]


@dataclasses.dataclass(frozen=True)
class FileDigest:
    """What CreateUpload asks of a file's content."""

    size_bytes: int
    sha256: bytes
    part_md5s: tuple[bytes, ...]
    part_bytes: int
    """Size of the parts that part_md5s speaks of; the last may be shorter."""


@dataclasses.dataclass(frozen=True)
class UploadPlan:
    """Where the bytes of a file go."""

    upload_id: str
    is_present: bool
    part_bytes: int
    part_urls: Sequence[str]
    part_etags: Sequence[str] = ()
    """ETags of the parts that an earlier try sent, "" for those to send; empty: all are to be sent."""


@dataclasses.dataclass(frozen=True)
class FilePart:
    """A range of a local file, and the MD5 that the object store shall check ("" where it cannot)."""

    path: str
    offset: int
    size_bytes: int
    content_md5: str
    told: Callable[[int], None] | None = dataclasses.field(default=None, compare=False)
    """Called with the bytes that have been sent of it by now, from any thread."""


class Transport(ArtifactCalls, Protocol):
    """Calls to one server. Every call MUST end within a deadline of its own and raise `runyard.errors.Error` only.

    Unavailable, and any error with retry_delay_s, says that a repeat may pass; every other error is a refusal for
    good. All calls are safe to repeat.
    """

    async def start_run(self, start: Mapping[str, Any]) -> StartedRun:
        """Starts or resumes the run of a START record."""

    async def last_step(self, run_path: str, *, writer_max: int) -> int | None:
        """Returns the largest durable step of a run's writers up to that number (0: all); None if they have no points."""

    async def read_summary(self, run_path: str) -> str:
        """Returns the run's summary as an extended JSON object."""

    async def write_batch(self, batch: Batch) -> Sequence[Rejection]:
        """Returns when the batch is durable."""

    async def apply_changes(self, run_key: int, writer: int, changes: Sequence[Change]) -> None:
        """Applies changes of config and the like, at most 1,000, by ascending sequence."""

    async def finish_run(self, run_key: int, writer: int, ending: Ending) -> None:
        """Ends the writer's part in the run."""

    async def record_stop_stage(self, run_key: int, writer: int, stage: str, evidence: str) -> None:
        """Tells how far a stop has come at a writer; `stage` is a StopStage without its prefix."""

    async def heartbeat(self, agent_id: str, beats: Sequence[Beat]) -> BeatAnswer:
        """Tells that runs live."""

    async def create_uploads(
        self, run_path: str, asks: Sequence[tuple[str, FileDigest]]
    ) -> Sequence[UploadPlan | Error]:
        """Announces files by their names, at most 1,000 (servers of before: 100); returns a plan for each, or why it is refused."""

    async def put_part(self, url: str, part: FilePart) -> str:
        """Sends a part to the object store and returns its ETag."""

    async def put_parts(
        self, jobs: Sequence[tuple[str, FilePart]]
    ) -> Sequence[str | Error | OSError]:
        """Sends parts of at most a MiB; returns for each its ETag, or why it was not sent. Raises nothing."""

    async def complete_uploads(
        self, arrivals: Sequence[tuple[str, Sequence[str]]]
    ) -> Sequence[Error | None]:
        """Makes files visible, each by its upload and ETags, as many; returns None for each, or why it is refused."""

    async def close(self) -> None:
        """Lets go of connections."""


class OpenFile(Protocol):
    """A file that is being read."""

    def read_at(self, offset: int, length_bytes: int) -> bytes:
        """Returns up to `length_bytes` bytes; fewer at the end of the file."""

    def close(self) -> None:
        """Lets go of the file."""


class Disk(Protocol):
    """The local disk. Paths are absolute texts. What does not exist is None or empty; other failures are OSError."""

    def names(self, folder: str) -> list[str]:
        """Returns the names in a folder, sorted; empty if there is no such folder."""

    def stamp(self, path: str) -> tuple[int, int] | None:
        """Returns (size in bytes, time of change in ns); None if there is no such file or folder."""

    def read(self, path: str) -> bytes | None:
        """Returns a small file whole; None if there is none."""

    def open(self, path: str) -> OpenFile | None:
        """Returns the file, open for reading; None if there is none."""

    def replace(self, path: str, content: bytes, *, is_synced: bool) -> None:
        """Puts the content in place of the file's, at once and whole; on the platter before returning if `is_synced`."""

    def remove(self, path: str) -> None:
        """Removes a file; none is no error."""

    def is_locked(self, path: str) -> bool:
        """Returns whether a living process holds the exclusive flock of the file."""

    async def digest(self, path: str, *, size_bytes: int, part_bytes: int) -> FileDigest:
        """Reads the first `size_bytes` of a file in bounded memory; `part_bytes` is the size of the parts to take MD5s of.

        Raises OSError for what is no regular file. A file that has become shorter gives a digest of what there is.
        """

    async def digest_all(
        self, paths: Sequence[str], *, size_bytes_max: int
    ) -> Sequence[tuple[tuple[int, int], FileDigest] | None]:
        """Returns for each file its stamp, from before it was read, and digest in one part; None if it is larger or cannot be read."""


class ProcessWatch(Protocol):
    """A training process that is watched until `close`."""

    @property
    def end(self) -> ProcessEnd | None:
        """Returns how it ended; None while it lives. Once set it MUST stay."""

    async def wait(self, timeout_s: float) -> ProcessEnd | None:
        """Returns `end` as soon as it is known, or None after the time. Any number of tasks may wait."""

    def look(self) -> None:
        """Notes facts that only the living process shows (counters of its memory group). Cheap; called twice a second."""

    def send_signal(self, number: int) -> bool:
        """Sends a signal to this very process and never to a later one of its number; False if it is gone."""

    def close(self) -> None:
        """Stops watching."""


class Pod(Protocol):
    """What runs the container that this process is in, if one does."""

    async def disruption(self) -> str:
        """Returns why the container is being taken away; "" if it is not, or nobody knows. MUST return soon, never raises."""


class Processes(Protocol):
    """The processes of this machine."""

    def watch(self, folder: str) -> ProcessWatch | None:
        """Watches the process that writes the run folder.

        None where it cannot be known for certain: it is gone already, is not of this machine or pid namespace, wrote
        no identity, or the system offers no way. Then the lock alone tells whether it lives.
        """
