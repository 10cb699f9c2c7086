"""Peak memory of one conversion: what it grows by when the volume doubles in z, and what was planned for it.

Medians of several runs, taken in turn: single ones differ by some 10 % with how the threads fall.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from isal import igzip

from bench.process import measure
from converter.inventory import take_inventory
from converter.plan import plan_volume
from converter.source import peek_header
from corpus.models import SubjectInfo

BIN = Path(sys.executable).parent
FILES = {"ct": "images/CT", "pet": "images/PT", "organs": "ground-truth/Organs"}


def double(file: Path) -> None:
    """Write the volume anew with all of its slices twice over."""
    data = gzip.decompress(file.read_bytes())
    slices = struct.unpack_from("<h", data, 46)[0]
    head = bytearray(data[:352])
    struct.pack_into("<h", head, 46, 2 * slices)
    file.write_bytes(igzip.compress(bytes(head) + data[352:] * 2))


def planned_mb(corpus: Path, role: str) -> float:
    """What the plan says that a volume takes, libraries apart."""
    files = take_inventory(str(corpus)).subjects["0001"]
    headers = {each: peek_header(file) for each, file in files.files.items()}
    return plan_volume(files, role, headers, SubjectInfo(subject="0001")).peak_bytes / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--double", nargs="*", type=Path, default=[], help=argparse.SUPPRESS)
    choices = parser.parse_args()
    for file in choices.double:
        double(file)
    if not choices.double:
        compare(choices.runs)


def compare(runs: int) -> None:
    """Measure each volume, once and with all slices twice, and print."""
    libraries = measure([sys.executable, "-c", "import voxshelf.verbs.convert, converter.documents, pyarrow.parquet"])
    print(f"python with its libraries: {libraries.peak_mb:.0f} MB")
    print(f"{'':10}{'peak MB':>10}{'twice in z':>12}{'grows by':>10}   {'from, to':26}planned MB beyond the libraries")
    with tempfile.TemporaryDirectory() as folder:
        once, twice, mirror = (Path(folder, name) for name in ("once", "twice", "mirror"))
        phantom = ["phantom", str(once), "--subjects", "1", "--size", "full"]
        subprocess.run([str(BIN / "voxshelf"), *phantom], check=True)
        shutil.copytree(once, twice)
        files = [twice / "imaging-data" / path / "0001.nii.gz" for path in FILES.values()]
        # In a process of its own: a child's peak memory is at least what its parent had when it was started.
        subprocess.run([sys.executable, "-m", "bench.memory", "--double", *map(str, files)], check=True)
        for role in FILES:
            found: dict[Path, list[float]] = {once: [], twice: []}
            for _ in range(runs):
                for corpus, peaks in found.items():
                    convert = ["convert", str(corpus), str(mirror), "--volumes", role, "--workers", "0"]
                    peaks.append(measure([str(BIN / "voxshelf"), *convert]).peak_mb)
                    shutil.rmtree(mirror)
            one, two = (statistics.median(peaks) for peaks in found.values())
            spread = ", ".join(f"{min(peaks):.0f} to {max(peaks):.0f}" for peaks in found.values())
            planned = ", ".join(f"{planned_mb(corpus, role):.0f}" for corpus in found)
            print(f"{role:10}{one:10.0f}{two:12.0f}{100 * (two / one - 1):8.1f} %   {spread:26}{planned}")


if __name__ == "__main__":
    main()
