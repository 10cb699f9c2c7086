"""The label tables: families of anatomical regions, their values, names, codes and colours."""

from __future__ import annotations

import colorsys
from functools import cache
from importlib import resources
from typing import Any

import msgspec


class Label(msgspec.Struct, frozen=True):
    """One region of a family.

    Attributes
    ----------
    value
        Voxel value. Values restart at 1 in every family, so (family, value) is the key.
    name
        Identifier, for example ``kidney_left``.
    display
        Name for people.
    snomed_ct
        SNOMED CT concept id of the structure, without laterality; None where there is none.
    side
        ``left``, ``right`` or None.
    in_every_release
        Whether every release of the corpus has label maps that hold it.
    """

    value: int
    name: str
    display: str
    snomed_ct: str | None = None
    side: str | None = None
    in_every_release: bool = True


class Family(msgspec.Struct, frozen=True):
    """A label map's table.

    Attributes
    ----------
    id
        Spelling used in keys, for example ``peripheral_bones``.
    display
        Name for people.
    folder
        Folder of ENHANCE.PET; empty for other corpora.
    labels
        The regions, by value.
    """

    id: str
    display: str
    folder: str
    labels: tuple[Label, ...]

    def by_value(self) -> dict[int, Label]:
        """Look-up of regions by voxel value."""
        return {label.value: label for label in self.labels}

    def by_name(self) -> dict[str, Label]:
        """Look-up of regions by identifier."""
        return {label.name: label for label in self.labels}


def rgba_of(value: int) -> tuple[int, int, int, int]:
    """Return the colour of a voxel value, such that neighbouring values differ (the published colours repeat)."""
    # Steps by the golden ratio spread any number of hues without two neighbours being alike.
    hue = (value * 0.6180339887) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.65, 0.9)[value % 2], (0.95, 0.8)[value // 2 % 2])
    return round(red * 255), round(green * 255), round(blue * 255), 255


@cache
def label_document() -> dict[str, Any]:
    """Return the complete published table, as it is also written into each mirror as ``labels.json``."""
    text = resources.files("corpus").joinpath("data/enhance-pet-labels.json").read_bytes()
    document: dict[str, Any] = msgspec.json.decode(text)
    return document


@cache
def families() -> dict[str, Family]:
    """Return the seven ENHANCE.PET families by id, in the order of the published table."""
    return {entry["id"]: _family(entry) for entry in label_document()["families"]}


def _family(entry: dict[str, Any]) -> Family:
    labels = tuple(
        Label(
            label["value"],
            label["name"],
            label["display"],
            (label["snomed_ct"] or {}).get("code"),
            label["side"],
            label["release_status"] == "released",
        )
        for label in entry["labels"]
    )
    return Family(entry["id"], entry["display"], entry["folder"], labels)
