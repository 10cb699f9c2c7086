"""Cut-outs, against nibabel's resampling of the source file by world position."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.processing import resample_from_to

from corpus.catalog import read_catalog
from corpus.stores import Store
from service.app import create_app
from service.settings import ServiceSettings

Image = Callable[[bytes], nib.Nifti1Image]
Source = Callable[..., bytes]

SUBJECTS = [f"{number + 1:04d}" for number in range(12)]
BOX = "-31,-24,5,26,12.6,37"
ABSENT = -4321.0
SHARD = "ct/scale0/ct/c/0/0/0"


def fetched(client: httpx.Client, path: str, **params: Any) -> httpx.Response:
    answer = client.get(f"/v1/subjects/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def check(part: nib.Nifti1Image, whole: nib.Nifti1Image) -> None:
    """Every voxel of the part is the one that the whole has at its place, in physical values."""
    expected = resample_from_to(whole, (part.shape, part.affine), order=0, mode="constant", cval=ABSENT)
    np.testing.assert_allclose(part.get_fdata(), expected.get_fdata(), rtol=1e-6)
    assert part.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(part.get_qform(), part.get_sform(), atol=1e-4)


def centres(image: nib.Nifti1Image, mask: Any = True) -> np.ndarray:
    return np.asarray(apply_affine(image.affine, np.argwhere(np.broadcast_to(mask, image.shape))))


def holds(part: nib.Nifti1Image, world_mm: np.ndarray) -> np.ndarray:
    index = apply_affine(np.linalg.inv(part.affine), world_mm)
    return np.asarray(np.all((index >= -0.5001) & (index <= np.array(part.shape) - 0.4999), axis=1))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_boxes_and_labels_lie_where_they_were_in_every_order(
    orders_client: httpx.Client, orders_corpus: Path, source_of: Source, image_of: Image, subject: str
) -> None:
    organs = image_of(source_of(orders_corpus, "organs", subject))
    liver = centres(organs, np.asarray(organs.dataobj) == 8)
    low, high = np.reshape([float(number) for number in BOX.split(",")], (2, 3))
    for role in ("ct", "organs", "pet"):
        whole = image_of(source_of(orders_corpus, role, subject))
        part = image_of(fetched(orders_client, f"{subject}/{role}/cutout", bbox_mm=BOX).content)
        check(part, whole)
        inside = np.all((centres(whole) >= low) & (centres(whole) <= high), axis=1)
        assert np.array_equal(holds(part, centres(whole)) & inside, inside), "no voxel of the box is lost"
        if role != "pet":
            assert np.prod(part.shape) == inside.sum() > 1000, "and there are no others, since it is aligned"
        part = image_of(fetched(orders_client, f"{subject}/{role}/cutout.nii", label="liver", margin_mm=6).content)
        check(part, whole)
        assert holds(part, np.concatenate([liver + 6 * move for move in (*np.eye(3), *-np.eye(3))])).all()
        assert np.prod(part.shape) < np.prod(whole.shape) / 2


def test_levels_lie_where_their_blocks_do(
    orders_client: httpx.Client, orders_corpus: Path, source_of: Source, image_of: Image
) -> None:
    for subject in SUBJECTS[::3]:
        whole = image_of(source_of(orders_corpus, "ct", subject))
        level = image_of(fetched(orders_client, f"{subject}/ct/cutout.nii.gz", level=1).content)
        factors = np.rint(voxel_sizes(level.affine) / voxel_sizes(whole.affine)).astype(int)
        assert max(factors) == 2
        there = whole.affine @ from_matvec(np.diag(factors * 1.0), (factors - 1) / 2)
        np.testing.assert_allclose(level.affine, there, atol=1e-4)
        a, b, c = factors
        first = np.rint(np.asarray(whole.dataobj.get_unscaled())[:a, :b, :c].mean())
        assert np.asarray(level.dataobj.get_unscaled())[0, 0, 0] == first
        for region in ({"bbox_mm": BOX}, {"label": "liver", "margin_mm": 4}):
            part = image_of(fetched(orders_client, f"{subject}/ct/cutout.nii", level=1, **region).content)
            check(part, level)
            assert np.prod(part.shape) < np.prod(level.shape)


def test_all_formats_hold_the_same_stored_numbers(orders_client: httpx.Client, image_of: Image) -> None:
    box = {"box": "3,10,20,12,30,44"}
    answers = {
        kind: fetched(orders_client, "0002/pet/cutout", box="1,2,3,9,8,7", format=kind)
        for kind in ("nii.gz", "nii", "npy", "raw")
    }
    image = image_of(answers["nii"].content)
    assert image_of(answers["nii.gz"].content).to_bytes() == image.to_bytes()
    numbers = np.load(io.BytesIO(answers["npy"].content))
    assert numbers.shape == (8, 6, 4)
    assert np.array_equal(numbers, np.asarray(image.dataobj.get_unscaled()).T)
    assert answers["raw"].content == numbers.tobytes()
    assert fetched(orders_client, "0002/ct/cutout.npy", **box).headers["x-voxshelf-start"] == "3,10,20"
    for kind, answer in answers.items():
        headers = answer.headers
        affine = np.reshape([float(number) for number in headers["x-voxshelf-affine"].split(",")], (4, 4))
        np.testing.assert_allclose(affine, image.affine, atol=1e-4)
        spacing = [float(number) for number in headers["x-voxshelf-spacing-mm"].split(",")]
        np.testing.assert_allclose(spacing[::-1], voxel_sizes(image.affine), rtol=1e-5)
        assert (headers["x-voxshelf-shape"], headers["x-voxshelf-start"]) == ("8,6,4", "1,2,3")
        assert headers["x-voxshelf-dtype"] == numbers.dtype.str
        physical = numbers * float(headers["x-voxshelf-slope"]) + float(headers["x-voxshelf-inter"])
        np.testing.assert_allclose(physical.T, image.get_fdata())
        assert headers["content-disposition"] == f'attachment; filename="0002_pet.{kind}"'
        assert headers["link"].endswith('rel="license"')


def test_a_box_of_voxels_is_that_slice_of_the_array(
    orders_client: httpx.Client, orders_corpus: Path, source_of: Source, image_of: Image
) -> None:
    for subject in SUBJECTS[::4]:
        whole = image_of(source_of(orders_corpus, "ct", subject))
        part = image_of(fetched(orders_client, f"{subject}/ct/cutout", box="2,3,4,21,22,23").content)
        np.testing.assert_array_equal(part.dataobj.get_unscaled(), whole.dataobj.get_unscaled()[4:23, 3:22, 2:21])
        np.testing.assert_allclose(part.affine[:3, 3], apply_affine(whole.affine, [4, 3, 2]), atol=1e-4)


def test_head_says_what_get_says(orders_client: httpx.Client) -> None:
    for name in ("cutout.nii", "cutout.npy", "cutout.raw", "cutout"):
        get = orders_client.get(f"/v1/subjects/0001/ct/{name}", params={"label": "liver"})
        head = orders_client.head(f"/v1/subjects/0001/ct/{name}", params={"label": "liver"})
        assert (head.status_code, head.content) == (200, b"")
        differing = {"date", "x-request-id"} | ({"transfer-encoding", "content-length"} if name == "cutout" else set())
        assert {key: value for key, value in get.headers.items() if key not in differing} == {
            key: value for key, value in head.headers.items() if key not in differing
        }
        if name != "cutout":
            assert int(head.headers["content-length"]) == len(get.content)
        else:
            assert "content-length" not in head.headers  # nobody knows it, and it is not 0


def test_the_same_cut_out_is_not_sent_again_and_another_one_has_another_tag(orders_client: httpx.Client) -> None:
    paths = ["0001/ct/cutout?label=liver", "0001/ct/cutout?label=liver&margin_mm=1", "0002/ct/cutout?label=liver",
             "0001/ct/cutout.nii?label=liver", "0001/pet/cutout?label=liver", "0001/ct/cutout?level=1"]  # fmt: skip
    tags = [orders_client.get(f"/v1/subjects/{path}").headers["etag"] for path in paths]
    assert len(set(tags)) == len(paths)
    assert [tag.startswith("W/") for tag in tags] == [".nii?" not in path for path in paths], "gzip: of this processor"
    for path, tag in zip(paths, tags, strict=True):
        answer = orders_client.get(f"/v1/subjects/{path}", headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "license" in answer.headers["link"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("9999/ct/cutout", 404, "not-found.subject"),
        ("0001/mr/cutout", 404, "not-found.volume"),
        ("0001/ct/cutout?level=7", 404, "not-found.level"),
        ("0001/ct/cutout?label=trachea", 404, "not-found.label"),
        ("0001/ct/cutout?label=liver&bbox_mm=0,0,0,1,1,1", None, "request.parameter"),
        ("0001/ct/cutout?bbox_mm=0,0,0,1,1", None, "request.parameter"),
        ("0001/ct/cutout?bbox_mm=0,0,0,nan,1,1", None, "request.parameter"),
        ("0001/ct/cutout?bbox_mm=9,0,0,1,1,1", 400, "request.region"),
        ("0001/ct/cutout?bbox_mm=9e3,9e3,9e3,9.1e3,9.1e3,9.1e3", 400, "request.region"),
        ("0001/ct/cutout?box=0,0,0,1,1,1.5", None, "request.parameter"),
        ("0001/ct/cutout?box=0,0,0,1,1,999", 400, "request.region"),
        ("0001/ct/cutout?box=-1,0,0,1,1,1", 400, "request.region"),
        ("0001/ct/cutout?box=1,1,1,1,2,2", 400, "request.region"),
        ("0001/ct/cutout?margin_mm=-1", 422, None),
        ("0001/ct/cutout?margin_mm=inf", 422, None),
        ("0001/ct/cutout?level=-1", 422, None),
        ("0001/ct/cutout.mha", 422, None),
        ("0001/ct/cutout?lable=liver", 422, None),
        ("0001/ct/cutout?label=liver&label=spleen", 422, "request.parameter"),
        ("0001/ct/cutout?level=0&level=1", 422, "request.parameter"),
        ("0001/ct/cutout?margin_mm=10", 422, "request.parameter"),
        ("0001/ct/cutout?margin_mm=10&bbox_mm=-50,-50,100,50,50,200", 422, "request.parameter"),
        ("0001/ct/cutout.npy?format=raw", None, "request.parameter"),
    ],
)
def test_what_cannot_be_given(orders_client: httpx.Client, path: str, status: int | None, code: str | None) -> None:
    answer = orders_client.get(f"/v1/subjects/{path}")
    assert 400 <= answer.status_code < 500
    assert status in {None, answer.status_code}
    assert code in {None, answer.json().get("code")}
    assert orders_client.head(f"/v1/subjects/{path}").status_code == answer.status_code


@pytest.fixture
def app_client(mirror: Path, tmp_path: Path) -> Callable[..., httpx.AsyncClient]:
    """A client of an application in this process, over a copy of the mirror that may be harmed."""
    own = Path(shutil.copytree(mirror, tmp_path / "mirror"))

    def make(**settings: Any) -> httpx.AsyncClient:
        app = create_app(ServiceSettings(str(own), **settings))
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    return make


@pytest.mark.anyio
async def test_what_is_too_large_is_told_with_the_limit(app_client: Callable[..., httpx.AsyncClient]) -> None:
    async with app_client(most_answer_mb=1.0) as client:
        answer = await client.get("/v1/subjects/0001/ct/cutout")
        assert (answer.status_code, answer.json()["code"]) == (413, "request.too-large")
        assert "2.4 MB" in answer.json()["message"]
        assert "at most 1 MB" in answer.json()["message"]
        assert (await client.get("/v1/subjects/0001/ct/cutout?label=liver")).status_code == 200


@pytest.mark.anyio
async def test_damage_is_an_error_with_a_code_and_never_air(
    app_client: Callable[..., httpx.AsyncClient], tmp_path: Path
) -> None:
    paths = ["ct/cutout.npy?label=liver", "ct/cutout?label=liver", "ct.nii", "ct.nii.gz", "ct/slice.png", "ct/cutout"]
    shard = tmp_path / "mirror/subjects/0001.ome.zarr" / SHARD
    good = shard.read_bytes()
    middle = len(good) // 2
    shutil.rmtree(tmp_path / "mirror/.voxshelf")  # a public copy has none
    harms: list[tuple[bytes | None, int, str]] = [
        (good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :], 502, "layout.voxels"),
        (good[:-1] + bytes([good[-1] ^ 1]), 502, "layout.voxels"),
        (good[100:], 502, "layout.voxels"),
        (b"", 502, "layout.voxels"),
        (None, 503, "layout.object"),
    ]
    async with app_client() as client:
        for data, status, code in harms:
            shard.unlink(missing_ok=True)
            if data is not None:
                shard.write_bytes(data)
            answers = [await client.get(f"/v1/subjects/0001/{path}") for path in paths]
            # One flipped bit may lie in a chunk that a small cut-out does not need.
            small = answers[:2] + answers[4:5] if data and len(data) == len(good) and data[-1] == good[-1] else []
            for answer in answers:
                if answer not in small:
                    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.url
                    assert "immutable" not in answer.headers["cache-control"]
        shard.unlink(missing_ok=True)
        shard.symlink_to(shard)  # opening it fails with ELOOP, for root too
        assert (await client.get("/v1/subjects/0001/ct/cutout?label=liver")).status_code == 503


@pytest.mark.anyio
async def test_a_volume_that_is_not_the_listed_one_is_not_cut(
    app_client: Callable[..., httpx.AsyncClient], tmp_path: Path
) -> None:
    subjects = tmp_path / "mirror/subjects"
    shutil.copy(subjects / "0002.ome.zarr/ct/zarr.json", subjects / "0001.ome.zarr/ct/zarr.json")
    async with app_client() as client:
        answer = await client.get("/v1/subjects/0001/ct/cutout?label=liver")
    assert (answer.status_code, answer.json()["code"]) == (503, "layout.metadata")


def test_every_label_of_a_subject_can_be_cut(client: httpx.Client, mirror: Path, image_of: Image) -> None:
    catalog = read_catalog(Store(str(mirror)))
    for region in catalog.regions["0001"][::9]:
        family = region["family"]
        part = image_of(fetched(client, f"0001/{family}/cutout", label=region["name"]).content)
        assert int((np.asarray(part.dataobj) == region["value"]).sum()) == region["voxels"]
