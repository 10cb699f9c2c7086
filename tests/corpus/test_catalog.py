"""The tables of a mirror, through a real folder: what is written, what is read back, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from corpus import layout
from corpus.catalog import Catalog, MirrorRecord, build_tables, read_catalog, read_mirror, table_bytes
from corpus.contents import ENHANCE_PET
from corpus.errors import LayoutError, NotFoundError, RequestError
from corpus.findings import warning
from corpus.geometry import Grid
from corpus.models import CorpusInfo, Region, Scaling, Statistics, StoredImage, SubjectInfo
from corpus.outcomes import ObjectRecord, SubjectOutcome, VolumeOutcome
from corpus.stores import Store

Publish = Callable[..., MirrorRecord]
FAMILIES = [role for role in ENHANCE_PET.roles if ENHANCE_PET.is_label(role)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "mirror"))


@pytest.fixture
def subjects(
    make_subject: Callable[..., SubjectOutcome],
    make_image: Callable[..., StoredImage],
    make_region: Callable[..., Region],
) -> list[SubjectOutcome]:
    """One that is complete, one that has a CT and a map, one of which nothing is known and nothing was stored."""
    organs = make_image("organs", regions=(make_region(7, "liver"), make_region(99, "unexpected_99")))
    complete = [organs if role == "organs" else make_image(role) for role in ENHANCE_PET.roles]
    return [
        make_subject(
            "0002",
            complete,
            sex="F",
            age_years=61.5,
            weight_kg=70.25,
            height_m=1.75,
            scanner="Biograph",
            indication="lung cancer",
            attribution="Name them.",
            extra={"Tracer": "FDG", "Ärztin": "A \u2260 B"},
        ),
        make_subject("0001", [make_image("ct"), organs], failed=["pet"], institution="AutoPET Challenge"),
        make_subject("0003", [], institution=None),
    ]


@pytest.fixture
def catalog(store: Store, subjects: list[SubjectOutcome], publish: Publish) -> Catalog:
    publish(store, subjects)
    return read_catalog(store)


class TestRoundTrip:
    def test_of_mirror_json(self, store: Store, subjects: list[SubjectOutcome], publish: Publish) -> None:
        written = publish(store, subjects)
        assert read_mirror(store) == read_catalog(store).mirror == written
        assert written.licenses == {"CC-BY-4.0": 1, "CC-BY-NC-4.0": 1, "unknown": 1}
        assert {name: record.rows for name, record in written.tables.items()} == {
            "catalog": 3,
            "volumes": 11,
            "regions": 4,
        }
        for record in written.tables.values():
            data = store.get(record.key)
            assert (record.size, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())

    def test_of_a_subject(self, catalog: Catalog) -> None:
        assert catalog.subject("0002") == {
            "subject": "0002",
            "corpus": "ENHANCE.PET 1.6k",
            "release": "2026",
            "source_institution": "University Hospital Leipzig (DE)",
            "license": "CC-BY-4.0",
            "attribution": "Name them.",
            "indication": "lung cancer",
            "sex": "F",
            "age_years": 61.5,
            "weight_kg": 70.25,
            "height_m": 1.75,
            "scanner": "Biograph",
            "details": '{"Tracer":"FDG","Ärztin":"A \u2260 B"}',
            "has_ct": True,
            "has_pet": True,
            "families_present": FAMILIES,
            "gaps": [],
            "warnings": [],
            "store": "subjects/0002.ome.zarr",
            "bytes": 9 * 1000 + 77,
        }

    def test_of_gaps(self, catalog: Catalog) -> None:
        row = catalog.subject("0001")
        assert (row["has_ct"], row["has_pet"], row["families_present"]) == (True, False, ["organs"])
        assert row["gaps"] == ["pet", *[f"labels/{family}" for family in FAMILIES if family != "organs"]]
        assert catalog.subject("0003")["gaps"] == [ENHANCE_PET.volume_name(role) for role in ENHANCE_PET.roles]
        assert "0003" not in catalog.volumes

    def test_keeps_the_order_of_subjects(self, catalog: Catalog) -> None:
        assert list(catalog.subjects) == ["0002", "0001", "0003"]

    def test_of_a_volume(self, catalog: Catalog, make_image: Callable[..., StoredImage]) -> None:
        image = make_image("ct")
        assert catalog.volume("0002", "ct") == {
            "subject": "0002",
            "volume": "ct",
            "image_path": "ct",
            "array_path": "ct/scale0/ct",
            "dims": ["z", "y", "x"],
            "shape_zyx": [60, 100, 130],
            "spacing_mm_zyx": [3.0, 1.5, 0.75],
            "affine": [-0.75, 0, 0, 10, 0, 1.5, 0, -20, 0, 0, 3, 30, 0, 0, 0, 1],
            "affine_source": "sform",
            "orientation": "LAS",
            "aligned": True,
            "dtype": "int16",
            "dtype_source": "<i2",
            "lossless": True,
            "units": "HU",
            "suv_factor": None,
            "levels": len(image.levels),
            "min": -1000.0,
            "max": 2000.0,
            "mean": -500.5,
            "nan_count": 3,
            "source_name": "images/ct/0001.nii.gz",
            "source_size": 1234,
            "source_sha256": "a" * 64,
            "voxels_sha256": "b" * 64,
            "array_sha256": "c" * 64,
            "bytes": 1000,
            "warnings": [],
        }

    def test_of_a_region(self, catalog: Catalog) -> None:
        assert catalog.region("0001", "liver") == {
            "subject": "0001",
            "family": "organs",
            "value": 7,
            "name": "liver",
            "voxels": 107,
            "volume_ml": 8.75,
            "z_start": 1,
            "z_stop": 4,
            "y_start": 2,
            "y_stop": 6,
            "x_start": 3,
            "x_stop": 8,
            "x_min_mm": -11.0,
            "y_min_mm": -12.0,
            "z_min_mm": -13.0,
            "x_max_mm": 21.0,
            "y_max_mm": 22.0,
            "z_max_mm": 23.0,
            "centroid_x_mm": 5.5,
            "centroid_y_mm": 6.5,
            "centroid_z_mm": 7.5,
            "touches_edge": True,
        }

    def test_of_a_mirror_without_subjects(self, store: Store, publish: Publish) -> None:
        publish(store, [])
        empty = read_catalog(store)
        assert (empty.subjects, empty.volumes, empty.regions) == ({}, {}, {})


class TestRows:
    def test_voxel_columns_go_by_dimension_not_by_array_axis(
        self,
        make_grid: Callable[..., Grid],
        make_image: Callable[..., StoredImage],
        make_region: Callable[..., Region],
        make_subject: Callable[..., SubjectOutcome],
        corpus_info: CorpusInfo,
    ) -> None:
        """SLA is stored with dims (y, x, z), and isel(z=slice(z_start, z_stop)) has to be right."""
        image = make_image("organs", make_grid("SLA"), regions=(make_region(),))
        (row,) = build_tables([make_subject(images=[image])], corpus_info)["regions"].to_pylist()
        assert (row["y_start"], row["y_stop"]) == (1, 4)
        assert (row["x_start"], row["x_stop"]) == (2, 6)
        assert (row["z_start"], row["z_stop"]) == (3, 8)
        assert (row["x_min_mm"], row["x_max_mm"]) == (-11.0, 21.0)

    def test_a_map_kept_apart_is_listed_where_it_lies(
        self,
        make_image: Callable[..., StoredImage],
        make_subject: Callable[..., SubjectOutcome],
        corpus_info: CorpusInfo,
    ) -> None:
        image = make_image("organs", path="labels_organs")
        (row,) = build_tables([make_subject(images=[image])], corpus_info)["volumes"].to_pylist()
        assert (row["volume"], row["image_path"]) == ("labels/organs", "labels_organs")
        assert row["array_path"] == "labels_organs/scale0/organs"

    def test_a_volume_lists_its_warnings_and_all_its_bytes(
        self, make_image: Callable[..., StoredImage], corpus_info: CorpusInfo
    ) -> None:
        volume = VolumeOutcome(
            subject="0001",
            role="pet",
            digest="",
            image=make_image("pet"),
            findings=(warning("warning.non-finite", "0001/pet"), warning("warning.oblique", "0001/pet")),
            objects=(ObjectRecord("a", 5, ""), ObjectRecord("b", 7, "")),
        )
        outcome = SubjectOutcome(info=SubjectInfo(subject="0001"), volumes=(volume,))
        tables = build_tables([outcome], corpus_info)
        (row,) = tables["volumes"].to_pylist()
        assert row["warnings"] == ["warning.non-finite", "warning.oblique"]

    def test_a_flag_is_with_what_it_is_about(
        self,
        make_image: Callable[..., StoredImage],
        make_subject: Callable[..., SubjectOutcome],
        corpus_info: CorpusInfo,
    ) -> None:
        outcome = msgspec.structs.replace(
            make_subject("0001", [make_image("ct"), make_image("pet")]),
            findings=(warning("warning.volume-missing", "0001/ribs"), warning("warning.volume-missing", "0001/organs")),
            quality=(
                warning("warning.intensity-unit", "0001/pet"),
                warning("warning.views-apart", "0001"),
                warning("warning.not-checked", "0001"),
            ),
        )
        tables = build_tables([outcome], corpus_info)
        assert [row["warnings"] for row in tables["volumes"].to_pylist()] == [[], ["warning.intensity-unit"]]
        own = ["warning.volume-missing", "warning.views-apart", "warning.not-checked"]
        assert tables["catalog"].to_pylist()[0]["warnings"] == own

    def test_a_license_is_never_null(self, catalog: Catalog) -> None:
        assert [row["license"] for row in catalog.subjects.values()] == ["CC-BY-4.0", "CC-BY-NC-4.0", "unknown"]


class TestNulls:
    def test_nothing_known_of_a_subject_is_null(self, catalog: Catalog) -> None:
        row = catalog.subject("0003")
        unknown = ("source_institution", "attribution", "indication", "sex", "scanner", "details")
        numbers = ("age_years", "weight_kg", "height_m")
        assert {name: row[name] for name in unknown + numbers} == dict.fromkeys(unknown + numbers)

    def test_a_map_has_no_intensities_and_no_unit(self, catalog: Catalog) -> None:
        row = catalog.volume("0002", "organs")
        names = ("min", "max", "mean", "nan_count", "units", "suv_factor")
        assert {name: row[name] for name in names} == dict.fromkeys(names)

    def test_a_volume_without_a_finite_voxel_has_no_mean(
        self,
        make_image: Callable[..., StoredImage],
        make_subject: Callable[..., SubjectOutcome],
        corpus_info: CorpusInfo,
    ) -> None:
        image = make_image("pet", statistics=Statistics(None, None, None, 60, None))
        (row,) = build_tables([make_subject(images=[image])], corpus_info)["volumes"].to_pylist()
        assert (row["min"], row["max"], row["mean"], row["nan_count"]) == (None, None, None, 60)

    def test_a_measured_zero_stays_zero(
        self,
        make_image: Callable[..., StoredImage],
        make_subject: Callable[..., SubjectOutcome],
        corpus_info: CorpusInfo,
    ) -> None:
        image = make_image("pet", statistics=Statistics(0.0, 0.0, 0.0, 0, 0.0), scaling=Scaling())
        tables = build_tables([make_subject(images=[image], age_years=0.0)], corpus_info)
        (row,) = tables["volumes"].to_pylist()
        assert (row["min"], row["max"], row["mean"], row["nan_count"]) == (0.0, 0.0, 0.0, 0)
        assert tables["catalog"].to_pylist()[0]["age_years"] == 0.0


class TestBytes:
    def test_the_same_subjects_give_the_same_bytes(
        self, subjects: list[SubjectOutcome], corpus_info: CorpusInfo
    ) -> None:
        once, again = build_tables(subjects, corpus_info), build_tables(iter(subjects), corpus_info)
        assert list(once) == list(layout.TABLES)
        for name in once:
            assert table_bytes(once[name]) == table_bytes(again[name])

    def test_other_rows_give_other_bytes(self, subjects: list[SubjectOutcome], corpus_info: CorpusInfo) -> None:
        once, less = build_tables(subjects, corpus_info), build_tables(subjects[:1], corpus_info)
        assert all(table_bytes(once[name]) != table_bytes(less[name]) for name in once)

    @pytest.mark.parametrize("table", layout.TABLES)
    def test_columns_do_not_depend_on_the_rows(
        self, subjects: list[SubjectOutcome], corpus_info: CorpusInfo, table: str
    ) -> None:
        full, empty = build_tables(subjects, corpus_info)[table], build_tables([], corpus_info)[table]
        assert full.schema == empty.schema

    def test_outsiders_read_the_file(
        self, store: Store, subjects: list[SubjectOutcome], publish: Publish, tmp_path: Path
    ) -> None:
        publish(store, subjects)
        table = pq.ParquetFile(tmp_path / "mirror" / "volumes.parquet").read(use_threads=False)
        assert table.column("subject").to_pylist() == ["0002"] * 9 + ["0001"] * 2


class TestRefusals:
    def test_of_a_folder_that_is_no_mirror(self, store: Store) -> None:
        with pytest.raises(LayoutError, match=r"mirror\.json") as caught:
            read_catalog(store)
        assert caught.value.code == "layout.not-a-mirror"
        assert caught.value.place == store.url

    def test_of_tables_that_were_never_committed(
        self, store: Store, subjects: list[SubjectOutcome], publish: Publish
    ) -> None:
        publish(store, subjects)
        store.delete("mirror.json")
        with pytest.raises(LayoutError) as caught:
            read_catalog(store)
        assert caught.value.code == "layout.not-a-mirror"

    @pytest.mark.parametrize("version", [0, 2, 99])
    def test_of_another_layout(self, store: Store, publish: Publish, version: int) -> None:
        publish(store, [], layout_version=version)
        with pytest.raises(LayoutError, match=f"layout version {version}, this is for 1") as caught:
            read_catalog(store)
        assert caught.value.code == "layout.version"

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"null", b'{"layout_version": 2}', b"\xff\xfe"],
        ids=["empty", "cut", "list", "null", "other fields", "not UTF-8"],
    )
    def test_of_a_mirror_json_that_is_not_understood(self, store: Store, content: bytes) -> None:
        store.put("mirror.json", content)
        with pytest.raises(LayoutError, match=r"mirror\.json") as caught:
            read_catalog(store)
        assert caught.value.code == "layout.version"

    @pytest.mark.parametrize("table", layout.TABLES)
    @pytest.mark.parametrize("damage", ["one bit", "cut", "of other subjects", "missing"])
    def test_of_a_table_that_is_not_the_committed_one(
        self,
        store: Store,
        subjects: list[SubjectOutcome],
        corpus_info: CorpusInfo,
        publish: Publish,
        table: str,
        damage: str,
    ) -> None:
        key = publish(store, subjects).tables[table].key
        data = store.get(key)
        if damage == "one bit":
            middle = len(data) // 2
            store.put(key, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        elif damage == "cut":
            store.put(key, data[:-1])
        elif damage == "of other subjects":
            store.put(key, table_bytes(build_tables(subjects[:1], corpus_info)[table]))
        else:
            store.delete(key)
        with pytest.raises(LayoutError) as caught:
            read_catalog(store)
        assert (caught.value.code, caught.value.place) == ("layout.table", key)

    @pytest.mark.parametrize("table", layout.TABLES)
    def test_of_a_mirror_json_that_does_not_name_a_table(
        self, store: Store, subjects: list[SubjectOutcome], publish: Publish, table: str
    ) -> None:
        publish(store, subjects)
        record = json.loads(store.get("mirror.json"))
        del record["tables"][table]
        store.put("mirror.json", json.dumps(record).encode())
        with pytest.raises(LayoutError, match=table) as caught:
            read_catalog(store)
        assert caught.value.code == "layout.table"


class TestLookUps:
    def test_a_map_is_found_with_and_without_its_prefix(self, catalog: Catalog) -> None:
        assert catalog.volume("0001", "organs") == catalog.volume("0001", "labels/organs")
        assert catalog.volume("0001", "organs")["volume"] == "labels/organs"

    def test_an_unexpected_label_is_found_by_its_stand_in_name(self, catalog: Catalog) -> None:
        assert catalog.region("0002", "unexpected_99")["value"] == 99

    @pytest.mark.parametrize("name", ["0004", "", "1", "0001 "])
    def test_no_such_subject(self, catalog: Catalog, name: str) -> None:
        for look_up in (
            catalog.subject,
            lambda subject: catalog.volume(subject, "ct"),
            lambda subject: catalog.region(subject, "liver"),
        ):
            with pytest.raises(NotFoundError) as caught:
                look_up(name)
            assert (caught.value.code, caught.value.place) == ("not-found.subject", name)

    @pytest.mark.parametrize(("subject", "name"), [("0001", "pet"), ("0001", "CT"), ("0003", "ct")])
    def test_no_such_volume(self, catalog: Catalog, subject: str, name: str) -> None:
        with pytest.raises(NotFoundError, match=name) as caught:
            catalog.volume(subject, name)
        assert (caught.value.code, caught.value.place) == ("not-found.volume", subject)

    def test_a_label_that_two_maps_have_is_never_guessed(self, catalog: Catalog) -> None:
        rows = catalog.regions.get("0002", [])
        twin = {**rows[0], "family": "ribs"}
        catalog.regions = {"0002": [*rows, twin]}  # type: ignore[assignment]  # as much of it as is asked for
        with pytest.raises(RequestError, match=r"organs/liver, ribs/liver") as refused:
            catalog.region("0002", "liver")
        assert refused.value.code == "request.parameter"
        with pytest.raises(RequestError):
            catalog.region("0002", "liver", own="ct")
        for family in ("organs", "ribs"):
            assert catalog.region("0002", f"{family}/liver")["family"] == family
            assert catalog.region("0002", "liver", own=family)["family"] == family
        assert catalog.region("0002", "unexpected_99", own="ribs")["family"] == "organs"

    @pytest.mark.parametrize(("subject", "name"), [("0001", "spleen"), ("0001", "Liver"), ("0003", "liver")])
    def test_no_such_label(self, catalog: Catalog, subject: str, name: str) -> None:
        with pytest.raises(NotFoundError, match=name) as caught:
            catalog.region(subject, name)
        assert (caught.value.code, caught.value.place) == ("not-found.label", subject)
