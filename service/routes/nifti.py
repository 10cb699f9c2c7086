"""Whole volumes as the NIfTI files that they were."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.conditions import REVALIDATE, etag_of, headers_alone, is_unchanged, wanted_range
from service.dependencies import CatalogDep, GrantDep, pool_of, upstream_of
from service.formats import gzipped, in_pieces
from service.openapi import data_answers
from service.parameters import QueryDep
from service.pool import DecodedResponse
from service.upstream import resolve
from service.virtual import VirtualNifti
from service.volumes import read_stored_volume
from service.voxels import VoxelReader

router = APIRouter(prefix="/v1/subjects/{subject}", tags=["data"])
_HEADERS: Final = {
    "Content-Disposition": "A name for the file.",
    "X-Voxshelf-Byte-Identical": "`false` for a label map whose values were rounded.",
}
_NII: Final = data_answers(("application/octet-stream",), ranged=True, also=_HEADERS)
_NII_GZ: Final = data_answers(("application/gzip",), also=_HEADERS)


@router.head("/{volume}.nii", include_in_schema=False)
@router.get("/{volume}.nii", summary="The source file, inflated", responses=_NII, response_class=Response)
async def nifti(
    request: Request, catalog: CatalogDep, grant: GrantDep, subject: str, volume: str, _query: QueryDep
) -> Response:
    """Return the bytes of the NIfTI file that the volume was converted from, or a range of them.

    Only the chunks that hold the range are read, so that nibabel over fsspec reads a slice and no more.
    ``X-Voxshelf-Byte-Identical`` is false for the rare label map whose values were rounded.
    """
    row = catalog.volume(subject, volume)
    etag = etag_of(row, "nii")
    headers = {**grant.headers(REVALIDATE), "ETag": etag, "Accept-Ranges": "bytes"}
    if is_unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    upstream, pool = upstream_of(request), pool_of(request)
    stored = await read_stored_volume(upstream, pool, row)
    file = VirtualNifti(stored)
    wanted = wanted_range(request, etag)
    start, stop = resolve(wanted, file.size)
    headers |= _named(subject, volume, "nii", identical=stored.lossless)
    headers["Content-Length"] = str(stop - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    if request.method == "HEAD":
        return headers_alone(headers, "application/octet-stream")
    pieces = in_pieces(file.pieces(VoxelReader(upstream, pool, subject), pool, start, stop))
    return DecodedResponse(await pool.begun(pieces), 206 if wanted else 200, headers, "application/octet-stream")


@router.head("/{volume}.nii.gz", include_in_schema=False)
@router.get("/{volume}.nii.gz", summary="The source file, gzipped anew", responses=_NII_GZ, response_class=Response)
async def nifti_gz(
    request: Request, catalog: CatalogDep, grant: GrantDep, subject: str, volume: str, _query: QueryDep
) -> Response:
    """Return the same as ``.nii``, gzipped on the way: the inflated bytes are those of the source, the gzip is ours."""
    row = catalog.volume(subject, volume)
    # Weak: the bytes are those of the compressor at hand.
    etag = f"W/{etag_of(row, 'nii.gz')}"
    headers = {**grant.headers(REVALIDATE), "ETag": etag, "Accept-Ranges": "none"}
    if is_unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    upstream, pool = upstream_of(request), pool_of(request)
    stored = await read_stored_volume(upstream, pool, row)
    file = VirtualNifti(stored)
    headers |= _named(subject, volume, "nii.gz", identical=stored.lossless)
    if request.method == "HEAD":
        return headers_alone(headers, "application/gzip")
    pieces = gzipped(pool, file.pieces(VoxelReader(upstream, pool, subject), pool, 0, file.size))
    return DecodedResponse(await pool.begun(pieces), 200, headers, "application/gzip")


def _named(subject: str, volume: str, extension: str, *, identical: bool) -> dict[str, str]:
    return {
        "Content-Disposition": f'attachment; filename="{subject}_{volume}.{extension}"',
        "X-Voxshelf-Byte-Identical": str(identical).lower(),
    }
