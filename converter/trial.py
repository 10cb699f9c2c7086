"""The codec of an image, found by trial on its own chunks; `corpus.codec` is what it is a choice of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from corpus.codec import SHUFFLES, encode
from corpus.geometry import Voxels
from corpus.models import CodecChoice

_HIGHER_LEVEL: Final = 3
_WORTH: Final = 0.97
"""What a choice costs it has to save, 3 %: at the higher level encoding takes about twice as long, and shuffled bits
take a fifth longer to decode than shuffled bytes."""
_HOPELESS: Final = 1.25
"""A shuffle that is this much larger at level 1 is not tried at the higher one."""

DEFAULT: Final = CodecChoice("shuffle", 1)


class Trial:
    """The codec of an image, found by trial on a few of its own chunks and then the same for all of its levels.

    Attributes
    ----------
    choice
        None until it is decided.
    """

    def __init__(self) -> None:
        self.choice: CodecChoice | None = None

    def decide(self, samples: Sequence[Voxels]) -> CodecChoice:
        """Return the choice; the first caller's samples make it."""
        if self.choice is None:
            self.choice = choose(samples)
        return self.choice


def choose(samples: Sequence[Voxels]) -> CodecChoice:
    """Return the shuffle and level that store a few of an array's own chunks smallest.

    Sizes decide, never times, so that the same voxels give the same choice everywhere.
    """
    if not samples:
        return DEFAULT
    low = {shuffle: _size(samples, CodecChoice(shuffle, 1)) for shuffle in SHUFFLES}
    best = _best(low)
    tried = [shuffle for shuffle in low if low[shuffle] <= _HOPELESS * low[best]]
    high = {shuffle: _size(samples, CodecChoice(shuffle, _HIGHER_LEVEL)) for shuffle in tried}
    higher = _best(high)
    if high[higher] < _WORTH * low[best]:
        return CodecChoice(higher, _HIGHER_LEVEL)
    return CodecChoice(best, 1)


def _best(sizes: dict[str, int]) -> str:
    least = min(sizes, key=lambda shuffle: sizes[shuffle])
    return DEFAULT.shuffle if _WORTH * sizes.get(DEFAULT.shuffle, math.inf) <= sizes[least] else least


def _size(samples: Sequence[Voxels], choice: CodecChoice) -> int:
    return sum(len(encode(chunk, choice)) for chunk in samples)
