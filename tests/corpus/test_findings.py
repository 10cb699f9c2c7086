"""Findings: what a report says of a warning, of an error of ours, and of one that nobody foresaw."""

from __future__ import annotations

import msgspec
import pytest

from corpus.errors import CODES, SourceError
from corpus.findings import WARNINGS, Finding, failure, unexpected, warning
from corpus.models import to_json


class TestWarnings:
    @pytest.mark.parametrize("code", WARNINGS)
    def test_each_has_a_meaning_and_a_hint(self, code: str) -> None:
        assert code.startswith("warning.")
        meaning, hint = WARNINGS[code]
        assert meaning.endswith(".")
        assert hint.endswith(".")
        assert meaning != hint

    def test_none_is_an_error_too(self) -> None:
        assert not set(WARNINGS) & set(CODES)

    @pytest.mark.parametrize("code", WARNINGS)
    def test_the_meaning_stands_in_for_a_message(self, code: str) -> None:
        finding = warning(code, "0001/ct")
        assert finding == Finding(code, WARNINGS[code].meaning, "0001/ct", WARNINGS[code].hint)
        assert finding.is_warning

    def test_a_message_is_kept(self) -> None:
        finding = warning("warning.non-finite", "0001/pet", "7 voxels are NaN")
        assert (finding.message, finding.place) == ("7 voxels are NaN", "0001/pet")

    def test_an_error_code_is_no_warning(self) -> None:
        with pytest.raises(KeyError):
            warning("source.not-3d", "0001/ct")


class TestFailures:
    @pytest.mark.parametrize(
        ("named", "given", "expected"),
        [("ct.nii.gz", "0001/ct", "ct.nii.gz"), ("", "0001/ct", "0001/ct"), ("ct.nii.gz", "", "ct.nii.gz")],
    )
    def test_the_errors_own_place_comes_first(self, named: str, given: str, expected: str) -> None:
        error = SourceError("source.not-3d", "expected 3 dimensions, found 4", place=named, hint="Split it.")
        finding = failure(error, given)
        assert finding == Finding("source.not-3d", "expected 3 dimensions, found 4", expected, "Split it.")
        assert not finding.is_warning

    def test_an_unforeseen_error_says_its_type(self) -> None:
        finding = unexpected(ZeroDivisionError("division by zero"), "0001/ct")
        assert finding.message == "ZeroDivisionError: division by zero"
        assert (finding.code, finding.place) == ("source.unexpected", "0001/ct")
        assert finding.hint == CODES["source.unexpected"].hint
        assert not finding.is_warning


def test_a_finding_survives_json() -> None:
    finding = warning("warning.label-grid", "0001/organs", 'off by "0.2" voxels \u2260 0')
    assert msgspec.json.decode(to_json(finding), type=Finding) == finding
