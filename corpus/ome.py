"""Attributes of a subject's groups and arrays: OME-Zarr, CF names for xarray, and our own ``voxshelf`` object.

Sources: OME-Zarr 0.5, https://ngff.openmicroscopy.org/0.5/, and 0.6, whose multiscales are in `corpus.ome_v06`; the
orientation of axes is RFC-4's object form; flag and scale attributes are those of the CF conventions, which xarray
decodes.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec

from corpus import layout, ome_v06
from corpus.findings import Finding
from corpus.geometry import Grid, Triple
from corpus.labels import Family, rgba_of
from corpus.licenses import LICENSES, UNKNOWN
from corpus.models import CorpusInfo, Level, StoredImage, SubjectInfo

Json = dict[str, Any]

VERSIONS: Final = ("0.5", "0.6")
"""Versions of OME-Zarr that a mirror may have; the arrays are the same. A new mirror gets the first."""

DEFAULT_VERSION: Final = VERSIONS[0]
_CT_WINDOW_HU: Final = (-160.0, 240.0)
_DISPLAY: Final = {"ct": "CT", "pet": "PET"}
_COLOR: Final = {"ct": "FFFFFF", "pet": "FF8000"}
_ENDS: Final = {"x": "right-left", "y": "posterior-anterior", "z": "inferior-superior"}


def root_attributes(info: SubjectInfo, corpus: CorpusInfo, version: str = DEFAULT_VERSION) -> Json:
    """Return the attributes of a subject's root group.

    Parameters
    ----------
    info
        The subject.
    corpus
        Its corpus.
    version
        One of `VERSIONS`; the same in a whole store.
    """
    license_ = LICENSES.get(info.license, UNKNOWN)
    return {
        "ome": {"version": version, "bioformats2raw.layout": 3},
        "voxshelf": {
            "layout_version": layout.LAYOUT_VERSION,
            "subject": info.subject,
            "corpus": corpus.name,
            "release": corpus.release,
            "citation": corpus.citation,
            "license": {
                "id": license_.id,
                "name": license_.name,
                "url": license_.url,
                "attribution": info.attribution,
            },
            "source_institution": info.source_institution,
            "indication": info.indication,
            "sex": info.sex,
            "age_years": info.age_years,
            "weight_kg": info.weight_kg,
            "height_m": info.height_m,
            "scanner": info.scanner,
        },
    }


def series_attributes(images: list[str], version: str = DEFAULT_VERSION) -> Json:
    """Return the attributes of the ``OME`` group, which lists the images of a subject."""
    return {"ome": {"version": version, "series": images}}


def labels_attributes(names: list[str], version: str = DEFAULT_VERSION) -> Json:
    """Return the attributes of the ``labels`` group of an image."""
    return {"ome": {"version": version, "labels": names}}


def image_attributes(image: StoredImage, family: Family | None, findings: tuple[Finding, ...]) -> Json:
    """Return the attributes of an image group or a label image group.

    Parameters
    ----------
    image
        The stored volume.
    family
        Its label table, for a label map.
    findings
        Warnings about it.
    """
    multiscale = _multiscale(image)
    if image.ome_version != "0.5":
        multiscale = ome_v06.multiscale(multiscale, image.grid)
    ome: Json = {"version": image.ome_version, "multiscales": [multiscale]}
    if family is None:
        ome["omero"] = {"channels": [_channel(image)]}
    else:
        ome["image-label"] = _image_label(image, family)
    voxshelf: Json = {
        "affine": [list(row) for row in image.grid.affine],
        "affine_source": image.affine_source,
        "space": "RAS+ mm",
        "orientation": image.grid.orientation,
        "aligned": image.grid.is_aligned,
        "units": image.units,
        "units_from": image.units_from,
        "lossless": image.lossless,
        "source": {
            "name": image.source.name,
            "size": image.source.size,
            "sha256": image.source.sha256,
            "voxels_sha256": image.source.voxels_sha256,
            "dtype": image.dtype_source,
            **_packed(image),
        },
        "array_sha256": image.array_sha256,
        "codec": {"shuffle": image.codec.shuffle, "clevel": image.codec.clevel},
        "conversion": {"software": "voxshelf", "version": image.software, "digest": image.digest},
        "warnings": [finding.code for finding in findings],
    }
    if image.role == "pet":
        voxshelf |= {"suv_factor": image.suv_factor, "suv_factor_from": image.suv_factor_from}
    if image.source_header is not None:
        voxshelf["source_header"] = {
            "base64": base64.b64encode(image.source_header).decode(),
            "axes": list(image.reorder.axes),
            "flips": list(image.reorder.flips),
        }
    return {"ome": ome, "voxshelf": voxshelf}


def level_attributes(level: Level) -> Json:
    """Return the attributes of a level's group."""
    affine = [list(row) for row in level.grid.affine]
    return {"voxshelf": {"affine": affine, "factors": list(level.factors_zyx)}}


def array_attributes(image: StoredImage, family: Family | None) -> Json:
    """Return the attributes of a level's voxel array, as plain xarray shows them."""
    if family is not None:
        labels = family.labels
        return {
            "long_name": family.display,
            "flag_values": [label.value for label in labels],
            "flag_meanings": " ".join(label.name for label in labels),
        }
    attributes: Json = {"long_name": _DISPLAY.get(image.role, image.role), "units": image.units}
    if not image.scaling.is_identity:
        # xarray then shows physical values; the stored numbers stay the source's.
        attributes |= {"scale_factor": image.scaling.slope, "add_offset": image.scaling.inter}
    return attributes


def coordinate_attributes(grid: Grid, axis: int) -> Json:
    """Return the attributes of the 1-D coordinate of one array axis."""
    dim = grid.dims[axis]
    if not grid.is_aligned:
        return {
            "units": "mm",
            "long_name": f"distance from voxel 0 along the axis closest to {dim}",
            "space": "voxel-mm",
        }
    return {
        "units": "mm",
        "axis": dim.upper(),
        "long_name": f"{_ENDS[dim]} position, RAS+",
        "direction": grid.directions[axis],
        "space": "RAS+ mm",
    }


def _packed(image: StoredImage) -> Json:
    if not image.source.masks:
        return {}
    masks = [msgspec.structs.asdict(mask) for mask in image.source.masks]
    return {"masks": masks, "overlap_voxels": image.source.overlap_voxels}


def _multiscale(image: StoredImage) -> Json:
    grid = image.grid
    is_label = image.is_label
    name = layout.array_name(image.path)
    return {
        "name": name,
        "type": "mode" if is_label else "mean",
        "metadata": {
            "method": "block mode, ties to the smallest region" if is_label else "block mean",
            "factors": [list(level.factors_zyx) for level in image.levels],
        },
        "axes": [ome_v06.axis(dim, value) for dim, value in zip(grid.dims, grid.directions, strict=True)],
        "datasets": [
            {
                "path": f"scale{number}/{name}",
                "coordinateTransformations": _transforms(grid, level.factors_zyx),
            }
            for number, level in enumerate(image.levels)
        ],
    }


def _transforms(grid: Grid, factors_zyx: Triple) -> list[Json]:
    # OME has positive scales only: an axis that runs down its world axis is given the negated origin, so that two
    # images of equal orientation overlay in viewers that know nothing but scale and translation.
    scale, translation = [], []
    for axis, factor in enumerate(factors_zyx):
        spacing = grid.spacing_mm_zyx[axis]
        origin = grid.signs[axis] * float(grid.origin_mm_ras[grid.world_axes[axis]])
        scale.append(spacing * factor)
        translation.append(origin + spacing * (factor - 1) / 2)
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]


def _channel(image: StoredImage) -> Json:
    statistics = image.statistics
    low, high = (statistics.minimum, statistics.maximum) if statistics else (None, None)
    start, end = _CT_WINDOW_HU
    if image.units != "HU":
        bright = (statistics.high if statistics else None) or 0.0
        start, end = 0.0, bright if bright > 0 else 1.0
    first, last = _stored_range(start, end, image)
    name = _DISPLAY.get(image.role, image.role)
    smallest, largest = _stored_range(start if low is None else low, end if high is None else high, image)
    window = {"min": smallest, "max": largest, "start": first, "end": last}
    return {"active": True, "color": _COLOR.get(image.role, "FFFFFF"), "label": name, "window": window}


def _stored_range(low: float, high: float, image: StoredImage) -> tuple[float, float]:
    # OME knows no intensity transform, so viewers show stored numbers and the window has to be in these; it runs
    # upwards also where the slope is negative, or all voxels are alike.
    slope, inter = image.scaling.slope, image.scaling.inter
    first, last = sorted(((low - inter) / slope, (high - inter) / slope))
    return first, last if last > first else first + 1


def _image_label(image: StoredImage, family: Family) -> Json:
    voxels = {region.value: region for region in image.regions}
    properties: list[Json] = [
        {
            "label-value": label.value,
            "name": label.name,
            "display_name": label.display,
            "snomed_ct": label.snomed_ct,
            "voxels": voxels[label.value].voxels if label.value in voxels else 0,
        }
        for label in family.labels
    ]
    known = family.by_value()
    unexpected = [region for region in image.regions if region.value not in known]
    properties += [{"label-value": each.value, "name": each.name, "voxels": each.voxels} for each in unexpected]
    values = [*known, *(region.value for region in unexpected)]
    colors = [{"label-value": value, "rgba": list(rgba_of(value))} for value in values]
    label: Json = {"colors": colors, "properties": properties}
    if image.ome_version == "0.5":
        label = {"version": image.ome_version, **label}
    if layout.carrier_of(image.path) is not None:
        label["source"] = {"image": "../../"}
    return label
