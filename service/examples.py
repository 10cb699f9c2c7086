"""Examples of the catalogue's answers for the OpenAPI document; a test compares them with the schemas."""

from __future__ import annotations

from typing import Any, Final

from corpus.labels import rgba_of
from service.clients import client_lines
from service.settings import Rule

_BASE: Final = "https://mirror.example.org"
_URL: Final = f"{_BASE}/zarr/0003.ome.zarr"
_ROW: Final[dict[str, Any]] = {
    "subject": "0003",
    "corpus": "voxshelf phantom",
    "release": "seed 0",
    "source_institution": "Azienda Ospedaliero Universitaria Careggi (IT)",
    "license": "CC-BY-4.0",
    "attribution": "voxshelf phantom, images from Azienda Ospedaliero Universitaria Careggi (IT)",
    "indication": "LYMPHOMA",
    "sex": "M",
    "age_years": 40.4,
    "weight_kg": 77.4,
    "height_m": None,
    "scanner": "Gemini TF",
    "details": '{"CT: kVp":"100","PT: Year":"2021"}',
    "has_ct": True,
    "has_pet": True,
    "families_present": ["body_composition", "cardiac", "muscles", "organs", "peripheral_bones", "ribs", "vertebrae"],
    "gaps": [],
    "store": "subjects/0003.ome.zarr",
    "bytes": 2755716,
    "warnings": [],
}
_VOLUME: Final[dict[str, Any]] = {
    "subject": "0003",
    "volume": "ct",
    "image_path": "ct",
    "array_path": "ct/scale0/ct",
    "dims": ["z", "y", "x"],
    "shape_zyx": [72, 128, 128],
    "spacing_mm_zyx": [11.958, 3.906, 3.906],
    "affine": [-3.906, 0.0, 0.0, 244.812, 0.0, 3.906, 0.0, -256.035, 0.0, 0.0, 11.958, 5.979, 0.0, 0.0, 0.0, 1.0],
    "affine_source": "sform",
    "orientation": "LAS",
    "aligned": True,
    "dtype": "int16",
    "dtype_source": "<i2",
    "lossless": True,
    "units": "HU",
    "suv_factor": None,
    "levels": 4,
    "min": -1024.0,
    "max": 937.0,
    "mean": -731.878,
    "nan_count": 0,
    "source_name": "imaging-data/images/CT/0003.nii.gz",
    "source_size": 1088380,
    "source_sha256": "a825a0a9a0a671b46149147145c6edfae14ace85c64f66fcc29caa91896077c7",
    "voxels_sha256": "1e371c4f589e592a65031ec440223d6fe4e8cc379d0f2a8f2219c6b545872f74",
    "array_sha256": "1e371c4f589e592a65031ec440223d6fe4e8cc379d0f2a8f2219c6b545872f74",
    "bytes": 1180775,
    "warnings": [],
}
_REGION: Final[dict[str, Any]] = {
    "subject": "0003",
    "family": "organs",
    "value": 8,
    "name": "liver",
    "voxels": 10003,
    "volume_ml": 1825.244,
    "z_start": 33,
    "z_stop": 46,
    "y_start": 47,
    "y_stop": 88,
    "x_start": 29,
    "x_stop": 80,
    "x_min_mm": -65.735,
    "x_max_mm": 133.484,
    "y_min_mm": -74.394,
    "y_max_mm": 85.762,
    "z_min_mm": 394.625,
    "z_max_mm": 550.083,
    "centroid_x_mm": 56.053,
    "centroid_y_mm": 10.818,
    "centroid_z_mm": 477.289,
    "touches_edge": False,
}
_LICENSE: Final[dict[str, Any]] = {
    "id": "CC-BY-4.0",
    "name": "Creative Commons Attribution 4.0",
    "url": "https://creativecommons.org/licenses/by/4.0/",
    "rule": "open",
}

_SUBJECT_LIST: Final[dict[str, Any]] = {
    "total": 1597,
    "next": "WyJzdWJqZWN0IiwiMDAwMyIsIjAwMDMiXQ",
    "subjects": [{**_ROW, "rule": "open", "url": _URL}],
}
_SUBJECT_DETAIL: Final[dict[str, Any]] = {
    **_ROW,
    "rule": "open",
    "url": _URL,
    "license": {**_LICENSE, "attribution": _ROW["attribution"]},
    "volumes": [_VOLUME],
    "regions": [_REGION],
    "clients": client_lines(_BASE, "0003", [_VOLUME], "CC-BY-4.0", Rule.OPEN),
}
_LABEL_LIST: Final[dict[str, Any]] = {
    "labels": [
        {
            "family": "organs",
            "value": 8,
            "name": "liver",
            "display": "Liver",
            "side": None,
            "snomed_ct": "10200004",
            "rgba": list(rgba_of(8)),
            "subjects": 1597,
            "volume_ml_median": 1712.5,
        }
    ]
}
_LICENSE_LIST: Final[dict[str, Any]] = {"licenses": [{**_LICENSE, "subjects": 583}]}
_STATISTICS: Final[dict[str, Any]] = {
    "corpus": "ENHANCE.PET 1.6k",
    "release": "2025",
    "subjects": 1597,
    "volumes": 14373,
    "regions": 201222,
    "bytes": 250000000000,
    "licenses": {"CC-BY-4.0": 583, "CC-BY-NC-4.0": 1014},
    "sexes": {"F": 698, "M": 899},
    "institutions": {"AutoPET Challenge": 1014, "University Hospital Leipzig (DE)": 583},
    "indications": {"LYMPHOMA": 400, "unknown": 1197},
    "releases": {"2025": 1597},
    "volume_names": {"ct": 1597, "labels/organs": 1597, "pet": 1597},
    "warnings": {},
    "age_years": {"known": 1500, "min": 11.0, "median": 62.0, "max": 95.0},
}

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "Status": {"status": "ok"},
    "Readiness": {"ready": True, "catalog": "ok", "storage": "ok"},
    "SubjectList": _SUBJECT_LIST,
    "SubjectDetail": _SUBJECT_DETAIL,
    "LabelList": _LABEL_LIST,
    "LicenseList": _LICENSE_LIST,
    "Statistics": _STATISTICS,
}
"""By the name of their schema."""
