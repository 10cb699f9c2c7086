"""What a corpus takes as .nii.gz and as a mirror, per subject: level 0, the other levels, metadata.

python -m bench.sizes CORPUS
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from converter.publish import completed_subjects
from corpus.outcomes import SubjectOutcome
from corpus.stores import Store

BIN = Path(sys.executable).parent


def row(outcome: SubjectOutcome) -> list[int]:
    """Bytes of the sources, of level 0, of the other levels and of everything else."""
    stored = [volume for volume in outcome.volumes if volume.image is not None]
    source = sum(volume.image.source.size for volume in stored if volume.image is not None)
    objects = [record for volume in stored for record in volume.objects] + list(outcome.objects)
    last = {record.key: record.size for record in objects}  # some documents are put twice
    chunks = {key: size for key, size in last.items() if "/c/" in key}
    finest = sum(size for key, size in chunks.items() if "/scale0/" in key)
    return [source, finest, sum(chunks.values()) - finest, sum(last.values()) - sum(chunks.values())]


def show(corpus: str, levels: str) -> None:
    """Convert, and print."""
    with tempfile.TemporaryDirectory() as folder:
        convert = [str(BIN / "voxshelf"), "convert", corpus, folder, "--workers", "0", "--no-pictures"]
        subprocess.run([*convert, "--levels", levels], check=False, capture_output=True)
        rows = {subject: row(outcome) for subject, outcome in completed_subjects(Store(folder)).items()}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    titles = "".join(f"{title:>10}" for title in (".nii.gz", "level 0", "others", "metadata", "stored"))
    print(f"\nkB, --levels {levels}\n{'':8}{titles}   of .nii.gz: level 0, stored")
    for subject, (source, finest, others, metadata) in rows.items():
        stored = finest + others + metadata
        figures = "".join(f"{size / 1e3:10.0f}" for size in (source, finest, others, metadata, stored))
        print(f"{subject:8}{figures}   {finest / source:.2f}, {stored / source:.2f}")


if __name__ == "__main__":
    for levels in ("all", "few"):
        show(sys.argv[1], levels)
