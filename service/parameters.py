"""Query parameters of the routes that decode, as values."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, get_origin

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from corpus.cutouts import Cut
from corpus.errors import RequestError
from corpus.regions import Box
from service.formats import Format
from service.search import SubjectFilter

_SIX = "six numbers with commas between"


class DataQuery(BaseModel):
    """What every route that decodes takes. What none takes is refused: ``lable=liver``, ignored, would give it all."""

    model_config = ConfigDict(extra="forbid")

    acknowledge: Annotated[
        list[str], Field(max_length=20, description="SPDX ids of licences that are accepted.", examples=[["CC-BY-4.0"]])
    ] = []  # pydantic copies it


QueryDep = Annotated[DataQuery, Query()]
"""Of routes that take nothing else."""


_LISTS: Final = frozenset(
    name
    for model in (DataQuery, SubjectFilter)
    for name, field in model.model_fields.items()
    if get_origin(field.annotation) is list
)


async def given_once(request: Request) -> None:
    """Refuse a parameter that stands twice: of ``label=liver&label=spleen`` the framework would take the last.

    Raises
    ------
    RequestError
        It does, and is not one that takes several.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if twice := [name for name, count in counts.items() if count > 1 and name not in _LISTS]:
        raise RequestError("request.parameter", f"{twice[0][:80]} stands more than once")


class CutQuery(DataQuery):
    """Which part of a volume is wanted; without a region, all of the level."""

    level: Annotated[int, Field(ge=0, le=99, description="Of the pyramid; 0 is full resolution.")] = 0
    label: Annotated[
        str | None,
        Field(max_length=100, description="Only the surroundings of this label, also of a volume on another grid."),
    ] = None
    margin_mm: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False, description="Around the label, in mm.")] = (
        0.0
    )
    bbox_mm: Annotated[
        str | None,
        Field(
            max_length=300,
            description=f"Only voxels whose centres lie in this box: x0,y0,z0,x1,y1,z1 in RAS+ mm ({_SIX}).",
            examples=["-50,-50,100,50,50,200"],
        ),
    ] = None
    box: Annotated[
        str | None,
        Field(
            max_length=300,
            description=f"Only these voxels of the level, half-open, in array order: z0,y0,x0,z1,y1,x1 ({_SIX}).",
            examples=["0,0,0,16,128,128"],
        ),
    ] = None

    format: Annotated[Format | None, Field(description="What it comes as; nii.gz if not given.")] = None

    def cut(self) -> Cut:
        """Return what is meant.

        Raises
        ------
        RequestError
            A box is not six numbers, more than one region is given, or a margin of none.
        """
        box = None
        if self.box is not None:
            numbers = _numbers(self.box, "box")
            if any(number != int(number) for number in numbers):
                raise RequestError("request.parameter", f"box={self.box!r} counts voxels: whole numbers are wanted")
            box = Box.of(numbers[:3], numbers[3:])
        bounds = None
        if self.bbox_mm is not None:
            x0, y0, z0, x1, y1, z1 = _numbers(self.bbox_mm, "bbox_mm")
            bounds = x0, y0, z0, x1, y1, z1
        cut = Cut(self.level, self.label, self.margin_mm, bounds, box)
        if cut.regions > 1:
            raise RequestError("request.parameter", "give one of label, bbox_mm and box")
        if self.margin_mm and self.label is None:
            raise RequestError("request.parameter", "margin_mm is around a label, and none is given")
        return cut


def _numbers(text: str, name: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    # Not NaN, and nothing that no longer is a voxel number.
    if len(numbers) != 6 or not all(abs(number) < 2**53 for number in numbers):
        raise RequestError("request.parameter", f"{name}={text!r} is not {_SIX}")
    return numbers
