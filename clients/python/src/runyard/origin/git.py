"""The state of the git repository that a script was started in, as the git program tells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyard.host import git_state, without_credentials
from runyard.origin.programs import Answer, ask

TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = 8 << 20
UNTRACKED_COUNT_MAX = 1_000
UNTRACKED_BYTES_MAX = 32 << 10
"""Of the names together: they are part of the run's document."""
SUBMODULE_COUNT_MAX = 100
_LOCAL_VARIABLES = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR",
    "GIT_PREFIX", "GIT_NAMESPACE", "GIT_EXTERNAL_DIFF", "GIT_TRACE",
)  # fmt: skip
"""What tells of another repository, as in a hook that starts the script, or has more printed."""
_SUBMODULE_STATES = {" ": "as committed", "+": "another commit", "-": "not there", "U": "conflict"}


class Repository:
    """Asks git about the repository around a folder, and changes nothing in it."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = {
            **{name: value for name, value in environ.items() if name not in _LOCAL_VARIABLES},
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_PAGER": "cat",
            "LC_ALL": "C",
        }

    def ask(self, *arguments: str, bytes_max: int = ANSWER_BYTES_MAX) -> Answer:
        """Returns git's answer."""
        # fsmonitor would start a program that the repository names, and leave it running.
        command = ["git", "--no-pager", "-c", "core.fsmonitor=false", *arguments]
        return ask(
            command,
            folder=self._folder,
            environ=self._environ,
            timeout_s=TIMEOUT_S,
            bytes_max=bytes_max,
        )

    def facts(self, own_root: Path | None = None) -> dict[str, Any]:
        """Returns remote, branch, commit, what is changed, untracked and in submodules; {} outside of a repository.

        `problem` says what could not be told, and why; what can be read without git is told all the same. `own_root` is the
        journals' folder, which is not counted as untracked.
        """
        known: dict[str, Any] = dict(git_state(self._folder))
        inside = self.ask("rev-parse", "--is-inside-work-tree")
        if inside.problem:
            is_outside = "not a git repository" in inside.problem and not known
            no_program = inside.is_missing and not known
            return {} if is_outside or no_program else {**known, "problem": inside.problem}
        commit = self.ask("rev-parse", "--verify", "--quiet", "HEAD").text
        branch = self.ask("symbolic-ref", "--quiet", "--short", "HEAD").text
        facts = {"remote": self._remote(branch), "branch": branch, "commit": commit}
        facts = {name: value for name, value in facts.items() if value}
        if inside.text != "true":
            return {**facts, "problem": "the repository has no working tree"}
        top = self.ask("rev-parse", "--show-toplevel").text
        if not top:
            return {**facts, "problem": "the repository does not tell its folder"}
        self._folder = Path(top)
        if not commit:
            facts["problem"] = "the branch has no commit yet"
        facts.update(self._changes(own_root))
        if (self._folder / ".gitmodules").exists():
            facts.update(self._submodules())
        return facts

    def diff(self, bytes_max: int) -> Answer:
        """Returns what differs from the commit, without the contents of binary files; after `facts`, of the whole repository."""
        return self.ask(
            "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short",
            "--src-prefix=a/", "--dst-prefix=b/", bytes_max=bytes_max,
        )  # fmt: skip

    def _remote(self, branch: str) -> str:
        """Returns the address of "origin", else of the branch's remote, else of the first one, without credentials."""
        names = self.ask("remote").text.splitlines()
        if not names:
            return ""
        own = self.ask("config", "--get", f"branch.{branch}.remote").text if branch else ""
        name = next((name for name in ("origin", own) if name in names), names[0])
        return without_credentials(self.ask("config", "--get", f"remote.{name}.url").text)

    def _changes(self, own_root: Path | None) -> dict[str, Any]:
        answer = self.ask("status", "--porcelain=v2", "-z", "--untracked-files=normal")
        if answer.problem:
            return {"problem": f"git status: {answer.problem}"}
        changed_count, untracked = 0, []
        entries = iter(answer.output.split(b"\0"))
        for entry in entries:
            kind = entry[:2]
            if kind == b"? ":
                name = entry[2:].decode("utf-8", "replace")
                if own_root is None or (self._folder / name).resolve() != own_root:
                    untracked.append(name)
            elif kind in (b"1 ", b"2 ", b"u "):
                changed_count += 1
                if kind == b"2 ":
                    next(entries, b"")  # the name before
        facts: dict[str, Any] = {"is_dirty": changed_count > 0}
        if changed_count:
            facts["changed_count"] = changed_count
        if untracked:
            facts["untracked_count"] = len(untracked)
            facts["untracked"] = _first(untracked)
        return facts

    def _submodules(self) -> dict[str, Any]:
        answer = self.ask("submodule", "status")
        if answer.problem:
            return {"submodules_problem": answer.problem}
        found = []
        for line in answer.output.decode("utf-8", "replace").splitlines()[:SUBMODULE_COUNT_MAX]:
            commit, _, rest = line[1:].partition(" ")
            path = rest.rpartition(" (")[0] if rest.endswith(")") else rest
            state = _SUBMODULE_STATES.get(line[:1], "")
            found.append({"path": path, "commit": commit, "state": state})
        return {"submodules": found} if found else {}


def _first(names: list[str]) -> list[str]:
    """Returns the first names, as many as a run's document has room for."""
    kept, size_bytes = [], 0
    for name in names[:UNTRACKED_COUNT_MAX]:
        size_bytes += len(name.encode("utf-8", "replace"))
        if size_bytes > UNTRACKED_BYTES_MAX:
            break
        kept.append(name)
    return kept
