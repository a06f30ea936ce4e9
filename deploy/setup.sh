#!/bin/sh
# Makes a checkout's environments: `deploy/setup.sh venv|frameworks FOLDER LOCK` or `deploy/setup.sh node`. Called by the Makefile.
#
# venv: a virtual environment of Python 3.11 or newer, filled from a lock file with hashes. Installs and never removes, so
#       that it is safe while something runs in the environment.
# frameworks: the same with exactly what the lock says, and with empty CUDA libraries for torch where the real ones are not there.
# node: prints the folder that holds node (20 or newer) and npm: the machine's, or those of a wheel put into .venv.
set -eu

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# Prints an interpreter whose version lies between $1 and $2 (as 3MM), or nothing. PYTHON, if given, is the only candidate.
find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "
import sys
raise SystemExit(not $1 <= sys.version_info[0] * 100 + sys.version_info[1] <= $2)" 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
}

make_venv() {
    folder=$1 lock=$2 newest=${3:-399}
    if [ ! -x "$folder/bin/python" ]; then
        python=$(find_python 311 "$newest")
        if [ -z "$python" ]; then
            [ "$newest" = 399 ] || fail "$folder needs Python 3.11 to 3.${newest#3} (what it holds has wheels for no newer one); none was found"
            fail "Python 3.11 or newer is needed; found: $(python3 --version 2>&1 || echo none). Install it, or say which: make setup PYTHON=/path/to/python3.11"
        fi
        say "making $folder with $("$python" --version)"
        if ! "$python" -m venv "$folder"; then
            rm -rf "$folder"
            fail "'$python -m venv' failed; on Debian and Ubuntu: apt install python3-venv"
        fi
    fi
    if [ ! -x "$folder/bin/uv" ]; then
        say "installing uv (pinned) into $folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
    fi
    say "installing $(grep -c '==' "$lock") locked packages into $folder (a few hundred MB the first time)"
    # shellcheck disable=SC2086  # no flag, or one
    "$folder/bin/uv" pip install ${flags:-} --python "$folder/bin/python" --require-hashes -r "$lock"
}

make_frameworks() {
    flags=--no-deps
    make_venv "$1" "$2" 313
    "$1/bin/python" deploy/cuda_stubs.py || say "no empty CUDA libraries could be made (cc, nm and readelf are needed): torch will not import"
}

find_node() {
    if command -v npm >/dev/null 2>&1 && node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' 2>/dev/null; then
        dirname "$(command -v npm)"
        return 0
    fi
    if [ ! -x .venv/bin/npm ]; then
        say "no node 20 or newer with npm on this machine: installing one from a wheel into .venv"
        .venv/bin/uv pip install --python .venv/bin/python --require-hashes -r requirements/node.txt >&2
    fi
    printf '%s/.venv/bin\n' "$(pwd)"
}

case "${1:-}" in
    venv) shift; make_venv "$@" ;;
    frameworks) shift; make_frameworks "$@" ;;
    node) find_node ;;
    *) fail "usage: deploy/setup.sh venv FOLDER LOCK [NEWEST] | frameworks FOLDER LOCK | node" ;;
esac
