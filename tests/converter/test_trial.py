"""The choice of a codec by trial; tests/corpus/test_codec.py is about the bytes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from converter import trial
from corpus import codec
from corpus.models import CodecChoice

CHOICES = [CodecChoice(shuffle, level) for level, shuffle in product((1, 2, 3), ("noshuffle", "shuffle", "bitshuffle"))]
SHAPE = (16, 32, 32)
RANDOM = np.random.default_rng(5)


def noise(kind: str) -> np.ndarray:
    return RANDOM.integers(0, 255, (*SHAPE, np.dtype(kind).itemsize), dtype=np.uint8).view(kind)[..., 0]


def smooth() -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return (1000 * np.sin(z / 9) + 30 * y + x + RANDOM.integers(0, 20, SHAPE)).astype("<i2")


def size(samples: list[np.ndarray], choice: CodecChoice) -> int:
    return sum(len(codec.encode(sample, choice)) for sample in samples)


def test_no_samples_give_the_default() -> None:
    assert trial.choose([]) == trial.DEFAULT


@pytest.mark.parametrize(
    "samples",
    [
        [smooth()],
        [noise("<i2")],
        [noise("u1"), np.zeros(SHAPE, "u1")],
        [np.repeat(np.arange(4, dtype="u1"), 4096).reshape(SHAPE)],
        [RANDOM.choice(np.array([0, 0.1, 0.37, 2.5], "<f4"), SHAPE)],
        [np.full(SHAPE, 7, "<i2"), smooth()],
    ],
    ids=["smooth", "noise", "half noise", "labels", "few floats", "mixed"],
)
def test_the_choice_is_the_smallest_that_is_worth_its_cost(samples: list[np.ndarray]) -> None:
    choice = trial.choose(samples)
    assert choice in CHOICES
    chosen = size(samples, choice)
    spared = 0.97 if choice.shuffle == trial.DEFAULT.shuffle else 1
    for other in CHOICES:
        if other.clevel == choice.clevel:
            assert spared * chosen <= size(samples, other)
    if choice.clevel > 1:
        lower = min(size(samples, other) for other in CHOICES if other.clevel == 1)
        assert chosen < 0.97 * lower


def test_another_shuffle_has_to_save_three_percent() -> None:
    normal = np.random.default_rng(7).normal
    tissue = [(40 + normal(0, 20, SHAPE)).astype("<i2") for _ in range(4)]
    bits, own = CodecChoice("bitshuffle", 1), CodecChoice("shuffle", 1)
    samples = [*tissue, smooth()]
    assert 0.97 * size(samples, own) < size(samples, bits) < size(samples, own)
    assert trial.choose(samples) == own
    assert size([smooth()], bits) < 0.97 * size([smooth()], own)
    assert trial.choose([smooth()]).shuffle == "bitshuffle"


def test_at_the_higher_level_as_well() -> None:
    z, y, x = np.indices(SHAPE)
    sample = ((z * 7 + y * 9 + x) + np.random.default_rng(9).integers(0, 2, SHAPE)).astype("<i2")
    bits, own = CodecChoice("bitshuffle", 3), CodecChoice("shuffle", 3)
    assert 0.97 * size([sample], own) < size([sample], bits) < size([sample], own)
    assert trial.choose([sample]) == own


def test_noise_is_not_worth_a_higher_level() -> None:
    assert trial.choose([noise("<i2")]).clevel == 1


def test_smooth_numbers_are_shuffled() -> None:
    assert trial.choose([smooth()]).shuffle != "noshuffle"


def test_a_few_distinct_floats_are_not_shuffled() -> None:
    values = np.array([0.1, 0.37, 2.5, 3.14], "<f4")
    chunk = np.tile(np.random.default_rng(2).choice(values, 64), 256).reshape(SHAPE)
    assert trial.choose([chunk]).shuffle == "noshuffle"
