"""The label table that comes with a corpus, in the states in which it is met."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.inventory import take_inventory
from converter.labelfile import check_label_files
from corpus.labels import families

TABLES = {
    family.folder: {str(label.value): label.name for label in family.labels if label.in_every_release}
    for family in families().values()
}


def messages(folder: Path, content: bytes | str) -> list[str]:
    (folder / "labels.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    findings = check_label_files(take_inventory(str(folder)))
    assert {finding.code for finding in findings} <= {"warning.label-table"}
    assert {finding.place for finding in findings} <= {"labels.json"}
    assert all(finding.is_warning and finding.hint for finding in findings)
    return [finding.message for finding in findings]


def changed(family: str, **names: str) -> str:
    return json.dumps({**TABLES, family: {**TABLES[family], **{key.lstrip("_"): name for key, name in names.items()}}})


@pytest.mark.parametrize(
    "document",
    [
        TABLES,
        {"ENHANCE.PET": {"labels": TABLES}},
        {folder.lower(): {"background": 0, **{name: int(value) for value, name in table.items()}}
         for folder, table in TABLES.items()},
        {folder: {value: name.replace("_", " ").title() for value, name in table.items()}
         for folder, table in TABLES.items()},
        {**TABLES, "Organs": {**TABLES["Organs"], "4": "brain", "19": "trachea"}},
    ],
    ids=["names by value", "deeper", "values by name", "spelled for people", "with what not every release has"],
)  # fmt: skip
def test_the_same_table_in_another_shape_is_the_same(tmp_path: Path, document: dict[str, Any]) -> None:
    assert messages(tmp_path, json.dumps(document)) == []


def test_the_published_file_has_a_comma_too_many(tmp_path: Path) -> None:
    told = messages(tmp_path, json.dumps(TABLES, indent=1).replace("\n }", ",\n }"))
    assert len(told) == 1
    assert "not valid JSON" in told[0]


def test_what_is_named_otherwise_unknown_or_missing_is_told(tmp_path: Path) -> None:
    assert messages(tmp_path, changed("Organs", _8="spleen"))[0].startswith("Organs: 8 is 'spleen' there, and 'liver'")
    assert "99 is 'tail' there, and unknown here" in messages(tmp_path, changed("Ribs", _99="tail"))[0]
    stale = {**TABLES, "Organs": {value: name for value, name in TABLES["Organs"].items() if value != "8"}}
    assert messages(tmp_path, json.dumps(stale)) == ["Organs: 8 (liver) is missing"]
    some = {folder: table for folder, table in TABLES.items() if folder != "Ribs"}
    assert messages(tmp_path, json.dumps(some)) == ["no table of Ribs"]
    assert "and 11 more" in messages(tmp_path, json.dumps({**TABLES, "Organs": {"1": "adrenal gland left"}}))[0]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"<html>", b'{"Organs": '])
def test_what_is_no_json_is_told(tmp_path: Path, content: bytes) -> None:
    assert "cannot be read" in messages(tmp_path, content)[0]


@pytest.mark.parametrize("content", ["[]", "{}", '{"Organs": 3}', "7", '{"Spleens": {"1": "spleen"}}'])
def test_what_holds_no_table_is_told(tmp_path: Path, content: str) -> None:
    assert messages(tmp_path, content) == ["no table of a label family was found in it; it was not compared"]


def test_a_source_without_one_is_told(tmp_path: Path) -> None:
    findings = check_label_files(take_inventory(str(tmp_path)))
    assert [(finding.code, finding.place) for finding in findings] == [("warning.label-table", "labels.json")]


def test_one_in_an_archive_is_found(tmp_path: Path, zipped: Callable[..., bytes]) -> None:
    (tmp_path / "all.zip").write_bytes(zipped({"x/labels.json": json.dumps(TABLES).encode()}))
    assert check_label_files(take_inventory(str(tmp_path))) == []
