"""Cut-outs: a part of a volume as a file, with an affine of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Buffer
from typing import Annotated

import msgspec
import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from corpus.cutouts import Cut, box_of_cut
from corpus.errors import RequestError
from corpus.geometry import Grid
from corpus.regions import Box
from service.conditions import REVALIDATE, etag_of, headers_alone, is_unchanged
from service.dependencies import CatalogDep, GrantDep, pool_of, upstream_of
from service.formats import Format, gzipped, header_of, in_pieces
from service.openapi import data_answers
from service.parameters import CutQuery
from service.pool import DecodedResponse
from service.volumes import StoredArray, StoredVolume, read_stored_volume
from service.voxels import VoxelReader

router = APIRouter(
    prefix="/v1/subjects/{subject}/{volume}",
    tags=["data"],
    responses=data_answers(
        ("application/gzip", "application/octet-stream"),
        "not-found.label",
        "not-found.level",
        "request.region",
        "request.too-large",
        also={
            "Content-Disposition": "A name for the file.",
            "X-Voxshelf-Affine": "From voxels i, j, k of the cut-out to RAS+ mm: 16 numbers, row by row.",
            "X-Voxshelf-Dtype": "Of the numbers, as NumPy writes it: `<i2`.",
            "X-Voxshelf-Inter": "To be added to a stored number times `X-Voxshelf-Slope` for its physical value.",
            "X-Voxshelf-Level": "Of the pyramid.",
            "X-Voxshelf-Shape": "Voxels along z, y, x.",
            "X-Voxshelf-Slope": "Physical value of one step of the stored numbers.",
            "X-Voxshelf-Spacing-Mm": "Along z, y, x.",
            "X-Voxshelf-Start": "First voxel in the level, along z, y, x.",
            "X-Voxshelf-Units": "Of physical values; empty where they are not known.",
        },
    ),
)

CutDep = Annotated[CutQuery, Query()]


class Part(msgspec.Struct, frozen=True):
    """A cut-out that was found, and not read yet.

    Attributes
    ----------
    volume, array
        Of what.
    box
        Its voxels in the level.
    grid
        Their lattice.
    """

    volume: StoredVolume
    array: StoredArray
    box: Box
    grid: Grid

    @property
    def voxel_bytes(self) -> int:
        """Bytes of its voxels."""
        z, y, x = self.box.shape_zyx
        return z * y * x * np.dtype(self.array.dtype).itemsize


@router.head("/cutout", include_in_schema=False)
@router.get("/cutout", summary="A part of a volume", response_class=Response)
async def cutout(
    request: Request, catalog: CatalogDep, grant: GrantDep, subject: str, volume: str, query: CutDep
) -> Response:
    """Return the voxels around a label, in a box, or all of a level, as NIfTI, NumPy array or bare numbers.

    Stored numbers, not rescaled ones: slope and intercept are in the NIfTI header, and in ``X-Voxshelf-Slope`` and
    ``X-Voxshelf-Inter`` for the others. The affine is that of the cut-out.
    """
    row, cut, format_ = catalog.volume(subject, volume), query.cut(), query.format or Format.NII_GZ
    # Weak where the bytes are those of the compressor at hand.
    weak = "W/" if format_ is Format.NII_GZ else ""
    etag = weak + etag_of(row, catalog.regions.get(subject), cut, format_)
    headers = {**grant.headers(REVALIDATE), "ETag": etag}
    if is_unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    upstream, pool = upstream_of(request), pool_of(request)
    stored = await read_stored_volume(upstream, pool, row)
    array = stored.array(cut.level)
    box = box_of_cut(cut, catalog, row, array.level.grid, array.level.factors_zyx)
    part = Part(stored, array, box, array.level.grid.cropped(box.start_zyx, box.stop_zyx))
    _require_size(part, request.app.state.settings.most_answer_mb)
    header = header_of(format_, stored, part.grid)
    headers |= _headers(part, cut, format_)
    if format_ is not Format.NII_GZ:
        headers["Content-Length"] = str(len(header) + part.voxel_bytes)
    if request.method == "HEAD":
        return headers_alone(headers, format_.media_type)
    parts = _parts(header, VoxelReader(upstream, pool, subject), part)
    pieces = gzipped(pool, parts) if format_ is Format.NII_GZ else in_pieces(parts)
    return DecodedResponse(await pool.begun(pieces), 200, headers, format_.media_type)


@router.head("/cutout.{extension}", include_in_schema=False)
@router.get("/cutout.{extension}", summary="A part of a volume, named as a file", response_class=Response)
async def cutout_file(
    request: Request,
    catalog: CatalogDep,
    grant: GrantDep,
    subject: str,
    volume: str,
    extension: Format,
    query: CutDep,
) -> Response:
    """Return the same as ``cutout``, for tools that tell a format by the name's end."""
    if query.format not in {None, extension}:
        raise RequestError("request.parameter", f"format={query.format} of a file that ends in .{extension}")
    query.format = extension
    return await cutout(request, catalog, grant, subject, volume, query)


async def _parts(header: bytes, reader: VoxelReader, part: Part) -> AsyncGenerator[Buffer]:
    yield header
    async for slab in reader.slabs(part.array, part.box):
        yield slab.view(np.uint8).ravel()


def _require_size(part: Part, most_mb: float) -> None:
    if part.voxel_bytes > most_mb * 1e6:
        message = (
            f"{' x '.join(map(str, part.box.shape_zyx))} voxels (z, y, x) of {part.array.dtype} are "
            f"{part.voxel_bytes / 1e6:.1f} MB; one answer holds at most {most_mb:g} MB"
        )
        raise RequestError("request.too-large", message)


def _headers(part: Part, cut: Cut, format_: Format) -> dict[str, str]:
    row, scaling = part.volume.row, part.volume.scaling
    name = "_".join([row["subject"], row["volume"].removeprefix("labels/"), *([cut.label] if cut.label else [])])
    level = f"_level{cut.level}" if cut.level else ""
    return {
        "Accept-Ranges": "none",
        "Content-Disposition": f'attachment; filename="{name}{level}.{format_}"',
        "X-Voxshelf-Affine": _text(value for line in part.grid.affine for value in line),
        "X-Voxshelf-Dtype": np.dtype(part.array.dtype).newbyteorder("<").str,
        "X-Voxshelf-Inter": repr(scaling.inter),
        "X-Voxshelf-Level": str(cut.level),
        "X-Voxshelf-Shape": _text(part.box.shape_zyx),
        "X-Voxshelf-Slope": repr(scaling.slope),
        "X-Voxshelf-Spacing-Mm": _text(part.grid.spacing_mm_zyx),
        "X-Voxshelf-Start": _text(part.box.start_zyx),
        "X-Voxshelf-Units": row["units"] or "",
    }


def _text(numbers: object) -> str:
    return ",".join(map(repr, numbers))  # type: ignore[call-overload]  # any numbers
