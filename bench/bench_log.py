"""Times `log()` of 2 and of 100 metrics beside the other trackers, and runyard's import, init() and finish().

Usage: python bench/bench_log.py [--out FILE] [--no-setup] [--only NAME ...] [--seconds S]

Each tracker runs in a process of its own, from a virtual environment of its own under .venv-bench/ (the first run makes
them; what does not install is left out with the reason). A call is timed alone with perf_counter_ns; the figure is the
median, p99 beside it. runyard runs online against a server of its own where runyard-server starts, so that the agent
uploads while log() is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENTS = REPOSITORY / ".venv-bench"
REQUIREMENTS = REPOSITORY / "requirements" / "bench.txt"
WIDTHS = (2, 100)
TARGET_US = {2: 5.0, 100: 25.0}
CHILD_TIMEOUT_S = 300.0
SERVER_START_S = 90.0
PROCESS_ROUNDS = 7

TIMER = """
import gc, json, sys, time
def measure(log, calls_max, seconds, pause_s=0.0):
    out = {}
    for width in (2, 100):
        data = {f"group/metric_{i}": 0.5 * i for i in range(width)}
        names = list(data)
        clock, times = time.perf_counter_ns, []
        for step in range(20):
            log(dict(data), step)
        end = time.monotonic() + seconds
        step = 20
        while len(times) < calls_max and time.monotonic() < end:
            data[names[0]] = step * 0.1
            row = dict(data)
            begin = clock()
            log(row, step)
            times.append(clock() - begin)
            step += 1
            if pause_s:
                time.sleep(pause_s)
        times.sort()
        count = len(times)
        out[str(width)] = {
            "median_us": times[count // 2] / 1000,
            "p99_us": times[min(count - 1, count * 99 // 100)] / 1000,
            "calls": count,
        }
    return out
def tell(out):
    sys.stdout.write("\\nRESULT " + json.dumps(out) + "\\n")
    sys.stdout.flush()
"""

TRACKERS: dict[str, str] = {
    "runyard": """
        import runyard
        run = runyard.init(project="bench")
        tell(measure(lambda row, step: run.log(row), 60_000, SECONDS))
        run.finish()
    """,
    "runyard-offline": """
        import runyard
        run = runyard.init(project="bench", mode="offline")
        tell(measure(lambda row, step: run.log(row), 60_000, SECONDS))
        run.finish()
    """,
    "wandb": """
        import os
        os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
        import wandb
        run = wandb.init(project="bench")
        tell(measure(lambda row, step: run.log(row), 5_000, SECONDS))
        os._exit(0)
    """,
    "trackio": """
        import os
        os.environ["TRACKIO_DIR"] = os.getcwd()
        import trackio
        run = trackio.init(project="bench")
        tell(measure(lambda row, step: trackio.log(row), 5_000, SECONDS))
        os._exit(0)
    """,
    "swanlab": """
        import os
        import swanlab
        swanlab.init(project="bench", mode="offline", logdir=os.getcwd())
        tell(measure(lambda row, step: swanlab.log(row), 3_000, SECONDS))
        os._exit(0)
    """,
    "tensorboardX": """
        from tensorboardX import SummaryWriter
        writer = SummaryWriter("tb")
        def log(row, step):
            for name, value in row.items():
                writer.add_scalar(name, value, step)
        tell(measure(log, 3_000, SECONDS))
        writer.close()
    """,
    "mlflow": """
        import os, logging
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///" + os.path.join(os.getcwd(), "mlflow.db")
        import mlflow
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        mlflow.set_experiment("bench")
        mlflow.start_run()
        tell(measure(lambda row, step: mlflow.log_metrics(row, step=step), 400, SECONDS))
        mlflow.end_run()
    """,
    "aim": """
        import os
        from aim import Run
        run = Run(repo=os.getcwd(), system_tracking_interval=None, log_system_params=False)
        tell(measure(lambda row, step: run.track(row, step=step), 400, SECONDS))
        os._exit(0)
    """,
}

PROCESS_SCRIPT = """
import time; start = time.perf_counter()
import runyard
imported = time.perf_counter()
run = runyard.init(project="bench")
run.log({"loss": 1.0})
logged = time.perf_counter()
for i in range(100):
    run.log({"loss": 1.0 / (i + 1), "accuracy": 0.5})
before = time.perf_counter()
run.finish()
done = time.perf_counter()
import json
print("\\nRESULT " + json.dumps({"import_s": imported - start, "init_s": logged - imported, "finish_s": done - before}))
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure beside its baseline."""

    name: str
    value: float
    unit: str
    baseline: str
    baseline_value: float | None
    target: float | None
    is_met: bool | None

    def as_json(self) -> dict[str, Any]:
        """Returns the figure as bench/report.py reads it."""
        ratio = self.value / self.baseline_value if self.baseline_value else None
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "baseline_value": self.baseline_value,
            "ratio": ratio,
            "target": self.target,
            "is_met": self.is_met,
        }


def main() -> int:
    options = _options()
    if not options.no_setup:
        setup()
    names = options.only or list(TRACKERS)
    results: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    with server() as base_url:
        if base_url is None:
            reasons["runyard"] = "runyard-server did not start; see runyard-offline"
        for name in names:
            if name == "runyard" and base_url is None:
                continue
            print(f"{name} …", file=sys.stderr, flush=True)
            result = run_tracker(name, options.seconds, base_url)
            if isinstance(result, str):
                reasons[name] = result
            else:
                results[name] = result
        process = time_process(base_url)
    print_table(results, reasons)
    figures = [*log_figures(results), *process_figures(process, base_url is not None)]
    for figure in figures:
        met = {True: "met", False: "MISSED", None: ""}[figure.is_met]
        target = f"target {figure.target:g}" if figure.target is not None else ""
        print(f"{figure.name:<44} {figure.value:>12,.2f} {figure.unit:<3} {target} {met}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps([figure.as_json() for figure in figures], indent=1))
    return 0


def run_tracker(name: str, seconds: float, base_url: str | None) -> dict[str, Any] | str:
    """Returns the tracker's figures, or why there are none."""
    package = name.partition("-")[0]
    python = Path(sys.executable)
    if package != "runyard":
        python = ENVIRONMENTS / package / "bin" / "python"
        if not python.exists():
            return "not installed"
    body = textwrap.dedent(TRACKERS[name]).replace("SECONDS", str(seconds))
    with tempfile.TemporaryDirectory(prefix="bench-log-") as folder:
        return run_child([str(python), "-c", TIMER + body], folder, base_url)


def run_child(command: Sequence[str], folder: str, base_url: str | None) -> dict[str, Any] | str:
    """Runs a child in a folder and session of its own; returns what it told, or why it told nothing."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RUNYARD_")}
    environ.update(RUNYARD_QUIET="1", HOME=folder, PYTHONPATH="")
    if base_url is not None:
        environ["RUNYARD_BASE_URL"] = base_url
    else:
        environ["RUNYARD_MODE"] = "offline"
    child = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = child.communicate(timeout=CHILD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        output = ""
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait()
    for line in output.splitlines():
        if line.startswith("RESULT "):
            result: dict[str, Any] = json.loads(line[7:])
            return result
    lines = [line for line in output.splitlines() if line.strip()]
    return (lines[-1] if lines else "no answer in time")[:160]


def time_process(base_url: str | None) -> dict[str, float]:
    """Returns the medians of bare start-up, import, init() to first log(), and finish(), in seconds."""
    bare, runs = [], []
    for _ in range(PROCESS_ROUNDS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=60)
        bare.append(time.perf_counter() - begin)
        with tempfile.TemporaryDirectory(prefix="bench-log-") as folder:
            result = run_child([sys.executable, "-c", PROCESS_SCRIPT], folder, base_url)
        if isinstance(result, str):
            sys.exit(f"the run failed: {result}")
        runs.append(result)
    middle = PROCESS_ROUNDS // 2
    medians = {key: sorted(run[key] for run in runs)[middle] for key in runs[0]}
    return {**medians, "bare_s": sorted(bare)[middle]}


def log_figures(results: dict[str, Any]) -> Iterator[Figure]:
    """Yields the cost of log() beside wandb's, and whether every other tracker is dearer."""
    ours = results.get("runyard") or results.get("runyard-offline")
    if ours is None:
        return
    others = {n: r for n, r in results.items() if not n.startswith("runyard")}
    for width in WIDTHS:
        median, p99 = ours[str(width)]["median_us"], ours[str(width)]["p99_us"]
        target = TARGET_US[width]
        wandb = others["wandb"][str(width)]["median_us"] if "wandb" in others else None
        yield Figure(
            f"log() of {width} metrics, median", median, "us", "wandb offline, median", wandb, target, median <= target
        )  # fmt: skip
        yield Figure(
            f"log() of {width} metrics, p99",
            p99,
            "us",
            "10 x median",
            10 * median,
            10 * median,
            p99 <= 10 * median,
        )
        if wandb is not None:
            times = wandb / median
            yield Figure(
                f"log() of {width} metrics, times cheaper than wandb",
                times,
                "x",
                "wandb",
                1.0,
                10.0,
                times >= 10,
            )
        if others:
            name, next_best = min(
                ((n, r[str(width)]["median_us"]) for n, r in others.items()),
                key=lambda pair: pair[1],
            )
            yield Figure(
                f"log() of {width} metrics, next best tracker", next_best, "us", f"{name}; runyard", median, None, next_best > median
            )  # fmt: skip


def process_figures(process: dict[str, float], is_online: bool) -> list[Figure]:
    """Returns import, init() and finish() times with their limits."""
    bare, how = process["bare_s"], "online" if is_online else "offline"
    rows = (
        ("import runyard over bare Python", process["import_s"] * 1000, "ms", 50.0),
        (f"init() to first log(), {how}", process["init_s"] * 1000, "ms", 1000.0),
        (f"finish() of a small run, {how}", process["finish_s"] * 1000, "ms", 1000.0),
    )
    return [
        Figure(name, value, unit, "start of bare Python", bare * 1000, limit, value <= limit)
        for name, value, unit, limit in rows
    ]


def print_table(results: dict[str, Any], reasons: dict[str, str]) -> None:
    """Prints all trackers side by side."""
    print(
        f"{'tracker':<18}{'2: median':>12}{'p99':>12}{'100: median':>14}{'p99':>12}  us per log()"
    )
    for name, result in sorted(results.items(), key=lambda item: item[1]["2"]["median_us"]):
        cells = [result[w][key] for w in ("2", "100") for key in ("median_us", "p99_us")]
        print(f"{name:<18}{cells[0]:>12,.1f}{cells[1]:>12,.1f}{cells[2]:>14,.1f}{cells[3]:>12,.1f}")
    for name, reason in reasons.items():
        print(f"{name:<18}left out: {reason}")
    print()


@contextmanager
def server() -> Iterator[str | None]:
    """Runs a server on free ports; yields its address, or None if it does not start."""
    program = Path(sys.executable).with_name("runyard-server")
    if not program.exists():
        yield None
        return
    http, grpc = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="bench-server-") as folder:
        command = [
            str(program), "--target=all", f"--data-dir={folder}/data",
            f"--http=127.0.0.1:{http}", f"--grpc=127.0.0.1:{grpc}",
        ]  # fmt: skip
        with Path(folder, "server.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
            try:
                yield f"http://127.0.0.1:{http}" if is_ready(process) else None
            finally:
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    pass
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()


def is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Returns whether the server says "ready" in time."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    seen, deadline_s = b"", time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        seen += process.stdout.read() or b""
        if b"ready " in seen:
            return True
        time.sleep(0.05)
    return False


def free_port() -> int:
    """Returns a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def setup() -> None:
    """Makes an environment for each tracker; one that does not install is reported and left out."""
    for line in REQUIREMENTS.read_text().splitlines():
        requirement = line.partition("#")[0].strip()
        if not requirement:
            continue
        folder = ENVIRONMENTS / requirement.partition("==")[0]
        if (folder / "installed").exists():
            continue
        print(f"installing {requirement} …", file=sys.stderr, flush=True)
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=300
        )
        done = subprocess.run(
            [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement],
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            (folder / "installed").touch()
        else:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            print(f"{requirement} does not install: {last}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument(
        "--no-setup", action="store_true", help="leave out trackers that are not installed yet"
    )
    parser.add_argument("--only", nargs="+", choices=list(TRACKERS), help="only these trackers")
    parser.add_argument("--seconds", type=float, default=4.0, help="most seconds per width")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
