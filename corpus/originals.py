"""From stored voxels back to those of the source file: its type, its byte order, its numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from corpus.geometry import Voxels
from corpus.models import Scaling


def as_source(part: Voxels, dtype_source: str, scaling: Scaling, *, is_label: bool) -> Voxels:
    """Return voxels as the source file has them; C-contiguous.

    Parameters
    ----------
    part
        Stored numbers, already in the source's voxel order.
    dtype_source
        Voxel type of the file with byte order, for example ``>i2``.
    scaling
        Of the file; label maps are stored without it.
    is_label
        Whether the volume is a label map.
    """
    dtype = np.dtype(dtype_source)
    if is_label and not scaling.is_identity:
        part = undo_label_scaling(part, dtype.newbyteorder("="), scaling)
    return np.ascontiguousarray(part, dtype=dtype)


def undo_label_scaling(labels: Voxels, dtype: np.dtype[Any], scaling: Scaling) -> Voxels:
    """Return label values as the source stored them: the inverse of its slope and inter, in its type."""
    raw = (labels.astype(np.float64) - scaling.inter) / scaling.slope
    return (np.rint(raw) if dtype.kind in "iu" else raw).astype(dtype)
