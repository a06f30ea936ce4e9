"""`runyard files`: lists, gets, puts and removes the files of a run."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from runyard.errors import Error, InvalidArgument, NotFound
from runyard.file_names import check_name
from runyard.paths import run_path
from runyard.settings import Settings, is_terminal_plain, resolve
from runyard.text_format import bar_text, bytes_text, count_text, iso_time, table_lines

DRAW_INTERVAL_S = 0.1
DELETE_COUNT_MAX = 1000
"""Names that one request removes."""
_EPILOG = """\
PATTERN is a name, a folder that ends in /, or a glob such as "*.pt", in which * stands for / too.

exit codes: 0 done; 1 no such run or file, something failed, the server does not answer; 2 wrong usage
"""


def add_commands(commands: Any, reading: argparse.ArgumentParser) -> None:
    """Adds the commands to those of `runyard`."""
    files = commands.add_parser("files", help="look at the files of runs").add_subparsers(
        required=True, metavar="COMMAND"
    )

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = files.add_parser(
            name,
            parents=[reading],
            help=summary,
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("path", help="entity/project/run_id")
        return parser

    listing = add("ls", "list the files of a run, by name")
    listing.add_argument("pattern", nargs="*", metavar="PATTERN", help="only these")
    listing.set_defaults(call=_ls)
    getting = add("get", "download files of a run, checked by SHA-256")
    getting.add_argument("pattern", nargs="*", metavar="PATTERN", help="only these; else all")
    getting.add_argument("--root", default=".", help="folder to put them under (default: here)")
    getting.add_argument("--replace", action="store_true", help="replace files that are there")
    getting.set_defaults(call=_get)
    putting = add("put", "upload files into a run that the server knows")
    putting.add_argument("file", nargs="+", metavar="FILE", help="file, or folder with all in it")
    putting.add_argument("--base", help="folder that names are relative to (default: here)")
    putting.set_defaults(call=_put)
    removing = add("rm", "remove files of a run, and free their bytes")
    removing.add_argument("pattern", nargs="+", metavar="PATTERN", help="only these")
    removing.add_argument("-y", "--yes", action="store_true", help="do not ask")
    removing.set_defaults(call=_rm)


def _ls(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        found = _matching(api.run(options.path).files(), options.pattern)
    if options.json:
        print(json.dumps([dataclasses.asdict(file.record) for file in found], ensure_ascii=False))
        return 0
    if not found:
        print("no files")
        return 0
    rows = [("size", "changed", "name")]
    for file in found:
        changed = (iso_time(file.record.update_time_s) or "")[:19].replace("T", " ")
        rows.append((bytes_text(file.size_bytes), changed, _printable(file.name)))
    print("\n".join(table_lines(rows, right={0})))
    print(f"{count_text(len(found), 'file')}, {bytes_text(sum(f.size_bytes for f in found))}")
    return 0


def _get(options: argparse.Namespace) -> int:
    from runyard.api import Api

    failed: dict[str, str] = {}
    paths: list[str] = []
    with Api(options.base_url) as api:
        found = _matching(api.run(options.path).files(), options.pattern)
        _check_found(found, options)
        bar = _Bar(sum(file.size_bytes for file in found), is_quiet=options.json)
        done_bytes = 0
        for number, file in enumerate(found, start=1):
            label = f"{number} of {count_text(len(found), 'file')}"
            try:
                path = file.download(
                    options.root,
                    replace=options.replace,
                    told=lambda part, before=done_bytes, said=label: bar.show(before + part, said),
                )
                paths.append(str(path))
            except (Error, OSError) as error:
                failed[file.name] = str(error)
            done_bytes += file.size_bytes
        bar.clear()
    return _told(options, "downloaded", paths, failed)


def _put(options: argparse.Namespace) -> int:
    from runyard.run_files import files_to_save

    warnings: list[str] = []
    named: dict[str, Path] = {}
    for given in options.file:
        if not os.path.lexists(given):
            raise NotFound(f"there is no file {given!r}", reason="FILE_NOT_FOUND")
        base = options.base or (str(Path(given).parent) if Path(given).is_absolute() else ".")
        for path, name in files_to_save(
            _literal(given), base, lambda key, text: warnings.append(text.replace("save(): ", ""))
        ):
            named[name] = path
    if not options.json:
        for text in warnings:
            print(f"runyard: {text}", file=sys.stderr)
    if not named:
        raise InvalidArgument("there is nothing to upload", reason="FIELD_INVALID")
    settings = resolve({"base_url": options.base_url}, Settings())
    path_of_run = run_path(options.path, settings)
    failed = asyncio.run(_upload(named, path_of_run, settings, is_quiet=options.json))
    return _told(options, "uploaded", [name for name in named if name not in failed], failed)


async def _upload(
    named: dict[str, Path], path_of_run: str, settings: Any, *, is_quiet: bool
) -> dict[str, str]:
    """Sends the files with what the agent sends them with; returns why which were not."""
    from runyard.agent.content_upload import ContentUploads, Progress
    from runyard.agent.disk import LocalDisk
    from runyard.agent.files import RunFile, UploadCalls
    from runyard.agent.retry import Reach, Repeater
    from runyard.agent.transport import ServerTransport

    transport = ServerTransport(settings.base_url, api_key=settings.api_key)
    reach = Reach(time.monotonic)
    contents = ContentUploads(transport, Repeater(reach, draw=lambda: 0.5), LocalDisk())
    progress = {
        name: Progress(bytes_total=path.stat().st_size)
        for name, path in named.items()
        if path.exists()
    }
    bar = _Bar(sum(one.bytes_total for one in progress.values()), is_quiet=is_quiet)
    failed: dict[str, str] = {}
    calls, senders = UploadCalls(transport, path_of_run), dict[bytes, asyncio.Event]()
    waiting = iter(list(named.items()))

    async def send_some() -> None:
        for name, path in waiting:
            destination = RunFile(calls, name, senders)
            try:
                await contents.send(str(path), destination, progress=progress.get(name))
            except (Error, OSError) as error:
                failed[name] = str(error)
            finally:
                destination.leave()

    tasks = [asyncio.ensure_future(send_some()) for _ in range(4)]
    try:
        while not all(task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=DRAW_INTERVAL_S)
            said = "" if reach.is_reachable is not False else f"waits: {reach.message}"
            bar.show(sum(one.bytes_done for one in progress.values()), said)
        await asyncio.gather(*tasks)
    finally:
        bar.clear()
        for task in tasks:
            task.cancel()
        await calls.stop()
        await transport.close()
    return failed


def _rm(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        run = api.run(options.path)
        found = _matching(run.files(), options.pattern)
        _check_found(found, options)
        size_bytes = sum(file.size_bytes for file in found)
        if not options.yes and not options.json:
            what = f"{count_text(len(found), 'file')} ({bytes_text(size_bytes)})"
            print(f"This removes {what} of {run.path} for good.", file=sys.stderr)
            if not sys.stdin.isatty():
                print("runyard: not removed: give --yes", file=sys.stderr)
                return 1
            if input("Remove? [y/N] ").strip().lower() not in ("y", "yes"):
                return 1
        deleted_count = freed_bytes = 0
        names = [file.name for file in found]
        for first in range(0, len(names), DELETE_COUNT_MAX):
            count, freed = run.delete_files(names[first : first + DELETE_COUNT_MAX])
            deleted_count, freed_bytes = deleted_count + count, freed_bytes + freed
    if options.json:
        print(json.dumps({"deleted": deleted_count, "freed_bytes": freed_bytes}))
    else:
        print(f"removed {count_text(deleted_count, 'file')}, freed {bytes_text(freed_bytes)}")
    return 0


def _matching(files: Sequence[Any], patterns: Sequence[str]) -> list[Any]:
    """Returns the files that any of the patterns means, all if there is none."""
    if not patterns:
        return list(files)
    wanted = [check_name(p.rstrip("/"), "PATTERN") + "/" * p.endswith("/") for p in patterns]
    return [file for file in files if any(_is_meant(file.name, pattern) for pattern in wanted)]


def _is_meant(name: str, pattern: str) -> bool:
    if pattern.endswith("/"):
        return name.startswith(pattern)
    return name == pattern or fnmatchcase(name, pattern)


def _check_found(found: Sequence[Any], options: argparse.Namespace) -> None:
    if not found:
        what = ", ".join(options.pattern) or "any name"
        raise NotFound(f"run {options.path} has no file of {what}", reason="FILE_NOT_FOUND")


def _told(
    options: argparse.Namespace, verb: str, done: Sequence[str], failed: dict[str, str]
) -> int:
    """Says what was done and what was not; returns the exit code."""
    if options.json:
        print(json.dumps({verb: list(done), "failed": failed}, ensure_ascii=False))
        return 1 if failed else 0
    for name, why in failed.items():
        print(f"runyard: {_printable(name)}: {why}", file=sys.stderr)
    print(f"{verb} {count_text(len(done), 'file')}" + (f", {len(failed)} failed" * bool(failed)))
    return 1 if failed else 0


def _literal(path: str) -> str:
    import glob

    return glob.escape(path) if glob.has_magic(path) else path


def _printable(text: str) -> str:
    """Returns a name from a server without what a terminal would act on."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class _Bar:
    """A bar on stderr, where that is a terminal."""

    def __init__(self, total_bytes: int, *, is_quiet: bool) -> None:
        self._total_bytes = total_bytes
        self._is_shown = not is_quiet and sys.stderr.isatty() and not is_terminal_plain()
        self._start_s = time.monotonic()
        self._next_s = 0.0

    def show(self, done_bytes: int, said: str) -> None:
        now_s = time.monotonic()
        if not self._is_shown or now_s < self._next_s:
            return
        self._next_s = now_s + DRAW_INTERVAL_S
        rate = done_bytes / max(0.001, now_s - self._start_s)
        text = (
            f"{bar_text(done_bytes, self._total_bytes, sys.stderr)} {bytes_text(done_bytes)} of "
            f"{bytes_text(self._total_bytes)}, {bytes_text(rate)}/s {said}"
        )
        sys.stderr.write(f"\r\x1b[K{text[:100]}")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
