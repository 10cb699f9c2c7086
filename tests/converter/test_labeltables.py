"""Label tables: what they say is taken, and what contradicts itself is refused."""

from __future__ import annotations

import pytest

from converter.labeltables import identifier, made_table, read_table, united
from corpus.errors import SourceError
from corpus.labels import Label


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.tsv", b"index\tname\tcolor\n0\tBackground\t#000\n2\tgrey_matter\t#111\n7\tWhite Matter (left)\t#222\n"),
        ("a.csv", b"\xef\xbb\xbfValue;Name\r\n2;grey_matter\r\n\r\n7;White Matter (left)\r\n"),
        ("a.json", b'{"2": "grey_matter", "7": "White Matter (left)"}'),
        ("a.json", b'[{"value": 2, "name": "grey_matter"}, {"index": 7, "name": "White Matter (left)"}]'),
    ],
)
def test_in_each_format(name: str, data: bytes) -> None:
    assert read_table(data, name) == (
        Label(2, "grey_matter", "grey matter"),
        Label(7, "White_Matter_left", "White Matter (left)"),
    )


def test_codes_and_sides_are_taken_where_they_are_given() -> None:
    data = b"value\tname\tdisplay\tsnomed_ct\tside\n3\tkidney_left\tLeft kidney\t64033007\tleft\n"
    assert read_table(data, "a.tsv") == (Label(3, "kidney_left", "Left kidney", "64033007", "left"),)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.tsv", b"", "expected the columns"),
        ("a.tsv", b"number\tname\n1\tx\n", "expected the columns"),
        ("a.tsv", b"index\tname\n0\tBackground\n", "no label"),
        ("a.tsv", b"index\tname\n1\tx\n1\ty\n", "values 1 occur twice"),
        ("a.tsv", b"index\tname\n1\tx y\n2\tx_y\n", "names x_y occur twice"),
        ("a.tsv", b"index\tname\n1.5\tx\n", "whole number"),
        ("a.tsv", b"index\tname\n-1\tx\n", "whole number"),
        ("a.tsv", b"index\tname\n4294967296\tx\n", "whole number"),
        ("a.tsv", b"index\tname\n1\t\n", "no name"),
        ("a.tsv", b"\xff\xfe", "not a table"),
        ("a.json", b'{"1": 2}', "not a table"),
        ("a.json", b"{,}", "not a table"),
    ],
)
def test_what_is_no_table_is_refused(name: str, data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        read_table(data, name)
    assert (caught.value.code, caught.value.place) == ("source.label-table", name)


def test_tables_of_several_files_are_united_by_value() -> None:
    one, two = (Label(1, "a", "a"), Label(3, "c", "c")), (Label(2, "b", "b"), Label(3, "c", "c"))
    assert [label.value for label in united({"y": one, "x": two})] == [1, 2, 3]


@pytest.mark.parametrize("other", [Label(1, "b", "b"), Label(2, "a", "a")])
def test_tables_that_contradict_each_other_are_refused(other: Label) -> None:
    with pytest.raises(SourceError) as caught:
        united({"one.tsv": (Label(1, "a", "a"),), "two.tsv": (other,)})
    assert caught.value.code == "source.label-table"


def test_names_can_be_listed_by_xarray() -> None:
    assert identifier(" Left-Cerebellum  Cortex/3 ") == "Left-Cerebellum_Cortex_3"
    assert [label.name for label in made_table([{"value": "1", "name": "a b"}], "x")] == ["a_b"]
