#!/bin/sh
# Makes .venv from uv.lock on a machine that has only a Python >= 3.12 and a network.
# Uses the uv on PATH, or installs one beside the project in .uv; touches nothing outside this folder.
set -eu
cd "$(dirname "$0")/.."
UV_VERSION=0.13.9

say() { printf 'voxshelf: %s\n' "$*" >&2; }

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python; do
        path=$(command -v "$name" 2>/dev/null) || continue
        # sys.executable: a version manager's shim on PATH is not what uv should be given.
        "$path" -c 'import sys; sys.version_info >= (3, 12) and print(sys.executable)' 2>/dev/null | grep . && return 0
    done
    return 1
}

if ! python=$(find_python); then
    say "no Python >= 3.12 was found on PATH (zarr 3.4 needs it)."
    say "hint: install one, for example 'apt install python3.13', 'brew install python@3.13' or 'pyenv install 3.13'."
    exit 1
fi

if uv=$(command -v uv 2>/dev/null); then :; else
    uv=.uv/bin/uv
    if [ ! -x "$uv" ]; then
        say "installing uv $UV_VERSION into .uv"
        "$python" -m venv .uv || { say "this Python has no working venv module; hint: 'apt install python3-venv'."; exit 1; }
        .uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION" || {
            say "could not install uv from PyPI; hint: is there a network, or a proxy that pip should be told of?"
            exit 1
        }
    fi
fi

# The dashboard is for images: Dask shows it wherever it is installed, and then each of the tests' schedulers loads it.
# A link mode of its own: a cache on another file system makes uv warn at each package. Compiled: with
# PYTHONDONTWRITEBYTECODE in the environment each command would otherwise compile its libraries anew, which takes longer
# than to convert a small volume.
UV_LINK_MODE="${UV_LINK_MODE:-copy}" "$uv" sync --quiet --compile-bytecode --locked --all-extras --no-extra dashboard --all-groups --python "$python" || {
    say "the packages of uv.lock could not be installed; hint: is there a network? 'uv sync --locked -v' tells more."
    exit 1
}
touch .venv/.synced
