"""Many small subjects: what a volume costs with one worker and with two, and whether time is linear in subjects."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.process import measure

BIN = Path(sys.executable).parent
VOLUMES_A_SUBJECT = 9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=100)
    parser.add_argument("--size", default="small")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus, mirror = Path(folder, "corpus"), Path(folder, "mirror")
        phantom = ["phantom", str(corpus), "--subjects", str(choices.subjects), "--size", choices.size]
        subprocess.run([str(BIN / "voxshelf"), *phantom], check=True)
        convert = [str(BIN / "voxshelf"), "convert", str(corpus), str(mirror)]
        print(f"{'':28}{'wall s':>9}{'CPU s':>9}{'CPU ms a volume':>17}{'wall ms a volume':>18}")
        for workers in (0, 1, 2):
            for share in (4, 2, 1):
                subjects = choices.subjects // share
                usage = measure([*convert, "--workers", str(workers), "--subjects", f"0001-{subjects:04d}"])
                shutil.rmtree(mirror)
                volumes = subjects * VOLUMES_A_SUBJECT
                per = f"{usage.cpu_s / volumes * 1e3:17.1f}{usage.wall_s / volumes * 1e3:18.1f}"
                print(f"{workers} workers, {subjects:4} subjects    {usage.wall_s:9.1f}{usage.cpu_s:9.1f}{per}")


if __name__ == "__main__":
    main()
