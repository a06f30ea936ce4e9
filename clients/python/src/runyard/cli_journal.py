"""`runyard journal`: shows what lies in journals, and removes what is done with."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runyard import journal_clean
from runyard import journal_format as form
from runyard.errors import InvalidArgument, UsageError
from runyard.journal_status import disk_bytes, find_run_folders
from runyard.journal_walk import Damage, Place, describe, segments_of, walk
from runyard.settings import Settings, resolve
from runyard.text_format import bytes_text, count_text

Commands = Any
"""What argparse gives for adding commands to; it has no public name."""

METRIC_COUNT_MAX = 10
"""Metrics that `--stats` names; with --json all."""

_EPILOG = """\
exit codes: 0 all records were read; 1 some are damaged or cut, as the messages on stderr say; 2 wrong usage
"""


def add_commands(commands: Commands, shared: argparse.ArgumentParser) -> None:
    """Adds `journal show` and `journal clean`."""
    journal = commands.add_parser("journal", help="look at journals").add_subparsers(
        required=True, metavar="COMMAND"
    )
    show = journal.add_parser(
        "show",
        parents=[shared],
        help="print the records of a journal",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument(
        "path", type=Path, metavar="FILE|DIR", help="segment file, journal folder or run folder"
    )
    show.add_argument(
        "--kind", action="append", default=[], metavar="KIND", help="only this kind (ROW, CHANGE, …); repeatable"
    )  # fmt: skip
    show.add_argument("--from", dest="first", type=int, default=0, metavar="N", help="first record")
    show.add_argument("--to", dest="last", type=int, metavar="N", help="last record")
    show.add_argument("--stats", action="store_true", help="counts, sizes and spans instead")
    show.set_defaults(call=_show)
    clean = journal.add_parser(
        "clean",
        parents=[shared],
        help="remove what is left of runs that the server has whole",
        epilog=_CLEAN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    clean.add_argument("paths", nargs="*", metavar="DIR", help="run folders, or folders of such")
    clean.add_argument(
        "--older-than", type=_days, default=0.0, metavar="DAYS", help="only runs complete for so long"
    )  # fmt: skip
    clean.add_argument(
        "--refused",
        action="store_true",
        help="also complete runs of which the server refused records or files: those are lost then",
    )
    clean.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    clean.set_defaults(call=_clean)


_CLEAN_EPILOG = """\
Removes run folders (run.json, mark.json, logs, files, kept journals) of complete runs only; what is unsent, live or
damaged stays. DIR as in `runyard sync`.

exit codes: 0 done; 1 a folder could not be removed; 2 wrong usage
"""


def _clean(options: argparse.Namespace) -> int:
    settings = resolve({}, Settings())
    paths = [Path(path) for path in options.paths] or [Path(settings.dir).expanduser()]
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no folder {path}")
    limit_ns = time.time_ns() - options.older_than * journal_clean.DAY_NS
    removed, kept, failed_count, freed_bytes = [], 0, 0, 0
    for run in journal_clean.complete_runs(find_run_folders(paths)):
        if run.end_unix_ns > limit_ns or not (run.is_whole or options.refused):
            kept += 1
            continue
        size_bytes = disk_bytes(run.folder)
        if not options.dry_run and not journal_clean.remove(run):
            failed_count += 1
            _tell(f"{run.folder} cannot be removed whole")
            continue
        freed_bytes += size_bytes
        removed.append({"folder": str(run.folder), "path": run.path, "size_bytes": size_bytes})
        if not options.json:
            print(f"{run.folder.name}  {run.path}  {bytes_text(size_bytes)}")
    for root in paths:
        journal_clean.remove_trash(root)
    if options.json:
        print(json.dumps({"removed": removed, "size_bytes": freed_bytes, "kept": kept}))
    else:
        verb = "would be removed" if options.dry_run else "removed"
        print(
            f"{count_text(len(removed), 'run folder')} {verb}, {bytes_text(freed_bytes)}; {kept} complete kept"
        )
    return 1 if failed_count else 0


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no number of days")
    return days


def _show(options: argparse.Namespace) -> int:
    kinds = _kinds(options.kind)
    segments = segments_of(options.path)
    found = _within(walk(segments, from_sequence=options.first), options.first, options.last)
    if options.stats:
        stats = _Stats(sum(segment.size_bytes for segment in segments), len(segments))
        for one in found:
            stats.take(one)
        stats.print(is_json=options.json)
        return 1 if stats.damages or stats.problem_count else 0
    is_whole = True
    for one in found:
        if isinstance(one, Damage):
            is_whole = False
            sys.stdout.flush()
            _tell(str(one))
        elif not kinds or one.frame.kind in kinds:
            is_whole = is_whole and not one.problem
            fields = describe(one)
            print(json.dumps(fields, ensure_ascii=False) if options.json else _line(fields))
    return 0 if is_whole else 1


def _kinds(names: list[str]) -> set[int]:
    known = {name: kind for kind, name in form.KIND_NAMES.items()}
    kinds = set()
    for name in (part.strip() for text in names for part in text.split(",")):
        if name.upper() in known:
            kinds.add(known[name.upper()])
        elif name.isdigit():
            kinds.add(int(name))
        else:
            raise InvalidArgument(f"--kind {name}: it is one of {', '.join(known)}, or a number")
    return kinds


def _within(
    found: Iterator[Place | Damage], first: int, last: int | None
) -> Iterator[Place | Damage]:
    for one in found:
        if isinstance(one, Damage):
            yield one
            continue
        if last is not None and one.frame.sequence > last:
            return
        if one.frame.sequence >= first:
            yield one


def _line(fields: dict[str, Any]) -> str:
    """Returns the record as one line: sequence, kind, time, then what it holds."""
    words = [f"{fields['sequence']:>8}", f"{fields['kind']:<12}"]
    if "problem" in fields:
        words.append(f"[{fields['problem']}]")
    if "step" in fields:
        words += [time_text(fields["time_unix_ns"]), f"step={fields['step']}"]
        values = fields["values"]
        if isinstance(values, dict):
            words += [f"{_plain(name)}={_float(value)}" for name, value in values.items()]
        else:
            words += [_float(value) for value in values]
    elif "names" in fields:
        words += [f"schema={fields['schema']}", json.dumps(fields["names"], ensure_ascii=False)]
    elif "content" in fields:
        content = fields["content"]
        at_ns = content.get("time_unix_ns") or content.get("start_time_unix_ns")
        words += [time_text(at_ns)] if isinstance(at_ns, int) else []
        words.append(json.dumps(content, ensure_ascii=False))
    else:
        words.append(json.dumps(fields["payload"], ensure_ascii=False))
    return " ".join(words)


def _plain(name: str) -> str:
    return name if name.isprintable() and " " not in name else json.dumps(name, ensure_ascii=False)


def _float(value: Any) -> str:
    return str(value["$float"] if isinstance(value, dict) else value)


def time_text(time_unix_ns: int) -> str:
    """Returns a moment in UTC to the millisecond, or the number where no calendar has it."""
    seconds, rest_ns = divmod(time_unix_ns, 1_000_000_000)
    try:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    except (OverflowError, OSError, ValueError):
        return f"{time_unix_ns}ns"
    return f"{text}.{rest_ns // 1_000_000:03d}Z"


class _Stats:
    """Counts what a journal holds."""

    def __init__(self, size_bytes: int, segment_count: int) -> None:
        self.damages: list[Damage] = []
        self.problem_count = 0
        self._size_bytes = size_bytes
        self._segment_count = segment_count
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._rows: Counter[tuple[str, ...]] = Counter()
        self._sequences: list[int] = []
        self._steps: list[int] = []
        self._times_ns: list[int] = []

    def take(self, one: Place | Damage) -> None:
        """Counts one record, or notes a damage."""
        if isinstance(one, Damage):
            self.damages.append(one)
            return
        frame = one.frame
        kind = form.KIND_NAMES.get(frame.kind, str(frame.kind))
        self._counts[kind] += 1
        self._bytes[kind] += one.size_bytes
        _span(self._sequences, frame.sequence)
        self.problem_count += bool(one.problem)
        if frame.kind == form.ROW and not one.problem:
            _span(self._steps, frame.step)
            _span(self._times_ns, frame.time_unix_ns)
            self._rows[frame.names] += 1

    def print(self, *, is_json: bool) -> None:
        """Prints the counts, on stdout."""
        if is_json:
            print(json.dumps(self._fields(), ensure_ascii=False))
            return
        total = sum(self._counts.values())
        print(f"segments   {self._segment_count:,}, {bytes_text(self._size_bytes)}")
        span = f", {self._sequences[0]:,} to {self._sequences[-1]:,}" if self._sequences else ""
        print(f"records    {total:,}{span}")
        for kind, count in self._counts.most_common():
            print(f"  {kind:<12} {count:>12,}  {bytes_text(self._bytes[kind]):>10}")
        if self._steps:
            print(f"steps      {self._steps[0]:,} to {self._steps[-1]:,}")
            first_ns, last_ns = self._times_ns[0], self._times_ns[-1]
            seconds = (last_ns - first_ns) / 1e9
            print(f"time       {time_text(first_ns)} to {time_text(last_ns)} ({seconds:,.1f} s)")
        points = self._points()
        if points:
            print(f"metrics    {len(points):,}, {sum(points.values()):,} points")
            for name, count in points.most_common(METRIC_COUNT_MAX):
                print(f"  {_plain(name):<32} {count:>12,}")
            if len(points) > METRIC_COUNT_MAX:
                print(f"  +{len(points) - METRIC_COUNT_MAX:,} ...")
        if self.problem_count:
            print(f"problems   {count_text(self.problem_count, 'record')} not as its kind asks for")
        for damage in self.damages:
            print(f"damage     {damage}")

    def _points(self) -> Counter[str]:
        points: Counter[str] = Counter()
        for names, count in self._rows.items():
            for name in names:
                points[name] += count
        return points

    def _fields(self) -> dict[str, Any]:
        return {
            "segments": self._segment_count,
            "size_bytes": self._size_bytes,
            "records": sum(self._counts.values()),
            "first_sequence": self._sequences[0] if self._sequences else None,
            "last_sequence": self._sequences[-1] if self._sequences else None,
            "records_by_kind": dict(self._counts),
            "bytes_by_kind": dict(self._bytes),
            "steps": self._steps or None,
            "times_unix_ns": self._times_ns or None,
            "points_by_metric": dict(self._points()),
            "problems": self.problem_count,
            "damages": [vars(damage) for damage in self.damages],
        }


def _span(span: list[int], value: int) -> None:
    """Widens [lowest, highest] to hold a value."""
    if not span:
        span[:] = [value, value]
    elif value < span[0]:
        span[0] = value
    elif value > span[1]:
        span[1] = value


def _tell(text: str) -> None:
    print(f"runyard: {text}", file=sys.stderr)
