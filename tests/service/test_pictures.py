"""Pictures: the same for every voxel order, on the right side, and where the label tables say."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from corpus.catalog import read_catalog
from corpus.labels import rgba_of
from corpus.picture import CT_WINDOWS_HU, grey, hot
from corpus.stores import Store

Source = Callable[..., bytes]
SUBJECTS = [f"{number + 1:04d}" for number in range(12)]


def picture(client: httpx.Client, path: str, **params: Any) -> np.ndarray:
    answer = client.get(f"/v1/subjects/{path}", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_picture_is_the_same_for_every_voxel_order(orders_client: httpx.Client, plane: str) -> None:
    # The same body in twelve orders. Amid a voxel, so that noise does not decide between two.
    at = {"axial": 21.45, "coronal": -1.3, "sagittal": 9.0}[plane]
    for role, extra in (("ct", {"window": "-1000,3000", "overlay": "organs"}), ("organs", {})):
        first = picture(orders_client, f"0001/{role}/slice.png", plane=plane, mm=at, size=160, **extra)
        assert first.std() > 10
        for subject in SUBJECTS[1:]:
            other = picture(orders_client, f"{subject}/{role}/slice.png", plane=plane, mm=at, size=160, **extra)
            assert other.shape == first.shape
            assert np.abs(other.astype(int) - first).max() <= 1, subject


def test_pixels_are_squares_in_mm_and_the_size_is_that_of_the_longer_side(orders_client: httpx.Client) -> None:
    # 80 x 44 x 30 voxels of 0.9 x 1.1 x 1.3 mm.
    extent = {"x": 72.0, "y": 48.4, "z": 39.0}
    for plane, (row, column) in {"axial": "yx", "coronal": "zx", "sagittal": "zy"}.items():
        shape = picture(orders_client, "0004/ct/slice.png", plane=plane, size=200).shape
        assert max(shape[:2]) == 200
        assert shape[0] / shape[1] == pytest.approx(extent[row] / extent[column], abs=0.02)


def test_sides_are_as_in_radiology(client: httpx.Client, mirror: Path) -> None:
    catalog = read_catalog(Store(str(mirror)))
    for subject in ("0001", "0002", "0003", "0004"):
        regions = {region["name"]: region for region in catalog.regions[subject]}
        liver, spleen = regions["liver"], regions["spleen"]
        color = {name: np.array(rgba_of(regions[name]["value"])[:3]) for name in ("liver", "spleen")}
        at = {"plane": "coronal", "mm": liver["centroid_y_mm"]}
        shown = picture(client, f"{subject}/organs/slice.png", **at)
        rows, columns = np.nonzero((shown == color["liver"]).all(axis=2))
        assert columns.mean() < shown.shape[1] / 2, "the liver is on the patient's right, drawn on the left"
        at = {"plane": "axial", "mm": spleen["centroid_z_mm"]}
        shown = picture(client, f"{subject}/organs/slice.png", **at)
        right, left = (np.nonzero((shown == color[name]).all(axis=2))[1] for name in ("liver", "spleen"))
        assert right.mean() < left.mean()
        # The liver is above the bladder, which a coronal picture shows.
        assert rows.mean() < shown.shape[0] / 2


def test_an_overlay_lies_where_the_label_is_also_over_a_pet(client: httpx.Client, mirror: Path) -> None:
    liver = read_catalog(Store(str(mirror))).region("0002", "liver")
    for role in ("ct", "pet"):
        at = {"plane": "axial", "mm": liver["centroid_z_mm"], "size": 300}
        bare = picture(client, f"0002/{role}/slice.png", **at)
        drawn = picture(client, f"0002/{role}/slice.png", labels="liver", opacity=1.0, **at)
        tinted = (drawn == rgba_of(liver["value"])[:3]).all(axis=2)
        assert np.array_equal(drawn[~tinted], bare[~tinted]), "nothing else is touched"
        row = read_catalog(Store(str(mirror))).volume("0002", role)
        affine = np.reshape(row["affine"], (4, 4))
        # Both volumes of the phantom are LAS: columns run as x falls, rows as y falls.
        right = affine[0, 3] - affine[0, 0] / 2
        front = affine[1, 3] + affine[1, 1] * (row["shape_zyx"][1] - 0.5)
        mm = row["spacing_mm_zyx"][2] * row["shape_zyx"][2] / bare.shape[1]
        rows, columns = np.nonzero(tinted)
        assert right - (columns.min() + 0.5) * mm <= liver["x_max_mm"]
        assert right - (columns.max() + 0.5) * mm >= liver["x_min_mm"]
        assert front - (rows.min() + 0.5) * mm <= liver["y_max_mm"]
        assert front - (rows.max() + 0.5) * mm >= liver["y_min_mm"]
        middle = right - (columns.mean() + 0.5) * mm, front - (rows.mean() + 0.5) * mm
        assert np.abs(np.subtract(middle, (liver["centroid_x_mm"], liver["centroid_y_mm"]))).max() < 25


def test_windows(client: httpx.Client) -> None:
    values = np.array([[-2000.0, -160, 40, 240, 3000]])
    assert grey(values, CT_WINDOWS_HU["soft"])[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert hot(np.array([[0.0, 0.5, 1.0]]), (0, 1)).tolist() == [[[0, 0, 0], [255, 128, 0], [255, 255, 255]]]
    shown = {name: picture(client, "0001/ct/slice.png", preset=name, size=64) for name in CT_WINDOWS_HU}
    assert len({image.tobytes() for image in shown.values()}) == len(CT_WINDOWS_HU)
    same = picture(client, "0001/ct/slice.png", window="-1350,150", size=64)
    assert np.array_equal(same, shown["lung"])
    assert np.array_equal(picture(client, "0001/ct/slice.png", size=64), shown["soft"])
    pet = picture(client, "0001/pet/slice.png", plane="coronal", size=64).astype(int)
    assert ((pet[..., 0] >= pet[..., 1]) & (pet[..., 1] >= pet[..., 2])).all()


def test_index_and_mm_name_the_same_slice(client: httpx.Client, mirror: Path) -> None:
    row = read_catalog(Store(str(mirror))).volume("0001", "ct")
    affine = np.reshape(row["affine"], (4, 4))
    for index in (0, 30, 71):
        by_index = picture(client, "0001/ct/slice.png", index=index, size=128)
        by_mm = picture(client, "0001/ct/slice.png", mm=affine[2, 3] + affine[2, 2] * (index + 0.3), size=128)
        assert np.array_equal(by_index, by_mm)


def test_small_pictures_come_from_coarse_levels_and_show_the_same(client: httpx.Client) -> None:
    large = picture(client, "0001/ct/slice.png", plane="coronal", size=480)
    small = picture(client, "0001/ct/slice.png", plane="coronal", size=48)
    assert small.shape[0] == 48
    blocks = np.asarray(Image.fromarray(large).resize(small.shape[1::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(blocks - small).mean() < 20
    thumbnail = picture(client, "0001/pet/thumbnail.png")
    assert max(thumbnail.shape[:2]) == 160


def test_an_unchanged_picture_is_not_drawn_again(client: httpx.Client) -> None:
    url = "/v1/subjects/0001/ct/slice.png"
    answer = client.get(url)
    etag = answer.headers["etag"]
    again = client.get(url, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    queries = ["index=3", "index=4", "size=99", "preset=lung", "overlay=organs", "labels=liver", "labels=spleen"]
    tags = {client.head(f"{url}?{query}").headers["etag"] for query in [*queries, "opacity=1"]}
    assert len(tags | {etag}) == 9


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("0001/ct/slice.png?index=72", 400),
        ("0001/ct/slice.png?mm=99999", 400),
        ("0001/ct/slice.png?index=-1", 422),
        ("0001/ct/slice.png?plane=oblique", 422),
        ("0001/ct/slice.png?size=9999", 422),
        ("0001/ct/slice.png?mm=nan", 422),
        ("0001/ct/slice.png?labels=trachea", 404),
        ("0001/ct/slice.png?overlay=nothing", 404),
        ("0001/ct/slice.png?overlay=pet", None),
        ("0001/ct/slice.png?index=1&mm=1", None),
        ("0001/ct/slice.png?window=5,5", None),
        ("0001/ct/slice.png?window=1", None),
        ("0001/pet/slice.png?preset=lung", None),
        ("0001/ct/slice.png?planes=coronal", 422),
        ("0001/ct/slice.png?plane=axial&plane=coronal", 422),
        ("0001/ct/slice.png?labels=liver&overlay=ribs", 422),
        ("0001/organs/slice.png?window=0,5", 422),
        ("0001/ct/thumbnail.png?plane=axial", 422),
        ("0001/mr/thumbnail.png", 404),
    ],
)
def test_what_cannot_be_drawn(client: httpx.Client, path: str, status: int | None) -> None:
    answer = client.get(f"/v1/subjects/{path}")
    assert answer.status_code in {400, 404, 422}
    assert status in {None, answer.status_code}
    assert client.head(f"/v1/subjects/{path}").status_code == answer.status_code


@pytest.mark.parametrize("name", ["slice.png", "thumbnail.png"])
def test_head_does_not_claim_that_a_picture_is_empty(client: httpx.Client, name: str) -> None:
    head, get = client.head(f"/v1/subjects/0001/ct/{name}"), client.get(f"/v1/subjects/0001/ct/{name}")
    assert (head.status_code, head.content, "content-length" in head.headers) == (200, b"", False)
    assert head.headers["etag"] == get.headers["etag"]
