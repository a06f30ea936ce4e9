"""`runyard artifacts`: lists, shows, fetches, sends, names and deletes artifacts, and shows where they come from."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from runyard.errors import InvalidArgument, NotFound
from runyard.text_format import bytes_text, count_text, iso_time, table_lines

_EPILOG = """\
ARTIFACT is entity/project/name:alias, or :vN, or nothing behind the name for the latest version; parts left out at the
front are the settings'.

exit codes: 0 done; 1 no such artifact, it was refused, the server does not answer; 2 wrong usage
"""


def add_commands(commands: Any, reading: argparse.ArgumentParser) -> None:
    """Adds the commands to those of `runyard`."""
    artifacts = commands.add_parser(
        "artifacts",
        aliases=["artifact"],
        help="look at artifacts, fetch, send, name and delete them",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).add_subparsers(required=True, metavar="COMMAND")

    listing = artifacts.add_parser("ls", parents=[reading], help="list artifacts, or the versions of one")  # fmt: skip
    listing.add_argument("path", nargs="?", help="entity/project (default: the settings'), or with --versions an artifact")  # fmt: skip
    listing.add_argument("--versions", action="store_true", help="list the versions of the artifact")  # fmt: skip
    listing.add_argument("-t", "--type", default="", help="only of this type")
    listing.add_argument("--name", default="", help="only names that contain this")
    listing.add_argument("--limit", type=int, default=100, help="most rows (default 100)")
    listing.set_defaults(call=_ls)

    showing = artifacts.add_parser("show", parents=[reading], help="show a version and its files")
    showing.add_argument("artifact", metavar="ARTIFACT")
    showing.add_argument("--files", type=int, default=20, metavar="N", help="most files shown (default 20)")  # fmt: skip
    showing.set_defaults(call=_show)

    getting = artifacts.add_parser("get", parents=[reading], help="download a version")
    getting.add_argument("artifact", metavar="ARTIFACT")
    getting.add_argument("--root", help="folder to write to (default: artifacts/NAME:vN)")
    getting.add_argument("--prefix", default="", help="only paths that begin so")
    getting.add_argument("--skip-cache", action="store_true", help="go past the cache")
    getting.add_argument("--verify", action="store_true", help="check what lies there, fetch nothing")  # fmt: skip
    getting.set_defaults(call=_get)

    putting = artifacts.add_parser("put", parents=[reading], help="send a file or folder as an artifact")  # fmt: skip
    putting.add_argument("path", help="file, folder, or an address to refer to")
    putting.add_argument("-n", "--name", help="entity/project/name (default: that of the file)")
    putting.add_argument("-t", "--type", default="dataset", help="its type (default dataset)")
    putting.add_argument("-d", "--description", default="", help="what it is")
    putting.add_argument("-a", "--alias", action="append", default=[], help="an alias; repeatable")
    putting.add_argument("--tag", action="append", default=[], help="a label; repeatable")
    putting.set_defaults(call=_put)

    removing = artifacts.add_parser("rm", parents=[reading], help="delete versions, or whole artifacts")  # fmt: skip
    removing.add_argument("artifacts", metavar="ARTIFACT", nargs="+", help="with :vN or an alias that version; else all of it, with --all")  # fmt: skip
    removing.add_argument("--all", action="store_true", help="all versions of artifacts given without one")  # fmt: skip
    removing.add_argument("--with-aliases", action="store_true", help="also versions that have aliases")  # fmt: skip
    removing.set_defaults(call=_rm)

    naming = artifacts.add_parser("alias", parents=[reading], help="move aliases to a version, or take them away")  # fmt: skip
    naming.add_argument("artifact", metavar="ARTIFACT")
    naming.add_argument("aliases", nargs="*", metavar="ALIAS", help="aliases that shall point to it")  # fmt: skip
    naming.add_argument("--remove", action="append", default=[], metavar="ALIAS", help="an alias to take away; repeatable")  # fmt: skip
    naming.set_defaults(call=_alias)

    lineage = artifacts.add_parser("lineage", parents=[reading], help="show which runs made and used it")  # fmt: skip
    lineage.add_argument("path", metavar="ARTIFACT|RUN", help="an artifact with :vN or an alias, or a run")  # fmt: skip
    lineage.add_argument("--depth", type=int, default=3, help="how many links far (default 3)")
    lineage.set_defaults(call=_lineage)


def _ls(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        if options.versions:
            found = api.artifact_versions(options.path or "", type=options.type or None)
        else:
            found = api.artifacts(options.path, options.type or None, name_contains=options.name)
    rows = [_row(artifact) for artifact in found[: options.limit]]
    if options.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    if not rows:
        print("no artifacts")
        return 0
    cells = [("NAME", "TYPE", "ALIASES", "FILES", "SIZE", "CREATED")]
    cells += [
        (
            row["name"],
            row["type"],
            ", ".join(row["aliases"]) or "-",
            f"{row['file_count']:,}",
            bytes_text(row["size_bytes"]),
            row["created_at"] or "?",
        )
        for row in rows
    ]
    print("\n".join(table_lines(cells, right=(3, 4))))
    if len(found) > len(rows):
        print(f"+{len(found) - len(rows)} ...")
    return 0


def _show(options: argparse.Namespace) -> int:
    from runyard import extended_json
    from runyard.api import Api

    with Api(options.base_url) as api:
        artifact = api.artifact(options.artifact)
    entries = artifact._remote().entries(count_max=options.files)[: options.files]
    record = artifact._version_record()
    fields = {
        **_row(artifact),
        "digest": artifact.digest,
        "added_bytes": record.added_bytes,
        "description": artifact.description,
        "metadata": artifact.metadata,
        "tags": list(artifact.tags),
        "logged_by": record.logged_by,
        "expires_at": iso_time(record.expire_time_s),
    }
    if options.json:
        listed = [_entry_fields(entry) for entry in entries]
        print(extended_json.dumps(extended_json.plain({**fields, "files": listed})))
        return 0
    for name, value in fields.items():
        if value in (None, "", [], {}):
            continue
        if name.endswith("_bytes"):
            print(f"{name[: -len('_bytes')]}: {bytes_text(value)}")
        else:
            print(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
    print("files:")
    cells = [
        (one.path, bytes_text(one.size) if one.size or not one.ref else "?", one.ref)
        for one in entries
    ]
    print("\n".join(f"  {line}" for line in table_lines(cells)))
    if artifact.file_count > len(cells):
        print(f"  +{artifact.file_count - len(cells):,} ...")
    return 0


def _get(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        artifact = api.artifact(options.artifact)
        if options.verify:
            artifact.verify(options.root)
            root, done = options.root, "is as it was logged"
        else:
            root = artifact.download(
                options.root, path_prefix=options.prefix or None, skip_cache=options.skip_cache
            )
            done = f"is in {root}"
    if options.json:
        print(json.dumps({"artifact": artifact.qualified_name, "root": root}))
    else:
        print(
            f"{artifact.qualified_name} ({count_text(artifact.file_count, 'file')}, {bytes_text(artifact.size)}) {done}"
        )
    return 0


def _put(options: argparse.Namespace) -> int:
    import runyard

    parts = (options.name or "").split("/")
    if len(parts) > 3:
        raise InvalidArgument(f"{options.name!r} is no name of an artifact: entity/project/name")
    entity, project, name = ["", "", *parts][-3:]
    run = runyard.init(
        entity=entity or None,
        project=project or None,
        job_type="artifact_put",
        settings=runyard.Settings(
            base_url=options.base_url,
            console="off",
            silent=True,
            system_interval_s=0,
            mode="online",
        ),
    )
    try:
        artifact = runyard.Artifact(
            name or _name_of(options.path), options.type, description=options.description
        )
        if "://" in options.path:
            artifact.add_reference(options.path)
        elif Path(options.path).is_dir():
            artifact.add_dir(options.path, policy="immutable")
        else:
            artifact.add_file(options.path, policy="immutable")
        run.log_artifact(artifact, aliases=options.alias, tags=options.tag)
        artifact.wait()
    finally:
        run.finish()
    if options.json:
        print(json.dumps(_row(artifact)))
    else:
        print(
            f"{artifact.qualified_name} ({count_text(artifact.file_count, 'file')}, {bytes_text(artifact.size)})"
        )
    return 0


def _rm(options: argparse.Namespace) -> int:
    from runyard.api import Api
    from runyard.artifacts.records import DeletionReceipt

    whole = [path for path in options.artifacts if ":" not in path]
    if whole and not options.all:
        raise InvalidArgument(
            f"{whole[0]!r} names no version: give :vN or an alias, or --all for all its versions"
        )
    total = DeletionReceipt(0, 0, 0, 0, 0)
    with Api(options.base_url) as api:
        for path in options.artifacts:
            total = total.plus(api.delete_artifact(path, delete_aliases=options.with_aliases))
    if options.json:
        print(json.dumps(dataclasses.asdict(total)))
        return 0
    print(
        f"deleted {count_text(total.deleted_count, 'version')}: freed {bytes_text(total.freed_bytes)} in "
        f"{count_text(total.freed_objects, 'object')}; {bytes_text(total.shared_bytes)} stay, for other versions have them"
    )
    return 0


def _alias(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        artifact = api.artifact(options.artifact)
        gone = set(options.remove)
        unknown = sorted(gone.difference(artifact.aliases))
        if unknown:
            raise InvalidArgument(
                f"{artifact.qualified_name} has no alias {unknown[0]!r}; it has {', '.join(artifact.aliases) or 'none'}"
            )
        artifact.aliases = [
            *(alias for alias in artifact.aliases if alias not in gone),
            *options.aliases,
        ]
        artifact.save()
    if options.json:
        print(json.dumps(_row(artifact)))
    else:
        print(f"{artifact.qualified_name}: {', '.join(artifact.aliases) or 'no aliases'}")
    return 0


def _lineage(options: argparse.Namespace) -> int:
    from runyard.api import Api

    with Api(options.base_url) as api:
        try:
            lineage = api.lineage(options.path, options.depth)
        except NotFound:
            if ":" in options.path:
                raise
            # A path without an alias may be that of a run, or of an artifact's latest version.
            lineage = api.lineage(f"{options.path}:latest", options.depth)
    if options.json:
        print(json.dumps(dataclasses.asdict(lineage)))
        return 0
    if not lineage.links:
        print("no links")
        return 0
    types = {version.path: version.type for version in lineage.versions}
    cells = [("RUN", "", "ARTIFACT", "TYPE", "WHEN")]
    cells += [
        (
            link.run_path,
            link.kind,
            link.version_path,
            types.get(link.version_path, ""),
            iso_time(link.create_time_s) or "?",
        )
        for link in lineage.links
    ]
    print("\n".join(table_lines(cells)))
    if lineage.is_cut:
        print("... and more: --depth with a smaller number shows what is nearer whole")
    return 0


def _row(artifact: Any) -> dict[str, Any]:
    return {
        "path": artifact.qualified_name,
        "name": artifact.name,
        "type": artifact.type,
        "version": artifact.version,
        "aliases": list(artifact.aliases),
        "file_count": artifact.file_count,
        "size_bytes": artifact.size,
        "created_at": artifact.created_at,
    }


def _entry_fields(entry: Any) -> dict[str, Any]:
    return {
        "path": entry.path,
        "size_bytes": entry.size,
        "digest": entry.digest,
        "reference": entry.ref,
    }


def _name_of(path: str) -> str:
    import re

    last = Path(path.rstrip("/")).absolute().name
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last)[:128]
