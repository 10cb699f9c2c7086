"""The error tree: what callers catch, what people read, and what survives a process border."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import errors
from corpus.errors import (
    CODES,
    EXIT_STATUS,
    LayoutError,
    NotFoundError,
    RequestError,
    SettingsError,
    SourceError,
    StoreError,
    VoxshelfError,
)
from corpus.findings import WARNINGS

BUILTIN: dict[type[VoxshelfError], type[Exception]] = {
    SourceError: ValueError,
    SettingsError: ValueError,
    StoreError: OSError,
    LayoutError: ValueError,
    NotFoundError: LookupError,
    RequestError: ValueError,
}
BY_KIND = {kind.kind: kind for kind in BUILTIN}
TEXTS = st.text(max_size=20)


def of_code(code: str, message: str = "expected 3, found 4", *, place: str = "", hint: str = "") -> VoxshelfError:
    return BY_KIND[code.partition(".")[0]](code, message, place=place, hint=hint)


class TestTree:
    def test_these_are_all_classes(self) -> None:
        assert set(VoxshelfError.__subclasses__()) == set(BUILTIN)
        assert len(BY_KIND) == len(BUILTIN)

    @pytest.mark.parametrize(("kind", "builtin"), BUILTIN.items())
    def test_each_is_also_the_familiar_builtin(self, kind: type[VoxshelfError], builtin: type[Exception]) -> None:
        code = next(code for code in CODES if code.startswith(f"{kind.kind}."))
        with pytest.raises(builtin, match="no luck") as caught:
            raise kind(code, "no luck")
        assert isinstance(caught.value, VoxshelfError)

    def test_a_lookup_is_no_key_error_whose_text_is_quoted(self) -> None:
        assert not issubclass(NotFoundError, KeyError)


class TestCodes:
    def test_each_begins_with_the_kind_of_its_class(self) -> None:
        assert {code.partition(".")[0] for code in CODES} == set(BY_KIND)

    @pytest.mark.parametrize("code", CODES)
    def test_each_has_a_name_a_meaning_and_a_hint(self, code: str) -> None:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*\.[a-z0-9]+(-[a-z0-9]+)*", code)
        meaning, hint = CODES[code]
        assert meaning[0].isupper()
        assert meaning.endswith(".")
        assert hint.endswith(".")
        assert meaning != hint

    def test_no_two_mean_the_same(self) -> None:
        assert len({entry.meaning for entry in CODES.values()}) == len(CODES)

    def test_an_unknown_one_is_a_mistake_of_ours(self) -> None:
        with pytest.raises(KeyError):
            SourceError("source.no-such-code", "message")


class TestExitStatus:
    def test_every_kind_has_its_own(self) -> None:
        assert set(EXIT_STATUS) == set(BY_KIND)
        assert len(set(EXIT_STATUS.values())) == len(EXIT_STATUS)

    def test_none_is_success_or_that_of_a_run_with_failures(self) -> None:
        assert not {0, 1} & set(EXIT_STATUS.values())
        assert all(status < 126 for status in EXIT_STATUS.values())  # the shell's own begin there

    def test_a_wrong_call_ends_as_clicks_usage_errors_do(self) -> None:
        assert EXIT_STATUS["settings"] == 2


@pytest.mark.parametrize("code", CODES)
class TestEachError:
    def test_text_has_place_message_and_code(self, code: str) -> None:
        assert str(of_code(code, place="ct/0001.nii.gz")) == f"ct/0001.nii.gz: expected 3, found 4 [{code}]"
        assert str(of_code(code)) == f"expected 3, found 4 [{code}]"

    def test_hint_is_that_of_the_code_unless_given(self, code: str) -> None:
        assert of_code(code).hint == CODES[code].hint
        assert of_code(code, hint="Ask Ada.").hint == "Ask Ada."

    def test_survives_pickling_and_copying(self, code: str) -> None:
        error = of_code(code, "a message", place="a place", hint="a hint")
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(again) is type(error)
            assert (again.code, again.message, again.place, again.hint) == (code, "a message", "a place", "a hint")
            assert str(again) == str(error)


@given(st.sampled_from(list(CODES)), TEXTS, TEXTS, TEXTS)
def test_any_text_survives_pickling(code: str, message: str, place: str, hint: str) -> None:
    error = of_code(code, message, place=place, hint=hint)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_a_store_error_has_no_errno_and_keeps_its_text() -> None:
    """OSError makes its own text of two to five arguments."""
    error = StoreError("store.unreachable", "no answer", place="s3://bucket/key", hint="hint")
    assert str(error) == "s3://bucket/key: no answer [store.unreachable]"
    assert type(error) is StoreError


def calls_in_the_code() -> Iterator[tuple[str, str, str]]:
    """Where an error or a warning is made of a code: the place, the callable and the code."""
    makers = {"warning", *(kind.__name__ for kind in BUILTIN)}
    root = Path(errors.__file__).parents[1]
    for package in ("corpus", "converter", "service", "voxshelf"):
        for path in sorted((root / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_bytes())):
                match node:
                    case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), *_]) if name in makers:
                        yield f"{package}/{path.name}:{node.lineno}", name, code


def test_the_code_uses_codes_of_the_table_with_the_class_of_their_kind() -> None:
    """A typing error would raise KeyError in place of the error, on a path that hardly ever runs."""
    found = list(calls_in_the_code())
    assert len(found) > 40
    classes = {kind: cls.__name__ for kind, cls in BY_KIND.items()}
    expected = {code: classes[code.partition(".")[0]] for code in CODES} | dict.fromkeys(WARNINGS, "warning")
    assert [call for call in found if expected.get(call[2]) != call[1]] == []
