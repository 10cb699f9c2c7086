from __future__ import annotations

import pickle

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.subjectrows import SubjectRows


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9))))
def test_rows_by_subject_are_those_of_the_table_in_its_order(rows: list[tuple[str, int]]) -> None:
    # Subjects may come in any order, also with others between.
    columns = {
        "subject": pa.array([name for name, _ in rows], pa.string()),
        "n": pa.array([n for _, n in rows], pa.int64()),
    }
    found = SubjectRows(pa.table(columns))
    expected: dict[str, list[dict[str, object]]] = {}
    for name, n in rows:
        expected.setdefault(name, []).append({"subject": name, "n": n})
    assert dict(found) == expected
    assert (len(found), "d" in found) == (len(expected), False)
    assert found.get("d", []) == []
    for name in "abcd":
        assert dict(found.only(name)) == ({name: expected[name]} if name in expected else {})
    with pytest.raises(KeyError):
        found["d"]


def test_one_subject_is_small_when_it_is_sent_to_a_worker() -> None:
    many = pa.table({"subject": pa.array([str(n % 1000) for n in range(100_000)])})
    rows = SubjectRows(many).only("7")
    assert len(rows["7"]) == 100
    assert len(pickle.dumps(rows)) < 5_000
