"""What a whole mirror holds, counted once for each publication: labels, licences and statistics."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from statistics import median
from typing import Any, Final

import pyarrow as pa

from corpus.catalog import Catalog, Row
from corpus.labels import families, rgba_of
from corpus.licenses import LICENSES
from service.access import Access, license_of_row

_COUNTED: Final = {
    "licenses": "license",
    "sexes": "sex",
    "institutions": "source_institution",
    "indications": "indication",
    "releases": "release",
}


def label_rows(regions: pa.Table) -> list[Row]:
    """Return all labels: first those that the mirror has; ENHANCE.PET's in the order of its table, then others.

    Parameters
    ----------
    regions
        ``regions.parquet``.

    Returns
    -------
    list of dict
        ``volume_ml_median`` is over regions that do not touch the edge of their volume: those may be cut off.
    """
    volumes_ml: dict[tuple[str, int, str], list[float]] = {}
    subjects: Counter[tuple[str, int, str]] = Counter()
    columns = (regions.column(name).to_pylist() for name in ("family", "value", "name", "volume_ml", "touches_edge"))
    for family, value, name, volume_ml, touches_edge in zip(*columns, strict=True):
        subjects[family, value, name] += 1
        if not touches_edge and volume_ml is not None:
            volumes_ml.setdefault((family, value, name), []).append(volume_ml)
    known = {
        (family.id, label.value, label.name): {
            "display": label.display,
            "side": label.side,
            "snomed_ct": label.snomed_ct,
        }
        for family in families().values()
        for label in family.labels
    }
    others = dict.fromkeys(sorted(set(subjects) - set(known)), dict.fromkeys(("display", "side", "snomed_ct")))
    every = {**known, **others}
    return [
        {
            "family": key[0],
            "value": key[1],
            "name": key[2],
            **described,
            "rgba": rgba_of(key[1]),
            "subjects": subjects[key],
            "volume_ml_median": median(volumes_ml[key]) if key in volumes_ml else None,
        }
        for key, described in sorted(every.items(), key=lambda item: item[0] not in subjects)
    ]


def license_rows(catalog: Catalog, access: Access) -> list[Row]:
    """Return the licences that are known, with the operator's rule and the number of subjects under each."""
    counts = Counter(license_of_row(row).id for row in catalog.subjects.values())
    return [
        {
            "id": license_.id,
            "name": license_.name,
            "url": license_.url or None,
            "rule": access.rule(license_),
            "subjects": counts[license_.id],
        }
        for license_ in LICENSES.values()
    ]


def statistics(catalog: Catalog) -> dict[str, Any]:
    """Return counts over all subjects; null counts as ``unknown``."""
    rows = list(catalog.subjects.values())
    ages = [row["age_years"] for row in rows if row["age_years"] is not None]
    volumes = catalog.volumes.table
    # Tables of a mirror that was published by an older version lack the warnings of subjects.
    found = chain(volumes.column("warnings").to_pylist(), (row.get("warnings") for row in rows))
    return {
        "corpus": catalog.mirror.corpus.name,
        "release": catalog.mirror.corpus.release,
        "subjects": len(rows),
        "volumes": volumes.num_rows,
        "regions": catalog.regions.table.num_rows,
        "bytes": sum(row["bytes"] for row in rows),
        **{name: _counts(row[column] for row in rows) for name, column in _COUNTED.items()},
        "volume_names": _counts(volumes.column("volume").to_pylist()),
        "warnings": _counts(code for codes in found for code in codes or ()),
        "age_years": {
            "known": len(ages),
            "min": min(ages, default=None),
            "median": median(ages) if ages else None,
            "max": max(ages, default=None),
        },
    }


def _counts(values: Any) -> dict[str, int]:
    counts = Counter(value if value is not None else "unknown" for value in values)
    return dict(sorted(counts.items()))
