"""Probes voxshelf and its peers on the same store, and writes the table of docs/conformance.md.

    python tests/conformance/peers.py --into docs/conformance.md

makes a synthetic mirror, installs the peers of ``peers/requirements.txt`` in an environment of their own in the user's
cache, starts each in front of the upstream that fails on demand, and runs all probes. nginx has to be installed
(``apt-get install nginx-light``); without it its columns are left out. `voxshelf` is found beside this Python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
STORE = "subjects/0001.ome.zarr/pet/scale0"
MARK = "<!-- made by `make conformance-peers` -->"
MARKS = {"pass": "yes", "fail": "**no**", "skip": "-"}


class Peer(NamedTuple):
    """A server to compare: how to start it, and where it serves the store."""

    name: str
    command: str
    at: str


def peers(python: Path, mirror: Path) -> list[Peer]:
    """Return the servers, ours first."""
    nginx = f"{sys.executable} {HERE}/peers/nginx.py"
    return [
        Peer("voxshelf", f"{BIN}/voxshelf serve {{upstream}} --port {{port}}", "zarr/0001.ome.zarr/pet/scale0"),
        Peer("nginx, files", f"{nginx} {mirror} {{port}}", STORE),
        Peer("nginx, proxy", f"{nginx} {{origin}} {{port}}", f"conformance/{STORE}"),
        Peer("zarr-http-server", f"{python} {HERE}/peers/serve_zarr_http_server.py {{upstream}}/{STORE} {{port}}", ""),
        Peer(
            "xpublish-zarr",
            f"{python} {HERE}/peers/serve_xpublish.py {{upstream}}/{STORE} {{port}}",
            "datasets/data/zarr",
        ),
    ]


def environment() -> Path:
    """Return the Python of an environment with the peers, made once."""
    requirements = HERE / "peers" / "requirements.txt"
    name = f"zarr-http-peers-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / name
    python = folder / "bin" / "python"
    if not (folder / "whole").exists():
        # A base interpreter, since an environment in an environment may lack pip.
        base = str(Path(sys.base_prefix) / "bin" / "python3")
        subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", "-r", str(requirements)], check=True)
        (folder / "whole").touch()
    return python


def probed(peer: Peer, mirror: Path, without: str, patience_s: str) -> dict[str, Any] | None:
    """Return what the suite finds, or None where the server did not start."""
    command = [sys.executable, str(HERE), "--json", "--serve", peer.command, "--at", peer.at]
    command += ["--root", str(mirror), "--store", STORE, "--without", without, "--patience", patience_s]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        sys.stderr.write(f"{peer.name}: {done.stderr.strip()[-500:]}\n")
        return None
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the Markdown table: a row a probe, a column a server."""
    names = list(found)
    lines = [f"| | probe | {' | '.join(names)} |", f"| --- | --- |{' --- |' * len(names)}"]
    for index, probe in enumerate(found[names[0]]["probes"]):
        marks = [MARKS[found[name]["probes"][index]["verdict"]] for name in names]
        lines.append(f"| {probe['level']} | `{probe['id']}` {probe['sentence']} | {' | '.join(marks)} |")
    totals = [found[name]["summary"].replace(", ", "<br>") for name in names]
    lines.append(f"| | all | {' | '.join(totals)} |")
    return "\n".join(lines)


def reasons(found: dict[str, dict[str, Any]]) -> str:
    """Return why a server did not pass, as a list."""
    lines = []
    for name, one in found.items():
        failed = [f"`{p['id']}`: {p['reason']}" for p in one["probes"] if p["verdict"] == "fail"]
        lines += [f"\n{name}\n", *(f"- {line}" for line in failed)] if failed else []
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", help="a mirror to take instead of a synthetic one; it must hold subject 0001")
    parser.add_argument("--without", default="", help="ids or groups of probes to leave out")
    parser.add_argument("--patience", default="20", help="seconds that a server may wait for a frozen upstream")
    parser.add_argument("--into", metavar="PAGE", help="write it to the end of this page instead of printing it")
    parser.add_argument("--python", action="store_true", help="only make the peers' environment, and print its Python")
    options = parser.parse_args()
    if options.python:
        sys.stdout.write(f"{environment()}\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        mirror = Path(options.mirror or f"{folder}/mirror").absolute()
        if options.mirror is None:
            made = [["phantom", f"{folder}/corpus", "--subjects", "1"], ["convert", f"{folder}/corpus", str(mirror)]]
            for arguments in made:
                subprocess.run([str(BIN / "voxshelf"), *arguments], check=True, stdout=subprocess.DEVNULL)
        every = {
            peer.name: probed(peer, mirror, options.without, options.patience) for peer in peers(environment(), mirror)
        }
    found = {name: one for name, one in every.items() if one is not None}
    text = f"{table(found)}\n\n## What they did instead\n{reasons(found)}\n"
    if options.into is None:
        sys.stdout.write(text)
        return
    page = Path(options.into)
    page.write_text(f"{page.read_text().partition(MARK)[0]}{MARK}\n\n{text}")


if __name__ == "__main__":
    main()
