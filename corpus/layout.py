"""Names and keys of a mirror: what lies where. The contract is described in ``docs/layout.md``."""

from __future__ import annotations

import re
from typing import Final

LAYOUT_VERSION: Final = 1

MIRROR_JSON: Final = "mirror.json"
LABELS_JSON: Final = "labels.json"
CROISSANT_JSON: Final = "croissant.json"
DATASET_JSONLD: Final = "dataset.jsonld"
CITATION_CFF: Final = "CITATION.cff"
ATTRIBUTION: Final = "ATTRIBUTION.txt"
DESCRIPTIONS: Final = (LABELS_JSON, CROISSANT_JSON, DATASET_JSONLD, CITATION_CFF, ATTRIBUTION)
"""Documents that follow from the tables, and are written before ``mirror.json``."""
TABLES: Final = ("catalog", "volumes", "regions")
PRIVATE: Final = ".voxshelf"
"""Folder of the converter: outcome records and reports. No reader needs it, no server shows it."""
REPORT: Final = f"{PRIVATE}/report"
"""Folder of the report page."""

SUBJECTS: Final = "subjects"
STORE_SUFFIX: Final = ".ome.zarr"
MANIFEST_SUFFIX: Final = ".sha256"

_SUBJECT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def is_subject_id(text: str) -> bool:
    """Whether a text may be a subject's id: letters, digits, ``-`` and ``_``, so that it is safe in keys and URLs."""
    return _SUBJECT_ID.fullmatch(text) is not None


def table_key(table: str) -> str:
    """Return the key of a table in the mirror."""
    return f"{table}.parquet"


def store_key(subject: str) -> str:
    """Return the prefix of a subject's store in the mirror."""
    return f"{SUBJECTS}/{subject}{STORE_SUFFIX}"


def manifest_key(subject: str) -> str:
    """Return the key of the list of a subject's objects with their SHA-256, which lies beside its store."""
    return f"{store_key(subject)}{MANIFEST_SUFFIX}"


def outcomes_prefix(subject: str) -> str:
    """Return the prefix of all outcome records of a subject."""
    return f"{PRIVATE}/outcomes/{subject}"


def outcome_key(subject: str, role: str) -> str:
    """Return the key of the outcome record of one volume."""
    return f"{PRIVATE}/outcomes/{subject}/{role}.json"


def subject_outcome_key(subject: str) -> str:
    """Return the key of the record that says that a subject's store is complete."""
    return f"{PRIVATE}/outcomes/{subject}/subject.json"


def settings_key() -> str:
    """Return the key of the settings that all volumes of a mirror share; it is written before the first of them."""
    return f"{PRIVATE}/settings.json"


def picture_key(subject: str) -> str:
    """Return the key of a subject's picture on the report page."""
    return f"{REPORT}/pictures/{subject}.webp"


def volume_name(role: str, *, is_label: bool) -> str:
    """Return the name of a volume in the tables: ``ct``, ``pet``, ``labels/organs``."""
    return f"labels/{role}" if is_label else role


def label_path(family: str, carrier: str, *, apart: bool) -> str:
    """Return the path of a label map's image group in a subject's store.

    Parameters
    ----------
    family
        Its id.
    carrier
        Image on whose lattice it is laid, for example ``ct``.
    apart
        Whether it does not lie on that lattice, and is kept beside the image.
    """
    return f"labels_{family}" if apart else f"{carrier}/labels/{family}"


def carrier_of(image: str) -> str | None:
    """Return the image group that holds a label map's group, from its path; None for all that stand by themselves."""
    carrier, _, family = image.partition("/labels/")
    return carrier if family else None


def is_label_path(image: str) -> bool:
    """Whether an image group is a label map's, from its path."""
    return carrier_of(image) is not None or image.startswith("labels_")


def level_path(image: str, level: int) -> str:
    """Return the path of a level's group in a subject's store; level 0 is full resolution."""
    return f"{image}/scale{level}"


def array_name(image: str) -> str:
    """Return the name of the arrays of an image: that of the image, so that merged levels never collide."""
    return image.rpartition("/")[2].removeprefix("labels_")


def array_path(image: str, level: int) -> str:
    """Return the path of a level's voxel array in a subject's store."""
    return f"{level_path(image, level)}/{array_name(image)}"
