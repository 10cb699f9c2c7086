"""A source that a module fills with odd files, one subject for each case, and that is converted once."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.events import Report
from converter.export import Cut, export
from converter.reader import Mirror
from corpus.catalog import Row
from corpus.errors import CODES
from corpus.findings import WARNINGS, Finding
from corpus.labels import families

FOLDERS = {"ct": "imaging-data/images/CT", "pet": "imaging-data/images/PT"} | {
    family.id: f"imaging-data/ground-truth/{family.folder}" for family in families().values()
}


FLAGS = ("warning.hu-range", "warning.intensity-unit", "warning.label-outside", "warning.label-side")


class Converted:
    """What became of a source."""

    def __init__(self, source: Path, mirror: Path, report: Report) -> None:
        self.source = source
        self.report = report
        self.mirror = Mirror(str(mirror))
        self.folder = mirror

    def failures(self, place: str) -> list[str]:
        """Codes of the failures at a place; each has its hint."""
        return self._codes(self.report.failures, place)

    def warnings(self, place: str) -> set[str]:
        """Codes of the warnings about a subject, or about a volume or its file; each has its hint.

        Gaps are left out, and what these few voxels of no body are flagged with: test_quality.py is about that.
        """
        subject, _, role = place.partition("/")
        places = (place, f"{FOLDERS[role]}/{subject}.nii.gz") if role else (place,)
        codes = {code for each in places for code in self._codes(self.report.warnings, each)}
        return codes - {"warning.volume-missing", *FLAGS}

    def hint(self, place: str) -> str:
        """The hint of the failure at a place."""
        return next(finding.hint for finding in self.report.failures if finding.place == place)

    def message(self, place: str) -> str:
        """The message of the failure at a place."""
        return next(finding.message for finding in self.report.failures if finding.place == place)

    def row(self, subject: str, role: str = "ct") -> Row:
        """Row of volumes.parquet."""
        return self.mirror.catalog.volume(subject, role)

    def regions(self, subject: str) -> dict[int, Row]:
        """Rows of regions.parquet by value."""
        return {row["value"]: row for row in self.mirror.catalog.regions.get(subject, [])}

    def stored(self, subject: str, role: str = "ct") -> np.ndarray:
        """Level 0, as numbers are stored."""
        return np.asarray(self.mirror.level(self.mirror.volume(subject, role), 0)[0].values)

    def exported(self, subject: str, role: str = "ct") -> tuple[bytes, bytes]:
        """Bytes of the export, and of the source once inflated."""
        target = self.folder.parent / "out.nii"
        export(self.mirror, subject, role, target, Cut())
        source = (self.source / self.row(subject, role)["source_name"]).read_bytes()
        return target.read_bytes(), gzip.decompress(source) if source[:2] == b"\x1f\x8b" else source

    def _codes(self, findings: tuple[Finding, ...], place: str) -> list[str]:
        found = [finding for finding in findings if finding.place == place]
        for finding in found:
            assert finding.message
            assert finding.hint
            assert finding.code in {**CODES, **WARNINGS}
        return [finding.code for finding in found]


class Source:
    """A folder in the shape of the corpus, under a name with blanks, letters of all kinds and marks of URLs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "Körper 体 100% #1"
        self.mirror = folder / "mirror"

    def put(self, subject: str, role: str, data: bytes, *, packed: bool = True) -> str:
        """Write a volume, and return its name."""
        name = f"{FOLDERS[role]}/{subject}.nii.gz"
        return self.file(name, gzip.compress(data, 1, mtime=0) if packed else data)

    def file(self, name: str, data: bytes) -> str:
        """Write any file, and return its name."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return name

    def convert(self, *, overwrite: bool = False) -> Converted:
        """Convert it in this process."""
        settings = ConvertSettings(corpus=read_corpus(str(self.root)), overwrite=overwrite)
        return Converted(self.root, self.mirror, convert(str(self.root), str(self.mirror), settings, lambda _: None))


@pytest.fixture(scope="session")
def place_of() -> Callable[[str, str], str]:
    """Name of a volume's file."""
    return lambda subject, role="ct": f"{FOLDERS[role]}/{subject}.nii.gz"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """An empty source, one for each module."""
    return Source(tmp_path_factory.mktemp("inputs"))
