"""Offline runs are sampled by a process beside them: its samples come with a sync, it ends with them, and training needs nothing of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard import journal_format as form
from runyard.agent.offline_sampling import lock_name
from runyard.api import Api
from runyard.journal_walk import Place, segments_of, walk
from runyard.process_identity import stat_fields
from tests.integration.readback import wait_until
from tests.integration.yard import Yard, clean_environment

PROGRAM = Path(sys.executable).parent / "runyard"
WAIT_S = 30.0

# Logs, and waits for a line of its input.
SCRIPT = """
import os, sys, runyard
run = runyard.init(mode="offline", entity="nico", project="offline", id=sys.argv[1], writer=sys.argv[2],
    settings={"system_interval_s": float(sys.argv[3])})
run.log({"loss": 1.0})
print("runs", flush=True)
sys.stdin.readline()
run.log({"loss": 0.5})
"""


class Site:
    """A journal root, and scripts that log into it with no server there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "runyard"
        self.folder = folder
        self.environment = clean_environment({"RUNYARD_DIR": str(self.root)})
        self.processes: list[subprocess.Popen[str]] = []
        self.script = SCRIPT

    def start(
        self, run_id: str, writer: str = "main", interval_s: float = 0.2
    ) -> subprocess.Popen[str]:
        """Starts a script, and returns when it has logged."""
        process = subprocess.Popen(
            [sys.executable, "-c", self.script, run_id, writer, str(interval_s)],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        return process

    def sampler(self) -> int | None:
        """Returns the pid of the process that samples; None if there is none."""
        try:
            pid = int((self.root / lock_name()).read_text())
        except (OSError, ValueError):
            return None
        state = stat_fields(pid)[:1]  # a zombie is nobody's any more
        return pid if state and state[0] not in "ZX" else None

    def samples(self, run_id: str) -> list[dict[str, float]]:
        """Returns the samples of all folders of a run."""
        found = []
        for folder in sorted(self.root.glob(f"run-*-{run_id}*")):
            if (folder / form.SYSTEM_JOURNAL).exists():
                found += rows(folder)
        return found

    def wait_for_samples(self, run_id: str, count: int) -> None:
        """Returns when so many samples are on the disk."""
        wait_until(
            lambda: len(self.samples(run_id)) >= count, WAIT_S, f"{count} samples of {run_id}"
        )


def rows(folder: Path) -> list[dict[str, float]]:
    """Returns the samples in a run folder."""
    return [
        dict(zip(one.frame.names, one.frame.values, strict=True))
        for one in walk(segments_of(folder / form.SYSTEM_JOURNAL))
        if isinstance(one, Place) and one.frame.kind == form.ROW
    ]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A root of its own; what is left running is killed."""
    site = Site(tmp_path)
    yield site
    for process in site.processes:
        process.kill()
        process.communicate(timeout=10)
    if (pid := site.sampler()) is not None:
        os.kill(pid, signal.SIGKILL)


def finish(process: subprocess.Popen[str]) -> int:
    """Lets a script end; returns its exit code."""
    process.communicate("end\n", timeout=60)
    return process.returncode


def test_samples_of_an_offline_run_come_with_its_sync(site: Site, tmp_path: Path) -> None:
    """The machine and the process are sampled with no server there; the process that does it ends; all samples are sent."""
    script = site.start("one")
    site.wait_for_samples("one", 5)
    assert site.sampler() is not None
    assert finish(script) == 0
    wait_until(lambda: site.sampler() is None, WAIT_S, "the end of the sampling process")
    samples = site.samples("one")
    assert {"system/memory_percent", "system/proc.memory.rssMB"} <= set(samples[-1])
    assert samples[-1]["system/proc.count"] >= 1
    assert list(site.root.glob("*.lock")) == []
    with Yard(tmp_path / "yard") as yard:
        subprocess.run(
            [PROGRAM, "sync"],
            env=yard.environment(site.root),
            cwd=tmp_path,
            check=True,
            capture_output=True,
            timeout=90,
        )
        with Api(yard.base_url) as api:
            rows = api.run("nico/offline/one").system_metrics(["system/proc.count"], samples=10_000)
    assert len(rows) == len(samples)


def test_a_killed_script_ends_the_sampling(site: Site) -> None:
    """After kill -9 no process is left, and what was sampled is on the disk."""
    script = site.start("killed")
    site.wait_for_samples("killed", 2)
    script.kill()
    wait_until(lambda: site.sampler() is None, WAIT_S, "the end of the sampling process")
    assert len(site.samples("killed")) >= 2


def test_training_does_not_miss_a_killed_sampler(site: Site) -> None:
    """The sampler's death costs samples and nothing else; the next run of the root has one again, though the lock was left."""
    script = site.start("bereft")
    site.wait_for_samples("bereft", 1)
    pid = site.sampler()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: site.sampler() is None, WAIT_S, "the death of the sampling process")
    assert finish(script) == 0
    other = site.start("after")
    site.wait_for_samples("after", 2)
    assert finish(other) == 0


def test_one_process_samples_for_all_runs_of_a_root(site: Site) -> None:
    """Of two writers of one run one tells of the node; a further run that begins while another ends is sampled, too."""
    ranks = [site.start("shared", f"rank{rank}") for rank in range(2)]
    site.wait_for_samples("shared", 8)
    pid = site.sampler()
    assert [finish(rank) for rank in ranks] == [0, 0]
    next_one = site.start("next")
    site.wait_for_samples("next", 3)
    assert site.sampler() == pid
    assert finish(next_one) == 0
    folders = sorted(site.root.glob("run-*-shared*"))
    tellers = [folder for folder in folders if any("system/load.1m" in row for row in rows(folder))]
    assert len(folders) == 2 and len(tellers) == 1


def test_sampling_that_is_switched_off_starts_nothing(site: Site) -> None:
    """With an interval of 0 there is no process, no journal and no log of it."""
    script = site.start("off", interval_s=0)
    assert finish(script) == 0
    assert site.sampler() is None and site.samples("off") == []
    assert not (site.root / "sampling.log").exists()


OFFLINE_ENDS = {
    "SystemExit(3)": ("raise SystemExit(3)", "failed", 3, "exited with code 3"),
    "os._exit(4)": ("os._exit(4)", "failed", 4, "exited with code 4"),
    "SIGKILL": ("os.kill(os.getpid(), 9)", "crashed", 137, "SIGKILL"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "crashed", 139, "SIGSEGV"),
    "finish, then a code": ("run.finish(); os._exit(5)", "finished", 0, ""),
    "the end": ("pass", "finished", 0, ""),
}


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with Yard(tmp_path_factory.mktemp("yard")) as running:
        yield running


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfds")
@pytest.mark.parametrize("way", OFFLINE_ENDS)
def test_an_offline_run_ends_as_its_process_did(site: Site, yard: Yard, way: str) -> None:
    """What Python did not tell of the end was seen by the process beside it, and comes with the sync."""
    body, state, code, evidence = OFFLINE_ENDS[way]
    run_id = "".join(letter if letter.isalnum() else "-" for letter in way)
    site.script = SCRIPT + body
    script = site.start(run_id)
    site.wait_for_samples(run_id, 1)
    finish(script)
    wait_until(lambda: site.sampler() is None, WAIT_S, "the end of the sampling process")
    subprocess.run(
        [PROGRAM, "sync"],
        env=yard.environment(site.root),
        cwd=site.folder,
        check=True,
        capture_output=True,
        timeout=90,
    )
    with Api(yard.base_url) as api:
        run = api.run(f"nico/offline/{run_id}")
        assert (run.state, run.exit_code) == (state, code)
        assert evidence in str([event.evidence for event in run.events()])
