from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.publish import PUBLICATION_KEY
from converter.verify import Event, Planned, SubjectChecked, Verification, VerifySettings, VolumeChecked, verify
from corpus.catalog import read_catalog, table_bytes
from corpus.errors import LayoutError
from corpus.findings import Finding
from corpus.stores import Store

SUBJECTS = ("0001", "0002", "0003", "0004")
SHARD = "subjects/0002.ome.zarr/ct/scale0/ct/c/0/0/0"


@pytest.fixture(scope="module")
def mirror(phantom_mirror: Path) -> Path:
    return phantom_mirror


@pytest.fixture
def own(mirror: Path, tmp_path: Path) -> Path:
    """A copy of the mirror that a test may change."""
    return Path(shutil.copytree(mirror, tmp_path / "mirror"))


def check(mirror: Path, **settings: Any) -> Verification:
    return verify(str(mirror), VerifySettings(**settings), lambda _: None)


def places(findings: Iterable[Finding], code: str) -> set[str]:
    return {finding.place for finding in findings if finding.code == code}


def test_a_sound_mirror(mirror: Path, corpus: Path) -> None:
    events: list[Event] = []
    result = verify(str(mirror), VerifySettings(source=str(corpus), deep=True), events.append)
    assert result.findings == ()
    checked = [event for event in events if isinstance(event, VolumeChecked)]
    assert (result.subjects, result.volumes, len(checked)) == (4, 36, 36)
    assert result.voxels == sum(entry.voxels for entry in checked) > 36 * 10**5
    assert result.objects == len([path for path in mirror.glob("subjects/*.zarr/**/*") if path.is_file()])
    assert events[0] == Planned(4, 36, "this process")
    assert {event.subject for event in events if isinstance(event, SubjectChecked)} == set(SUBJECTS)


def test_the_bytes_of_a_subject_are_those_of_its_store(mirror: Path) -> None:
    # Documents that a volume and its subject both write are counted once.
    for row in read_catalog(Store(str(mirror))).subjects.values():
        assert row["bytes"] == sum(file.stat().st_size for file in (mirror / row["store"]).rglob("*") if file.is_file())


def forget_records(mirror: Path) -> None:
    """Leave neither the converter's records nor the manifests."""
    shutil.rmtree(mirror / ".voxshelf")
    for path in mirror.glob("subjects/*.sha256"):
        path.unlink()


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap_with_another_subject(path: Path) -> None:
    # Decodes without any fault: only the digests tell.
    other = Path(str(path).replace("0002.ome.zarr", "0001.ome.zarr"))
    shutil.copy(other, path)


@pytest.mark.parametrize("spoil", [flip_a_byte, swap_with_another_subject, Path.unlink])
@pytest.mark.parametrize(
    "key",
    [
        SHARD,
        "subjects/0002.ome.zarr/ct/scale1/ct/c/0/0/0",
        "subjects/0002.ome.zarr/ct/labels/organs/zarr.json",
        "subjects/0002.ome.zarr/ct/labels/organs/nifti/c/0",
        "subjects/0002.ome.zarr/zarr.json",
    ],
)
def test_any_spoilt_object_is_named(own: Path, key: str, spoil: Callable[[Path], None]) -> None:
    before = (own / key).read_bytes()
    spoil(own / key)
    assert not (own / key).exists() or (own / key).read_bytes() != before, "nothing was spoilt"
    result = check(own, subjects=frozenset({"0002"}))
    assert key in {finding.place for finding in result.findings if finding.code == "layout.object"}


def test_wrong_voxels_are_found_even_where_the_converter_s_records_are_missing(own: Path) -> None:
    forget_records(own)
    swap_with_another_subject(own / SHARD)
    result = check(own)
    assert places(result.findings, "layout.voxels") == {"0002/ct"}
    # The other shard is of another size, by chance.
    assert places(result.findings, "layout.object") == {"subjects/0002.ome.zarr"}
    assert len(result.findings) == 2


def test_an_object_that_nobody_wrote_is_named(own: Path) -> None:
    (own / "subjects/0002.ome.zarr/ct/extra").write_bytes(b"x")
    result = check(own, subjects=frozenset({"0002"}))
    assert [finding.place for finding in result.findings] == ["subjects/0002.ome.zarr/ct/extra"]


def test_another_source_is_told_apart(mirror: Path, corpus: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    folder = source / "imaging-data/images/CT"
    shutil.copy(folder / "0001.nii.gz", folder / "0002.nii.gz")
    result = check(mirror, source=str(source), subjects=frozenset({"0002"}))
    assert [(finding.place, finding.code) for finding in result.findings] == [("0002/ct", "layout.voxels")]


def test_a_table_that_is_not_the_committed_one(own: Path) -> None:
    flip_a_byte(own / "volumes.parquet")
    with pytest.raises(LayoutError, match=r"layout\.table"):
        check(own)


@pytest.fixture
def single(corpus: Path, small: Path, tmp_path: Path) -> Path:
    """A mirror of one subject that a test may change."""
    return Path(shutil.copytree(small, tmp_path / "single"))


@pytest.fixture(scope="module")
def small(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    chosen = frozenset({"0003"})
    settings = ConvertSettings(subjects=chosen, roles=("ct", "pet", "ribs"), corpus=read_corpus(str(corpus)))
    assert not convert(str(corpus), str(folder), settings, lambda _: None).failures
    return folder


def objects(mirror: Path) -> list[str]:
    return sorted(path.relative_to(mirror).as_posix() for path in (mirror / "subjects").rglob("*") if path.is_file())


@pytest.mark.parametrize("documents", [True, False])
def test_a_flipped_byte_in_every_object_of_a_subject_is_named(single: Path, documents: bool) -> None:
    # Documents apart: without them no voxel can be read, and they are compared before.
    keys = [key for key in objects(single) if key.endswith("zarr.json") == documents]
    for key in keys:
        flip_a_byte(single / key)
    assert places(check(single).findings, "layout.object") == set(keys)
    assert len(keys) > 20


@pytest.mark.parametrize("number", range(0, 60, 13))
def test_a_single_one_as_well(single: Path, number: int) -> None:
    key = objects(single)[number]
    flip_a_byte(single / key)
    findings = check(single).findings
    assert places(findings, "layout.object") == {key}


@pytest.mark.parametrize(
    "key", ["mirror.json", "labels.json", "croissant.json", "CITATION.cff", "catalog.parquet", "regions.parquet"]
)
def test_a_flipped_byte_in_what_belongs_to_the_whole_mirror_is_named(single: Path, key: str) -> None:
    flip_a_byte(single / key)
    try:
        named = " ".join(finding.place for finding in check(single).findings)
    except LayoutError as error:
        named = str(error)  # of what nothing can be read without
    assert key in named


def test_a_byte_of_the_version_that_nothing_else_says_is_named_too(single: Path) -> None:
    path = single / "mirror.json"
    path.write_bytes(path.read_bytes().replace(b'"software":"0', b'"software":"9'))
    assert places(check(single).findings, "layout.object") == {"mirror.json"}


@pytest.mark.parametrize("record", ["ct", "ribs", "subject"])
def test_a_flipped_byte_in_a_record_is_named(single: Path, record: str) -> None:
    key = f".voxshelf/outcomes/0003/{record}.json"
    path = single / key
    for old, new in ((b'"subject":"0003"', b'"subject":"0002"'), (b"{", b"[")):
        data = path.read_bytes()
        path.write_bytes(data.replace(old, new, 1))
        found = {finding.place.partition(":")[0] for finding in check(single).findings}
        assert key in found, old
        path.write_bytes(data)


def test_a_lost_manifest_is_named(single: Path) -> None:
    # Without it, neither the service nor an export knows a lost shard from zeros.
    (single / "subjects/0003.ome.zarr.sha256").unlink()
    assert places(check(single).findings, "layout.object") == {"subjects/0003.ome.zarr.sha256"}


def test_every_missing_shard_is_named(single: Path) -> None:
    shards = [key for key in objects(single) if "/c/0/0/0" in key or "/c/1/0/0" in key]
    for key in shards:
        (single / key).unlink()
    assert places(check(single).findings, "layout.object") == set(shards)
    assert len(shards) >= 9


def test_a_store_that_no_table_lists_is_named(single: Path) -> None:
    (single / "subjects/0009.ome.zarr").mkdir()
    assert places(check(single).findings, "layout.object") == {"subjects/0009.ome.zarr"}
    assert check(single, subjects=frozenset({"0003"})).findings == ()


class TestWithoutTheConvertersRecords:
    """As in a copy that was made without `.voxshelf`."""

    @pytest.fixture
    def single(self, single: Path) -> Path:
        forget_records(single)
        assert check(single, deep=True).findings == ()
        return single

    def test_a_flipped_byte_in_every_shard_is_named_by_its_checksum(self, single: Path) -> None:
        shards = [key for key in objects(single) if "/c/0/0/0" in key or "/c/1/0/0" in key]
        for key in shards:
            flip_a_byte(single / key)
        assert places(check(single).findings, "layout.object") == set(shards)

    def test_a_flipped_byte_in_an_index_as_well(self, single: Path) -> None:
        key = "subjects/0003.ome.zarr/ct/scale1/ct/c/0/0/0"
        data = bytearray((single / key).read_bytes())
        data[-10] ^= 1
        (single / key).write_bytes(data)
        assert places(check(single).findings, "layout.object") == {key}

    @pytest.mark.parametrize("level", [1, 2])
    def test_a_missing_shard_of_a_level_is_missed_in_bytes_and_named_by_a_deep_look(
        self, single: Path, level: int
    ) -> None:
        (single / f"subjects/0003.ome.zarr/ct/labels/ribs/scale{level}/ribs/c/0/0/0").unlink()
        store = "subjects/0003.ome.zarr"
        assert places(check(single).findings, "layout.object") == {store, f"{store}/ct/labels/ribs"}
        findings = [each for each in check(single, deep=True).findings if each.code == "layout.voxels"]
        assert [finding.place for finding in findings] == ["0003/labels/ribs"]
        assert f"level {level}" in findings[0].message

    def test_an_object_that_nobody_wrote_is_too_many_bytes(self, single: Path) -> None:
        (single / "subjects/0003.ome.zarr/ct/extra").write_bytes(b"x")
        assert places(check(single).findings, "layout.object") == {"subjects/0003.ome.zarr"}


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("group", ["", "ct", "ct/labels", "ct/labels/ribs", "ct/labels/ribs/scale0"])
def test_a_stale_consolidated_copy_is_named(single: Path, group: str) -> None:
    forget_records(single)
    store = single / "subjects/0003.ome.zarr"
    member = "ct/labels/ribs/scale0/ribs".removeprefix(group).lstrip("/")

    def change(document: Any) -> None:
        document["consolidated_metadata"]["metadata"][member]["attributes"]["long_name"] = "Older ribs"

    rewrite(store / group / "zarr.json", change)
    findings = check(single).findings
    place = "/".join(filter(None, ["subjects/0003.ome.zarr", group, "zarr.json"]))
    stale = [finding for finding in findings if finding.code == "layout.stale-copy"]
    assert [finding.place for finding in stale] == [place]
    assert member in stale[0].message
    assert places(findings, "layout.object") == {"subjects/0003.ome.zarr"} | (
        {"subjects/0003.ome.zarr/ct/labels/ribs"} if "ribs" in group else set()
    )


@pytest.mark.parametrize("what", ["lacks a member", "names another", "is not there"])
def test_a_consolidated_copy_of_other_members_is_named(single: Path, what: str) -> None:
    forget_records(single)

    def change(document: Any) -> None:
        copies = document["consolidated_metadata"]["metadata"]
        if what == "lacks a member":
            del copies["scale0"]
        elif what == "names another":
            copies["scale9"] = copies["scale0"]
        else:
            del document["consolidated_metadata"]

    rewrite(single / "subjects/0003.ome.zarr/ct/labels/ribs/zarr.json", change)
    findings = check(single).findings
    place = "subjects/0003.ome.zarr/ct/labels/ribs/zarr.json"
    assert place in places(findings, "layout.stale-copy")


def other_value(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return [*(value or []), other_value(None, kind.value_type)]
    if pa.types.is_boolean(kind):
        return not value
    if pa.types.is_string(kind):
        return f"{value}x"
    return (value or 0) + 1


def tell_otherwise(mirror: Path, table: str, keys: set[str]) -> set[str]:
    """Change all columns of a table's last row but some, and commit that; return the columns."""
    path = mirror / f"{table}.parquet"
    rows = pq.read_table(path, use_threads=False)
    columns = [column for column in rows.column_names if column not in keys]
    changed = rows.to_pylist()
    for column in columns:
        changed[-1][column] = other_value(changed[-1][column], rows.schema.field(column).type)
    data = table_bytes(pa.Table.from_pylist(changed, rows.schema))
    path.write_bytes(data)
    rewrite(mirror / "mirror.json", lambda d: d["tables"][table].update(sha256=hashlib.sha256(data).hexdigest()))
    (mirror / PUBLICATION_KEY).unlink()
    return set(columns)


def columns_named(findings: Iterable[Finding], table: str) -> set[str]:
    told = [place for place in places(findings, "layout.table-row") if place.startswith(f"{table}.parquet: 0003")]
    return {place.rpartition(", ")[2] for place in told}


KEYS = {"catalog": {"subject"}, "volumes": {"subject", "volume"}, "regions": {"subject", "family", "value"}}
ONLY_RECORDED = {
    "catalog": {"details", "bytes", "warnings"},
    "volumes": {"bytes"},
    "regions": set(),
}


@pytest.mark.parametrize("table", list(KEYS))
def test_a_table_that_says_something_else_is_named_with_its_columns(single: Path, table: str) -> None:
    columns = tell_otherwise(single, table, KEYS[table])
    assert columns_named(check(single).findings, table) == columns


@pytest.mark.parametrize("table", ["catalog", "regions"])
def test_also_without_the_converter_s_records(single: Path, table: str) -> None:
    columns = tell_otherwise(single, table, KEYS[table])
    forget_records(single)
    assert columns_named(check(single, deep=True).findings, table) == columns - ONLY_RECORDED[table]


STATISTICS = {"min", "max", "mean", "nan_count"}


@pytest.mark.parametrize(
    ("table", "unseen"),
    [("catalog", ONLY_RECORDED["catalog"]), ("volumes", ONLY_RECORDED["volumes"] | STATISTICS | {"warnings"})],
)
def test_what_the_documents_of_a_store_say_takes_no_deep_look(single: Path, table: str, unseen: set[str]) -> None:
    columns = tell_otherwise(single, table, KEYS[table])
    forget_records(single)
    assert columns_named(check(single).findings, table) == columns - unseen


def test_nor_do_the_volumes_of_regions(single: Path) -> None:
    tell_otherwise(single, "regions", KEYS["regions"])
    forget_records(single)
    assert columns_named(check(single).findings, "regions") == {"name", "voxels", "volume_ml"}


@pytest.mark.parametrize("table", ["catalog", "volumes"])
def test_bytes_that_a_table_counts_otherwise_are_named_by_what_lies_there(single: Path, table: str) -> None:
    tell_otherwise(single, table, KEYS[table] | {"image_path"})
    volume = pq.read_table(single / "volumes.parquet", use_threads=False).to_pylist()[-1]
    forget_records(single)
    store = "subjects/0003.ome.zarr"
    place = store if table == "catalog" else f"{store}/{volume['image_path']}"
    # Other licences are other counts of them.
    assert places(check(single).findings, "layout.object") - {"mirror.json"} == {place}


def test_statistics_of_intensities_are_recomputed_by_a_deep_look(single: Path) -> None:
    rows = pq.read_table(single / "volumes.parquet", use_threads=False)
    kept = set(rows.column_names) - STATISTICS
    order = [row["volume"] for row in rows.to_pylist()]
    pet_last = rows.take([number for number in range(len(order)) if order[number] != "pet"] + [order.index("pet")])
    (single / "volumes.parquet").write_bytes(table_bytes(pet_last))
    tell_otherwise(single, "volumes", kept)
    forget_records(single)
    assert columns_named(check(single).findings, "volumes") == set()
    assert columns_named(check(single, deep=True).findings, "volumes") == STATISTICS


def test_a_row_more_or_less_is_named(single: Path) -> None:
    path = single / "regions.parquet"
    rows = pq.read_table(path, use_threads=False)
    data = table_bytes(rows.slice(1))
    path.write_bytes(data)
    rewrite(single / "mirror.json", lambda d: d["tables"]["regions"].update(sha256=hashlib.sha256(data).hexdigest()))
    (single / PUBLICATION_KEY).unlink()
    value = rows.to_pylist()[0]["value"]
    assert places(check(single).findings, "layout.table-row") == {f"regions.parquet: 0003/ribs/{value}"}


@pytest.mark.slow
def test_on_workers_the_same_is_found(single: Path, corpus: Path) -> None:
    flip_a_byte(single / "subjects/0003.ome.zarr/pet/scale1/pet/c/0/0/0")
    (single / "subjects/0003.ome.zarr/ct/extra").write_bytes(b"x")
    alone = check(single, source=str(corpus))
    spread = check(single, source=str(corpus), workers=2)
    assert {finding.place for finding in alone.findings} == {
        "subjects/0003.ome.zarr/pet/scale1/pet/c/0/0/0",
        "subjects/0003.ome.zarr/ct/extra",
    }
    assert sorted(spread.findings, key=repr) == sorted(alone.findings, key=repr)
    assert spread.voxels == alone.voxels > 0
