"""Wall clocks of training machine and server that jump by hours, both ways: no verdict and no point depends on them."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.readback import readback
from tests.integration.yard import Yard
from tests.robustness.traffic import Trainer, kill_agent
from tests.robustness.validate import check_run

ROWS, PAUSE_S = 400, 0.005
DEADLINE_S = 120.0
JUMPS_S = (7200, -10800, 0)
CLOCK_C = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *offset;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("FAKE_CLOCK_FILE"), O_RDONLY | O_CLOEXEC);
    offset = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    real = dlsym(RTLD_NEXT, "clock_gettime");
}
int clock_gettime(clockid_t id, struct timespec *now) {
    if (!real) begin();
    int result = real(id, now);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) now->tv_sec += *offset;
    return result;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out) *out = exact.tv_sec;
    return exact.tv_sec;
}
"""


class FakeClock:
    """A wall clock that processes read in place of the machine's; their monotonic one stays as it is."""

    def __init__(self, path: Path, library: Path) -> None:
        self._path = path
        self.environment = {"LD_PRELOAD": str(library), "FAKE_CLOCK_FILE": str(path)}
        path.write_bytes(bytes(8))

    def set(self, offset_s: int) -> None:
        """Sets how far it is off, for processes that run already too."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("<q", offset_s))


def build_library(folder: Path) -> Path:
    """Returns the library that stands before the C library's clock; skips where it cannot be built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("a clock that jumps needs Linux and a C compiler")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(CLOCK_C)
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if built.returncode != 0:
        pytest.skip(f"the clock that jumps cannot be built here: {built.stderr[-300:]}")
    return library


@pytest.fixture
def clocks(tmp_path: Path) -> Iterator[tuple[FakeClock, FakeClock]]:
    """The clocks of the training machine and of the server."""
    library = build_library(tmp_path)
    yield FakeClock(tmp_path / "here.rc", library), FakeClock(tmp_path / "there.rc", library)


def test_clocks_that_jump_change_nothing(
    clocks: tuple[FakeClock, FakeClock], tmp_path: Path
) -> None:
    """Both clocks jump while the script logs: it finishes, is never called crashed, and all is readable, once."""
    here, there = clocks
    yard = Yard(tmp_path / "yard")
    yard.parts["server"].environment.update(there.environment)
    root = tmp_path / "runyard"
    with yard:
        trainer = Trainer.start(
            "clock", tmp_path, {**yard.environment(root), **here.environment},
            rows=ROWS, pause_s=PAUSE_S,
        )  # fmt: skip
        try:
            for number, offset_s in enumerate(JUMPS_S, start=1):
                trainer.wait_for_rows(ROWS * number // (len(JUMPS_S) + 2))
                here.set(offset_s)
                there.set(JUMPS_S[-number])
            assert trainer.process.wait(DEADLINE_S) == 0, trainer.log()
            with readback(yard.grpc) as reader:
                reader.wait_for_state(trainer.path, "FINISHED", timeout_s=DEADLINE_S)
                assert check_run(reader, trainer) == ROWS
                assert reader.states(trainer.path) == ["RUNNING", "FINISHED"]
        finally:
            trainer.stop()
            kill_agent(root)
