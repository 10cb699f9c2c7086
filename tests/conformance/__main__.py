"""Probes a server of Zarr over HTTP: is what clients read through it right, also when something fails?

Two ways. A server that runs somewhere is named by the URL of a Zarr version 3 group (or of an array):

    python tests/conformance http://127.0.0.1:8000/zarr/0001.ome.zarr

A server that can read from HTTP or S3 is started by the suite in front of an upstream that fails on demand:

    python tests/conformance --serve 'voxshelf serve {upstream} --port {port}' --root mirror \\
        --store subjects/0001.ome.zarr --at zarr/0001.ome.zarr

The exit status is 1 if a MUST fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import clients  # noqa: F401 - registers its probes
import faults
import headers  # noqa: F401
import objects  # noqa: F401
import probes
import refusals  # noqa: F401
import report
from behind import root_of, started
from exchange import Server
from target import Target
from upstream import Upstream


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", help="a Zarr version 3 group or array")
    parser.add_argument("--truth", metavar="FOLDER", help="the same hierarchy on the disk, to compare bytes with")
    parser.add_argument("--array", metavar="PATH", help="array to read, where the root lists none")
    parser.add_argument("--serve", metavar="COMMAND", help="starts the server; {port}, {upstream}, {origin}, {s3}")
    parser.add_argument("--root", metavar="FOLDER", help="what the upstream of --serve holds")
    parser.add_argument("--store", metavar="PATH", default="", help="the hierarchy in --root")
    parser.add_argument("--at", metavar="PATH", default="", help="the same hierarchy at the server")
    parser.add_argument("--patience", metavar="S", type=float, default=60.0, help="longest wait for a frozen upstream")
    parser.add_argument("--timeout", metavar="S", type=float, default=15.0, help="longest wait for any other answer")
    parser.add_argument("--only", metavar="IDS", default="", help="ids or groups, with commas between them")
    parser.add_argument("--without", metavar="IDS", default="", help="ids or groups to leave out")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--list", action="store_true", help="list the probes and stop")
    return parser


def chosen(options: argparse.Namespace) -> list[probes.Probe]:
    """Return the probes that were asked for; those of faults need a server that the suite starts."""
    only, without = (set(filter(None, text.split(","))) for text in (options.only, options.without))
    known = {name for each in probes.ALL for name in (each.id, each.group)}
    if unknown := (only | without) - known:
        raise SystemExit(f"no such probe or group: {', '.join(sorted(unknown))}; --list tells what there is")
    found = sorted(probes.ALL, key=lambda each: probes.GROUPS.index(each.group))
    found = [each for each in found if not only or only & {each.id, each.group}]
    return [each for each in found if not without & {each.id, each.group}]


def probe_url(options: argparse.Namespace) -> list[probes.Outcome]:
    """Probe a server that runs."""
    truth = root_of(options.truth) if options.truth else None
    target = Target(Server(options.url, options.timeout), options.array, truth)
    return [probes.made(each, target) for each in chosen(options) if each.group != "faults"]


def probe_served(options: argparse.Namespace) -> list[probes.Outcome]:
    """Start a server in front of the upstream, and probe it, faults included."""
    root = root_of(options.root or ".")
    upstream = Upstream(root)
    try:
        with started(options.serve, upstream, options.at) as url:
            options.url = url
            target = Target(Server(url, options.timeout), options.array, Path(root, options.store))
            behind = faults.Behind(target, upstream, options.patience)
            return [probes.made(each, behind if each.group == "faults" else target) for each in chosen(options)]
    finally:
        upstream.close()


def main() -> int:
    """Run from the command line."""
    parser = arguments()
    options = parser.parse_args()
    if options.list:
        lines = [f"{each.id:20} {each.group:9} {each.level:6} {each.sentence}" for each in chosen(options)]
        sys.stdout.write("\n".join(lines) + "\n")
        return 0
    if bool(options.url) == bool(options.serve):
        parser.error("name either a URL or --serve")
    outcomes = probe_served(options) if options.serve else probe_url(options)
    text = report.as_json(options.url, outcomes) if options.json else report.table(outcomes)
    sys.stdout.write(text + "\n")
    return report.status(outcomes)


if __name__ == "__main__":
    sys.exit(main())
