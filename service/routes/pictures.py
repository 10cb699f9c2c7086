"""Slices and thumbnails as PNG."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from corpus.catalog import Catalog
from corpus.errors import RequestError
from corpus.picture import CT_WINDOWS_HU, PLANES
from corpus.volumes import is_label
from service.access import Grant
from service.conditions import REVALIDATE, etag_of, headers_alone, is_unchanged
from service.dependencies import CatalogDep, GrantDep, pool_of, upstream_of
from service.openapi import data_answers
from service.parameters import DataQuery, QueryDep
from service.pictures import View, draw, require_view, values_of
from service.volumes import read_stored_volume
from service.voxels import VoxelReader

router = APIRouter(
    prefix="/v1/subjects/{subject}/{volume}",
    tags=["pictures"],
    responses=data_answers(("image/png",), "not-found.label", "request.region", "request.too-large"),
)

_PLANE = f"^({'|'.join(PLANES)})$"
_PRESET = f"^({'|'.join(CT_WINDOWS_HU)})$"


class SliceQuery(DataQuery):
    """Which slice, and how it is shown."""

    plane: Annotated[str, Field(pattern=_PLANE, description="axial, coronal or sagittal.")] = "axial"
    index: Annotated[
        int | None, Field(ge=0, description="Slice of level 0, counted along the array; the middle one if not given.")
    ] = None
    mm: Annotated[
        float | None,
        Field(ge=-1e6, le=1e6, allow_inf_nan=False, description="World position of the slice, RAS+ mm, for index."),
    ] = None
    size: Annotated[int, Field(ge=16, le=2048, description="Pixels of the longer side.")] = 512
    preset: Annotated[
        str | None, Field(pattern=_PRESET, description=f"Window of a CT: {', '.join(CT_WINDOWS_HU)}.")
    ] = None
    window: Annotated[
        str | None,
        Field(max_length=60, description="low,high: physical values that are black and white.", examples=["-160,240"]),
    ] = None
    overlay: Annotated[
        str | None, Field(max_length=200, description="Label families over it, with commas between: organs,ribs.")
    ] = None
    labels: Annotated[
        str | None, Field(max_length=1000, description="Only these labels, with commas between: liver,spleen.")
    ] = None
    opacity: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, description="Of labels.")] = 0.4

    def view(self) -> View:
        """Return what is meant.

        Raises
        ------
        RequestError
            Two parameters say the same thing, or the window is none.
        """
        if self.index is not None and self.mm is not None:
            raise RequestError("request.parameter", "give one of index and mm")
        if self.preset is not None and self.window is not None:
            raise RequestError("request.parameter", "give one of preset and window")
        window = _window(self.window) if self.window is not None else None
        return View(self.plane, self.index, self.mm, self.size, self.preset, window, self.opacity, _names(self.labels))


@router.head("/slice.png", include_in_schema=False)
@router.get("/slice.png", summary="A slice as a picture", response_class=Response)
async def slice_png(
    request: Request,
    catalog: CatalogDep,
    grant: GrantDep,
    volume: str,
    query: Annotated[SliceQuery, Query()],
) -> Response:
    """Return a slice: CT in grey, PET from black over red to white, label maps in their colours.

    Drawn as in radiology, the same for every voxel order: the patient's right is on the left, the head or the front is
    up, and pixels are squares in mm. Labels are found by world position, also over a PET.
    """
    return await _picture(request, catalog, grant, volume, (query.view(), _names(query.overlay)))


@router.head("/thumbnail.png", include_in_schema=False)
@router.get("/thumbnail.png", summary="A small picture", response_class=Response)
async def thumbnail(request: Request, catalog: CatalogDep, grant: GrantDep, volume: str, _query: QueryDep) -> Response:
    """Return the middle coronal slice, 160 pixels high or wide."""
    return await _picture(request, catalog, grant, volume, (View(plane="coronal", size=160), ()))


async def _picture(
    request: Request, catalog: Catalog, grant: Grant, volume: str, wanted: tuple[View, tuple[str, ...]]
) -> Response:
    view, families = wanted
    subject = request.path_params["subject"]
    row = catalog.volume(subject, volume)
    values = values_of(catalog, subject, view.labels)
    rows = [catalog.volume(subject, family) for family in families or values]
    if strange := [each["volume"] for each in rows if not is_label(each)]:
        raise RequestError("request.parameter", f"overlay={strange[0]} is no label map")
    if families and (hidden := set(values) - set(families)):
        raise RequestError("request.parameter", f"labels names some of {min(hidden)}, which overlay leaves out")
    require_view(row, view)
    etag = etag_of(row, rows, view, sorted(values))
    headers = {**grant.headers(REVALIDATE), "ETag": etag}
    if is_unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return headers_alone(headers, "image/png")
    upstream, pool = upstream_of(request), pool_of(request)
    async with pool.turn():
        shown = await read_stored_volume(upstream, pool, row)
        overlays = [
            (await read_stored_volume(upstream, pool, each), _of_family(values, each["volume"])) for each in rows
        ]
        data = await draw(VoxelReader(upstream, pool, subject), pool, shown, overlays, view)
    return Response(data, headers=headers, media_type="image/png")


def _of_family(values: dict[str, frozenset[int]], volume: str) -> frozenset[int]:
    # -1 is no label's value: a family of which none is wanted shows none.
    return values.get(volume.removeprefix("labels/"), frozenset({-1})) if values else frozenset()


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _window(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -1e9 < low < high < 1e9:
        raise RequestError("request.parameter", f"window={text!r} is not low,high with low below high")
    return low, high
