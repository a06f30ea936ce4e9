"""Our own lint: what ruff and mypy cannot ask. Each failure says where, and what to do instead.

The limits are ratchets: a row in an allowance may only shrink; nothing new is added to one.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
POSITIONAL_PARAMETERS_MAX = 5
# What was longer when the ratchet came, by path or path::function. May only shrink.
LONG_MODULES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}
GENERATED = ("protos/python/", "clients/web/src/gen/", "clients/typescript/src/gen/")
BANNED_MODULES = {"common", "util", "utils", "helper", "helpers", "misc", "base", "core"}
BANNED_CLASS_ENDS = ("Manager", "Helper", "Impl", "Util", "Utils")
# Docstrings of public names are in the third person: "Returns", not "Return".
IMPERATIVES = (
    "Return", "Get", "Make", "Read", "Write", "Create", "Set", "Add", "Check", "Compute", "Send", "Start", "Stop",
)  # fmt: skip
# The edges where anything may be caught: interceptor, background task, the SDK's public edge, main.
BROAD_EXCEPT_ALLOWED = (
    "services/runyard_server/rpc/interceptors.py",
    "services/runyard_server/process/",
    "clients/python/src/runyard/",
    "bench/",
    "tests/",
)
# Joined here, so that this file does not hold what it forbids.
MACHINE_PATHS = tuple("/".join(("", part, "")) for part in ("work", "root", "farm"))
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs"),
        ("deb", "debian"),
        ("proxy", "golang"),
        ("static", "crates"),
    )
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
TYPE_IGNORE = re.compile(r"#\s*type:\s*ignore(\[[^\]]+\])?(.*)")


@cache
def tracked_files() -> tuple[str, ...]:
    """Returns the paths that git knows or would add, generated code included."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return tuple(sorted(p for p in set(done.stdout.split("\0")) if p and (CHECKOUT / p).is_file()))


@cache
def python_files() -> tuple[str, ...]:
    return tuple(p for p in tracked_files() if p.endswith(".py") and not p.startswith(GENERATED))


@cache
def text_of(path: str) -> str:
    return (CHECKOUT / path).read_text(encoding="utf-8", errors="replace")


@cache
def tree_of(path: str) -> ast.Module:
    return ast.parse(text_of(path), filename=path)


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(path: str) -> Iterator[Function]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, Function):
            yield node


def assert_none(problems: list[str], advice: str) -> None:
    assert not problems, f"{advice}\n" + "\n".join(problems)


def test_modules_stay_short() -> None:
    """No module is longer than the limit; one that was may only shrink."""
    problems = []
    for path in python_files():
        lines = text_of(path).count("\n")
        if lines > LONG_MODULES.get(path, MODULE_LINES_MAX):
            problems.append(f"{path}: {lines} lines, at most {MODULE_LINES_MAX}")
    assert_none(problems, "split by noun or verb; see docs/style.md, Size")


def test_functions_stay_short() -> None:
    """No function is longer than the limit; one that was may only shrink."""
    problems = []
    for path in python_files():
        for node in functions_of(path):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            limit = LONG_FUNCTIONS.get(f"{path}::{node.name}", FUNCTION_LINES_MAX)
            if lines > limit:
                problems.append(f"{path}:{node.lineno} {node.name}: {lines} lines, at most {limit}")
    assert_none(problems, "the parent decides, leaves compute; see docs/style.md, Size")


def test_parameters_are_few() -> None:
    """No function takes more than five positional parameters, self left out."""
    problems = []
    for path in python_files():
        for node in functions_of(path):
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
            count = len(names) - (bool(names) and names[0] in ("self", "cls"))
            # Fixtures are parameters by name, never by position.
            if count > POSITIONAL_PARAMETERS_MAX and not node.name.startswith("test_"):
                problems.append(f"{path}:{node.lineno} {node.name}: {count} positional parameters")
    assert_none(problems, "make the further ones keyword-only")


def test_names_say_something() -> None:
    """No module and no class has a name that says nothing."""
    problems = []
    for path in python_files():
        for part in (*Path(path).parts[:-1], Path(path).stem):
            if part in BANNED_MODULES:
                problems.append(f"{path}: a module named {part!r} says nothing of what it holds")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and node.name.endswith(BANNED_CLASS_ENDS):
                problems.append(f"{path}:{node.lineno} class {node.name}")
    assert_none(problems, "name it by the noun it is; see docs/style.md, Names")


def test_docstrings_are_in_the_third_person() -> None:
    """A docstring of a function says "Returns", as the comments of protos do."""
    problems = []
    for path in python_files():
        for node in functions_of(path):
            first = (ast.get_docstring(node) or "").split(" ", 1)[0].rstrip(".,:")
            if first in IMPERATIVES:
                problems.append(f"{path}:{node.lineno} {node.name}: {first!r}")
    assert_none(problems, "third person: Returns, Makes, Reads")


def test_broad_excepts_stand_at_the_edges_only() -> None:
    """`except Exception` stands at an interceptor, a background task, the SDK's public edge, or main."""
    problems = []
    for path in python_files():
        if path.startswith(BROAD_EXCEPT_ALLOWED):
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (
                    isinstance(node.type, ast.Name)
                    and node.type.id in ("Exception", "BaseException")
                )
            ):
                # A comment on the line is the argument for one more background-task edge.
                line = text_of(path).splitlines()[node.lineno - 1]
                if "#" not in line:
                    problems.append(f"{path}:{node.lineno} {line.strip()}")
    assert_none(problems, "catch what you expect; or say on the line which edge this is")


def test_type_ignores_say_why() -> None:
    """Each `type: ignore` names its code and gives a reason."""
    problems = []
    for path in python_files():
        if path == "tests/unit/test_tidy.py":
            continue
        for number, line in enumerate(text_of(path).splitlines(), 1):
            found = TYPE_IGNORE.search(line)
            if found and (found[1] is None or "#" not in found[2]):
                problems.append(f"{path}:{number} {line.strip()}")
    assert_none(problems, "write `# type: ignore[code]  # why`")


def test_names_are_imported_from_where_they_are_made() -> None:
    """No module of the server hands on a name that it imported: `import x as x` does nothing else."""
    problems = [
        f"{path}:{node.lineno} {alias.name}"
        for path in python_files()
        if path.startswith("services/")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    ]
    assert_none(problems, "import the name from the module that makes it")


def test_no_module_is_empty() -> None:
    """No module but a package's marker is empty."""
    problems = [
        path
        for path in python_files()
        if not path.endswith("__init__.py") and len(tree_of(path).body) < 2
    ]
    assert_none(problems, "a file that holds nothing is dead: remove it")


def test_links_in_documents_lead_somewhere() -> None:
    """Every relative link of every document names a file or folder that is there."""
    problems = []
    for path in tracked_files():
        if not path.endswith(".md"):
            continue
        for target in LINK.findall(text_of(path)):
            if "://" in target or target.startswith(("#", "mailto:")):
                continue
            if not ((CHECKOUT / path).parent / target.split("#", 1)[0]).exists():
                problems.append(f"{path}: {target}")
    assert_none(problems, "dead links")


def test_nothing_names_a_machine_or_a_registry() -> None:
    """No tracked text holds a path of somebody's machine or the host of a package registry."""
    problems = []
    for path in tracked_files():
        if path in ("LICENSE",) or Path(path).suffix in (".png", ".ico", ".woff2", ".bin"):
            continue
        text = text_of(path)
        for word in (*MACHINE_PATHS, *REGISTRY_HOSTS):
            # A web address may well have a segment of that name; a path of a machine starts there.
            pattern = (
                rf"(?<![\w.}}/)-]){re.escape(word)}" if word.startswith("/") else re.escape(word)
            )
            found = re.search(pattern, text)
            if found:
                number = text.count("\n", 0, found.start()) + 1
                problems.append(f"{path}:{number} {word}")
    assert_none(problems, "the repository must work elsewhere")


@pytest.mark.parametrize("name", ["dev", "integrations", "node", "protos", "uv"])
def test_python_locks_have_hashes_and_no_addresses(name: str) -> None:
    """Each locked package is pinned with at least one hash, and no line says where it comes from."""
    text = text_of(f"requirements/{name}.txt")
    assert "://" not in text
    assert not re.search(r"^\s*(-e|-f|-i|--(extra-)?index-url|--find-links)\b", text, re.MULTILINE)
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", text.strip())
    assert blocks
    unpinned = [b.split("\n")[0] for b in blocks if "==" not in b or "--hash=sha256:" not in b]
    assert_none(unpinned, "make lock")


def test_the_locks_hold_what_the_distributions_need() -> None:
    """Each dependency of our distributions is in the lock, so that `make setup` with --no-deps is enough."""
    locked = {
        _normal(line.split("==")[0])
        for line in text_of("requirements/dev.txt").splitlines()
        if re.match(r"[a-zA-Z0-9]", line)
    }
    problems = []
    for distribution in ("protos", "services", "clients/python"):
        project = tomllib.loads(text_of(f"{distribution}/pyproject.toml"))["project"]
        for requirement in project["dependencies"]:
            name = _normal(re.split(r"[\[<>=!~; ]", requirement)[0])
            if name not in locked and name != "runyard-protos":
                problems.append(f"{distribution}: {requirement}")
    assert_none(problems, "make lock")


def test_node_locks_have_no_addresses() -> None:
    """A package-lock.json says what, by integrity, and not where from."""
    problems = []
    for path in tracked_files():
        if Path(path).name != "package-lock.json":
            continue
        for name, package in json.loads(text_of(path))["packages"].items():
            if name and not package.get("link") and "integrity" not in package:
                problems.append(f"{path}: {name} has no integrity")
            if "://" in str(package.get("resolved", "")):
                problems.append(f"{path}: {name} says where it comes from")
    assert_none(
        problems, "npm with omit-lockfile-registry-resolved=true, as .npmrc of the package says"
    )


def test_the_client_says_which_python_it_needs() -> None:
    """Nothing in the client needs more than Python 3.9 to be parsed."""
    problems = []
    for path in python_files():
        if path.startswith("clients/python/src/"):
            try:
                ast.parse(text_of(path), filename=path, feature_version=(3, 9))
            except SyntaxError as error:
                problems.append(f"{path}:{error.lineno} {error.msg}")
            if "from __future__ import annotations" not in text_of(path) and any(
                functions_of(path)
            ):
                problems.append(f"{path}: has no `from __future__ import annotations`")
    assert_none(problems, "training machines have old Pythons")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower().strip()
