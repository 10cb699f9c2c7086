"""A corpus of any number of subjects that took seconds to make, and jobs that give records without any work.

Files are hard links to those of one real subject, so that headers are read as ever; outcome records are that subject's
under another id. Nothing of Dask or of the schedule is replaced: only what a worker is asked to do.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from converter.convert import read_infos
from converter.corpusfile import read_corpus
from converter.inventory import take_inventory
from converter.phantom_sheets import Row, workbook
from converter.plan import VolumePlan, digest_of
from converter.run import Executor, Job
from converter.schedule import convert_volume
from corpus import layout
from corpus.contents import ENHANCE_PET
from corpus.models import SubjectInfo, to_json
from corpus.outcomes import SubjectOutcome, VolumeOutcome
from corpus.stores import Store

BIN = Path(sys.executable).parent
MODEL = "0001"
ROLES = ENHANCE_PET.roles


class Pretended(NamedTuple):
    """Where the corpus lies, and the record of the one subject that was converted."""

    corpus: Path
    model: Path


def make(folder: Path, subjects: int) -> Pretended:
    """Make a corpus whose subjects are one and the same."""
    corpus, mirror = folder / "corpus", folder / "model"
    subprocess.run([str(BIN / "voxshelf"), "phantom", str(corpus), "--subjects", "1"], check=True)
    subprocess.run([str(BIN / "voxshelf"), "convert", str(corpus), str(mirror), "--workers", "0"], check=True)
    ids = [f"{number:04d}" for number in range(1, subjects + 1)]
    for file in list(corpus.rglob(f"{MODEL}.nii.gz")):
        for subject in ids[1:]:
            os.link(file, file.with_name(f"{subject}.nii.gz"))
    for name in ("CT", "PT"):
        rows: list[Row] = [{"Patient": subject, "Data-Source": "AutoPET Challenge"} for subject in ids]
        (corpus / f"{name}-details.xlsx").write_bytes(workbook(rows))
    return Pretended(corpus, mirror / layout.subject_outcome_key(MODEL))


def finished(pretended: Pretended, mirror: Path) -> None:
    """Leave the outcome records of a complete conversion in a mirror; no voxel is there."""
    inventory = take_inventory(str(pretended.corpus))
    infos, _ = read_infos(inventory, read_corpus(str(pretended.corpus)).name)
    store = Store(str(mirror))
    for subject, files in inventory.subjects.items():
        record = _record(str(pretended.model), infos[subject])
        volumes = tuple(
            msgspec.structs.replace(each, digest=digest_of(files, each.role), subject=subject)
            for each in record.volumes
        )
        store.put(layout.subject_outcome_key(subject), to_json(msgspec.structs.replace(record, volumes=volumes)))
        for volume in volumes:
            store.put(layout.outcome_key(subject, volume.role), to_json(volume))


def nothing() -> None:
    """Do nothing: what is left is the executor's own."""


class Idle:
    """An executor whose jobs do nothing and return records of the true size.

    Parameters
    ----------
    place
        Where they are sent.
    model
        Record of the subject whose results they return.
    """

    def __init__(self, place: Executor, model: Path) -> None:
        self._place, self._model = place, str(model)
        self.slots, self.place, self.memory_bytes = place.slots, place.place, place.memory_bytes

    def submit(self, name: str, job: Job, *arguments: Any, peak_bytes: int = 0) -> None:
        """Send a stand-in with the arguments of the job; it takes no memory."""
        del peak_bytes
        stand_in = volume_done if job is convert_volume else subject_done
        self._place.submit(name, stand_in, self._model, *arguments)

    def next_done(self) -> tuple[str, Any]:
        """Wait for any job."""
        return self._place.next_done()


def volume_done(model: str, mirror_url: str, plan: VolumePlan) -> VolumeOutcome:
    """Stand in for `converter.schedule.convert_volume`."""
    del mirror_url
    (volume,) = (each for each in _model(model).volumes if each.role == plan.role)
    return msgspec.structs.replace(volume, subject=plan.subject, digest=plan.digest)


def subject_done(model: str, mirror_url: str, info: SubjectInfo, *others: Any) -> SubjectOutcome:
    """Stand in for `converter.schedule.complete_subject`."""
    del mirror_url, others
    return _record(model, info)


def _record(model: str, info: SubjectInfo) -> SubjectOutcome:
    return msgspec.structs.replace(_model(model), info=info)


@functools.cache
def _model(path: str) -> SubjectOutcome:
    return msgspec.json.decode(Path(path).read_bytes(), type=SubjectOutcome)
