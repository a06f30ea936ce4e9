"""Times pages and searches of a log of millions of lines through the RPC: from ClickHouse, then from its archive; the archiving, and a download.

Usage: python bench/bench_console.py [--out FILE] [--lines N] [--rounds N] [--keep FOLDER]

A whole server in one process (chDB, SQLite, local S3). The lines are put into its store by SQL while it is stopped: a run's end, the
archive and the drop are the product's own. Each figure from the archive has the one from ClickHouse of the same run of this script beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from figure import Result

from runyard.rpc import QUERY, Connection
from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.storage.clickhouse.engine import ClickHouse

BIN = Path(sys.executable).parent
PATH = "local/bench/log"
SCRIPT = (
    'import runyard; runyard.init(project="bench", id="log"); print("a line"); runyard.finish()'
)
BLOCK_LINES = 1_000_000
TIMEOUT_S = 1_800.0
RARE = "rare needle"


@contextlib.contextmanager
def serving(folder: Path, *settings: str) -> Iterator[str]:
    """Runs a server over the folder; gives its URL."""
    command = [
        BIN / "runyard-server",
        f"--data-dir={folder}",
        "--http=127.0.0.1:0",
        "--grpc=127.0.0.1:0",
    ]
    process = subprocess.Popen(
        [*command, *(f"--set={one}" for one in settings)],
        stdout=subprocess.PIPE,
        stderr=(folder.parent / "server.log").open("a"),
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready "), line
        yield "http://" + line.split()[1].removeprefix("http=")
    finally:
        process.terminate()
        process.wait(60)


async def fill(folder: Path, count: int) -> float:
    """Puts lines 2 to count of the run's writer into the store; returns the seconds."""
    store = ClickHouse.open_embedded(folder / "clickhouse")
    await store.migrate()
    (row,) = (
        await store.query_arrow("SELECT run, min(time) AS time FROM console GROUP BY run")
    ).to_pylist()
    started = time.perf_counter()
    for first in range(2, count + 1, BLOCK_LINES):
        size = min(BLOCK_LINES, count + 1 - first)
        # One in eight lines has colours, one in a million the rare text; 92 bytes on average.
        await store.command(
            f"""INSERT INTO console (run, writer, line, time, stream, text, sequence, block)
SELECT {row["run"]}, 1, {first} + number AS n, {row["time"]} + intDiv(n, 10), 1,
    concat(if(n % 8 = 0, '\\x1b[32mep\\x1b[0moch ', 'epoch '), toString(intDiv(n, 1000)), ' step ', toString(n), ' loss=',
        toString(cityHash64(n) % 1000000 / 1000), ' lr=0.0003 ', toString(sipHash64(n) % 100000), ' tokens/s on rank 0',
        if(n % 1000003 = 7, ' {RARE}', '')),
    n, toUInt64(now64(9)::Int64) FROM numbers({size})""",
            timeout_s=600,
        )
    await store.command(
        "INSERT INTO console_writers SELECT run, writer, max(block) FROM console GROUP BY run, writer"
    )
    took_s = time.perf_counter() - started
    await store.close(timeout_s=120)
    return took_s


class Reader:
    """Asks the server."""

    def __init__(self, url: str, rounds: int, count: int) -> None:
        self.url = url
        self._connection = Connection(url)
        self._rounds = rounds
        self._count = count

    def ask(self, **fields: Any) -> pb.ListConsoleLinesResponse:
        request = pb.ListConsoleLinesRequest(run_path=PATH, page_size=1_000, **fields)
        return self._connection.call(
            QUERY + "ListConsoleLines", request, pb.ListConsoleLinesResponse
        )

    def time_of(self, line: int) -> int:
        """Returns when a line began."""
        first = self.ask().times_unix_ns[1]
        return int(first) + line // 10 * 1_000_000

    def cases(self) -> dict[str, Callable[[], pb.ListConsoleLinesResponse]]:
        middle = self.time_of(self._count // 2)
        return {
            "last page": lambda: self.ask(is_newest_first=True),
            "a page in the middle": lambda: self.ask(first_time_unix_ns=middle),
            "the page before it": lambda: self.ask(last_time_unix_ns=middle, is_newest_first=True),
            "rare text, all lines": lambda: self.ask(contains=RARE),
            "text in every line, last page": lambda: self.ask(
                contains="loss", is_newest_first=True
            ),
            "rare expression, all lines": lambda: self.ask(matches=r"rare\s+need.e$"),
            "text that is nowhere": lambda: self.ask(contains="nowhere to be found"),
            "number of lines": self._counted,
        }

    def _counted(self) -> Any:
        reply = self._connection.call(
            QUERY + "GetConsole", pb.GetConsoleRequest(run_path=PATH), pb.GetConsoleResponse
        )
        assert reply.writers[0].lines_durable == self._count, reply
        return reply

    def measure(self) -> dict[str, tuple[float, Any]]:
        """Returns the median ms of each case, and its answer."""
        found = {}
        for name, ask in self.cases().items():
            answer, times = ask(), []
            for _ in range(self._rounds):
                started = time.perf_counter()
                assert ask() is not None
                times.append((time.perf_counter() - started) * 1_000)
            if isinstance(answer, pb.ListConsoleLinesResponse):
                answer = list(zip(answer.lines, answer.texts, answer.times_unix_ns, strict=True))
            found[name] = (statistics.median(times), answer)
            print(f"  {name}: {found[name][0]:.0f} ms", file=sys.stderr)
        return found

    def download(self) -> tuple[float, int]:
        """Returns the seconds and bytes of the whole log as text."""
        started, size = time.perf_counter(), 0
        with urllib.request.urlopen(
            f"{self.url}/.download/log?run={urllib.parse.quote(PATH)}"
        ) as reply:
            while part := reply.read(1 << 20):
                size += len(part)
        return time.perf_counter() - started, size


def await_logs(folder: Path, condition: str) -> float:
    """Returns how long it took until the condition held in the table of logs."""
    started = time.perf_counter()
    while time.perf_counter() - started < TIMEOUT_S:
        with contextlib.closing(
            sqlite3.connect(f"file:{folder}/runyard.sqlite?mode=ro", uri=True)
        ) as database:
            with contextlib.suppress(sqlite3.OperationalError):
                if database.execute(
                    f"SELECT count(*) FROM console_logs WHERE {condition}"
                ).fetchone()[0]:
                    return time.perf_counter() - started
        time.sleep(0.2)
    raise TimeoutError(condition)


def run(folder: Path, options: argparse.Namespace) -> list[Result]:
    data, count = folder / "data", options.lines
    quick = ("console.poll_interval=500ms", "console.archive_delay=1s")
    if not data.exists():
        with serving(data) as url:
            environment = {
                **os.environ,
                "RUNYARD_BASE_URL": url,
                "RUNYARD_DIR": str(folder / "runs"),
            }
            subprocess.run(
                [sys.executable, "-c", SCRIPT],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        took_s = asyncio.run(fill(data, count))
        print(f"  {count} lines by SQL: {took_s:.0f} s", file=sys.stderr)
    results = []
    with serving(data, *quick) as url:
        archived_s = await_logs(data, "archived_block = seen_block AND archived_block > 0")
        size = sum(file.stat().st_size for file in (data / "s3").rglob("*") if file.is_file())
        print(f"  archived: {archived_s:.0f} s, S3 folder {size} bytes", file=sys.stderr)
        if archived_s > 1:  # else the folder was left by an earlier call
            results.append(Result("archiving, lines a second", count / archived_s, "lines/s"))
        hot = Reader(url, options.rounds, count).measure()
        if options.downloads:
            took_s, size = Reader(url, 1, count).download()
            results.append(Result("download from ClickHouse", size / took_s / 1e6, "MB/s"))
            print(f"  download: {took_s:.1f} s, {size} bytes", file=sys.stderr)
    with serving(data, *quick, "console.keep_days=0.000001") as url:
        dropped_s = await_logs(data, "dropped_block = seen_block")
        print(f"  compared and dropped: {dropped_s:.0f} s", file=sys.stderr)
        results.append(
            Result("comparing and dropping, lines a second", count / dropped_s, "lines/s")
        )
        cold = Reader(url, options.rounds, count).measure()
        if options.downloads:
            took_s, size = Reader(url, 1, count).download()
            results.append(Result("download from the archive", size / took_s / 1e6, "MB/s"))
            print(f"  download: {took_s:.1f} s, {size} bytes", file=sys.stderr)
    for name, (value_ms, answer) in cold.items():
        hot_ms, expected = hot[name]
        assert answer == expected, f"{name}: the archive answers otherwise"
        results.append(
            Result(f"log of {count:,} lines: {name}, archive", value_ms, "ms", "ClickHouse", hot_ms)
        )
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-downloads", dest="downloads", action="store_false")
    parser.add_argument("--keep", type=Path, help="use this folder, and leave it there")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="runyard-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        results = run(folder, options)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps([one.as_json() for one in results], indent=2)
    if options.out:
        options.out.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
