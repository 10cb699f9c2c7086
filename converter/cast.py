"""From the source's voxel type to the stored one: narrower only where every voxel survives the way back."""

from __future__ import annotations

from typing import Final

import numpy as np

from corpus.errors import SourceError
from corpus.geometry import Voxels
from corpus.models import Scaling
from corpus.originals import undo_label_scaling

_LABEL_TYPES: Final = ("uint8", "uint16", "uint32")
LABEL_ROUNDING: Final = 1e-3
"""How far a label value may lie off a whole number and still be meant as one."""


class DoesNotFitError(Exception):
    """A voxel would not survive in the type that was tried: the volume has to be read again for the next one."""


def stored_types(kind: str | None, dtype_source: str, *, is_label: bool) -> tuple[str, ...]:
    """Return the voxel types to try, narrowest first; the last one always fits.

    Parameters
    ----------
    kind
        Only a CT is tried as int16 when it is stored as whole numbers in a float: Hounsfield units are such.
    dtype_source
        Voxel type of the file, for example ``<f4``.
    is_label
        Label maps are unsigned.
    """
    source = np.dtype(dtype_source)
    if is_label:
        return _LABEL_TYPES
    own = source.newbyteorder("=").name
    types = []
    if source.itemsize > 2 and (kind == "ct" or source.kind in "iu"):
        types.append("int16")
    if source.itemsize == 8:
        types.append("float32" if source.kind == "f" else "int32")
    return (*types, own)


class Cast:
    """Turns slabs of one volume into the stored type, and remembers whether anything was lost.

    Parameters
    ----------
    target
        One of `stored_types`.
    scaling
        Of the source; label maps are decoded with it.
    is_label
        Whether values must be whole and not negative.
    place
        Name of the file, for errors.

    Attributes
    ----------
    lossless
        Whether the source's voxel bytes can be had back.
    """

    def __init__(self, target: str, scaling: Scaling, *, is_label: bool, place: str) -> None:
        self._target = np.dtype(target).newbyteorder("<")
        self._scaling = scaling
        self._is_label = is_label
        self._place = place
        self.lossless = True

    @property
    def rounded(self) -> bool:
        """Whether label values were changed on the way."""
        return not self.lossless

    def keeps_bytes(self, dtype_source: str) -> bool:
        """Whether the stored bytes of a file of this voxel type are its own."""
        return np.dtype(dtype_source) == self._target and not (self._is_label and not self._scaling.is_identity)

    def __call__(self, slab: Voxels) -> Voxels:
        """Return the slab in the stored type, little-endian; the same object where nothing has to change.

        Raises
        ------
        DoesNotFitError
            A voxel would not survive: try the next type.
        SourceError
            A label is fractional, negative or too large for any type.
        """
        if self._is_label:
            return self._label(slab)
        if slab.dtype == self._target:
            return slab
        with np.errstate(invalid="ignore", over="ignore"):
            stored = slab.astype(self._target)
            if slab.dtype.newbyteorder("=") == self._target.newbyteorder("="):
                return stored
            back = stored.astype(slab.dtype)
        # Bytes, not values: NaN payloads and the sign of zero have to come back too.
        if not np.array_equal(_bits(back), _bits(slab)):
            raise DoesNotFitError
        return stored

    def _label(self, slab: Voxels) -> Voxels:
        whole = slab if slab.dtype.kind in "iu" and self._scaling.is_identity else self._decoded(slab)
        low, high = int(whole.min()), int(whole.max())
        if low < 0 or high > np.iinfo(np.uint32).max:
            raise SourceError("source.label-range", f"label values run from {low} to {high}", place=self._place)
        if high > np.iinfo(self._target).max:
            raise DoesNotFitError
        return whole.astype(self._target, copy=False)

    def _decoded(self, slab: Voxels) -> Voxels:
        slope, inter = self._scaling.slope, self._scaling.inter
        values = slab.astype(np.float64) * slope + inter
        whole = np.rint(values)
        with np.errstate(invalid="ignore"):
            # NaN and infinities are off by NaN, which no comparison lets pass.
            off = float(np.max(np.abs(values - whole)))
        if not off <= LABEL_ROUNDING:
            raise SourceError(
                "source.label-fractional", f"a label value is off a whole number by {off}", place=self._place
            )
        if np.abs(whole).max() >= 2**53:
            raise SourceError("source.label-range", f"a label value is {np.abs(whole).max()}", place=self._place)
        back = undo_label_scaling(whole, slab.dtype, self._scaling)
        self.lossless &= back.tobytes() == slab.tobytes()
        return whole.astype(np.int64)


def _bits(array: Voxels) -> Voxels:
    return array.view(f"u{array.itemsize}")
