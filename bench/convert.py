"""One full CT, PET and organs map: voxshelf beside its peers and the limit, in turn, in one run.

Whole processes first: wall and CPU seconds and peak memory, as medians, and what each is of voxshelf's. Then the
conversion alone, inside a process that has imported everything: that is what a worker of a cluster does all day.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.process import Usage, environment, measure, remove

BIN = Path(sys.executable).parent
FILES = {"ct": "images/CT", "pet": "images/PT", "organs": "ground-truth/Organs"}


def in_turn(names: list[str], runs: int, once: Callable[[str], Usage]) -> dict[str, Usage]:
    """Medians of several runs of each, taken in turn, so that a machine that slows down slows all of them."""
    found: dict[str, list[Usage]] = {name: [] for name in names}
    for _ in range(runs):
        for name in names:
            found[name].append(once(name))
    return {name: Usage(*map(statistics.median, zip(*each, strict=True))) for name, each in found.items()}


def show(title: str, rows: dict[str, Usage], ours: str) -> None:
    """Print figures, and their ratios to ours."""
    print(f"\n{title}\n{'':26}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}   ratio to ours: wall, CPU, peak")
    for name, row in rows.items():
        ratios = ", ".join(f"{value / own:.2f}" if own else "-" for value, own in zip(row, rows[ours], strict=True))
        print(f"{name:26}{row.wall_s:9.2f}{row.cpu_s:9.2f}{row.peak_mb:9.0f}   {ratios}")


def whole_commands(corpus: Path, volume: str, file: Path, out: Path) -> dict[str, list[str]]:
    """The commands that are compared, by name."""
    label = ["--label"] if volume == "organs" else []
    ngff = ["-m", "dask_image_mode"] if volume == "organs" else []
    return {
        "voxshelf convert": [
            *(str(BIN / "voxshelf"), "convert", str(corpus), str(out), "--volumes", volume, "--workers", "0")
        ],
        "nii2zarr --shard 256": [str(BIN / "nii2zarr"), "--shard", "256", *label, str(file), str(out)],
        "ngff-zarr": [
            *(str(BIN / "ngff-zarr"), "-q", "-i", str(file), "-o", f"{out}.ome.zarr"),
            *("-c", "64", "--chunks-per-shard", "4", *ngff),
        ],
        "limit": [sys.executable, "-m", "bench.limit", str(file), str(out)],
        "python, imports alone": [sys.executable, "-c", "import voxshelf.verbs.convert"],
    }


def inside(name: str, source: Path, out: Path, volume: str) -> Usage:
    """One conversion in a process of its own, its imports apart."""
    command = [sys.executable, "-m", "bench.inside", name, str(source), str(out), volume]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    figures = json.loads(done.stdout.splitlines()[-1])
    return Usage(figures["wall_s"], figures["cpu_s"], 0.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="full")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--volumes", default="ct,pet,organs")
    parser.add_argument("--without", default="", help="names of commands to leave out, for example ngff-zarr")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus, out = Path(folder, "corpus"), Path(folder, "out")
        # In a process of its own: a child's peak memory is at least what its parent had when it was started.
        phantom = ["phantom", str(corpus), "--subjects", "1", "--size", choices.size]
        subprocess.run([str(BIN / "voxshelf"), *phantom], check=True)
        for volume in choices.volumes.split(","):
            file = corpus / "imaging-data" / FILES[volume] / "0001.nii.gz"
            commands = whole_commands(corpus, volume, file, out)
            names = [name for name in commands if name not in choices.without.split(",")]

            def once(name: str, commands: dict[str, list[str]] = commands) -> Usage:
                usage = measure(commands[name])
                for path in (out, Path(f"{out}.ome.zarr")):
                    remove(path)
                return usage

            def alone(name: str, volume: str = volume, file: Path = file) -> Usage:
                usage = inside(name, corpus if name == "voxshelf" else file, out, volume)
                remove(out)
                return usage

            size = f"{volume}, {file.stat().st_size / 1e6:.0f} MB .nii.gz, median of {choices.runs} runs"
            show(f"{size}: whole commands", in_turn(names, choices.runs, once), "voxshelf convert")
            peers = ["voxshelf", "nii2zarr", "limit"]
            show(f"{size}: inside, second conversion of a process", in_turn(peers, choices.runs, alone), "voxshelf")


if __name__ == "__main__":
    main()
