"""Licences follow the institution, whatever its spelling, and fail closed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.licenses import (
    LICENSES,
    UNKNOWN,
    Institution,
    attribution_of,
    institution_of,
    license_of,
    license_of_text,
)

AUTOPET = "AutoPET Challenge"
LEIPZIG = "University Hospital Leipzig (DE)"
CAREGGI = "Azienda Ospedaliero Universitaria Careggi (IT)"
DAVIS = "University of California Davis (US)"
INSTITUTIONS = {AUTOPET: "CC-BY-NC-4.0", LEIPZIG: "CC-BY-4.0", CAREGGI: "CC-BY-4.0", DAVIS: "CC-BY-4.0"}


class TestKnownInstitutions:
    @pytest.mark.parametrize(("institution", "spdx"), INSTITUTIONS.items())
    def test_as_the_data_card_spells_them(self, institution: str, spdx: str) -> None:
        assert license_of(institution) == LICENSES[spdx]
        assert institution_of(institution) == institution

    @pytest.mark.parametrize(
        ("spelling", "institution"),
        [
            ("University Hospital Leipzig (DE).", LEIPZIG),
            ("University Hospital Leipzig (Germany)", LEIPZIG),
            ("University Hospital Leipzig", LEIPZIG),
            ("  university hospital LEIPZIG (de)", LEIPZIG),
            ("University Hospital  Leipzig\n(DE)", LEIPZIG),
            ("Azienda Ospedaliero-Universitaria Careggi (Italy)", CAREGGI),
            ("University of California Davis (US) \t", DAVIS),
            ("University of California, Davis (US)", DAVIS),
            ("University of California Davis (USA)", DAVIS),
            ("AUTOPET challenge ", AUTOPET),
            ("AutoPET\u00a0Challenge", AUTOPET),
        ],
    )
    def test_in_spellings_that_drift(self, spelling: str, institution: str) -> None:
        assert license_of(spelling).id == INSTITUTIONS[institution]
        assert institution_of(spelling) == institution

    @given(st.sampled_from(list(INSTITUTIONS)), st.sampled_from([str.upper, str.lower, str.title]), st.data())
    def test_in_any_case_and_with_any_blanks_and_points(
        self, institution: str, case: object, data: st.DataObject
    ) -> None:
        assert callable(case)
        noise = st.text(" \t\n.,;-", max_size=3)
        blank = st.text(" \t\n\u00a0-", min_size=1, max_size=3)
        words = case(institution).split(" ")
        text = data.draw(noise) + words[0]
        for word in words[1:]:
            text += data.draw(blank) + word
        text += data.draw(noise)
        assert license_of(text).id == INSTITUTIONS[institution]
        assert institution_of(text) == institution


class TestFailsClosed:
    @pytest.mark.parametrize(
        "institution",
        [
            None,
            "",
            "  \t",
            "(DE)",
            "nan",
            "unknown",
            "CC BY 4.0",
            "CC-BY-4.0",
            "AutoPET",
            "Leipzig",
            "University Hospital",
            "University of California (US)",
            "University of California Los Angeles (US)",
            "University Hospital Tuebingen (DE)",
            "University Hospital Leipzig and AutoPET Challenge",
            "AutoPET Challenge, University Hospital Leipzig (DE)",
            "UniversityHospitalLeipzig",
            "Hospital University Leipzig",
        ],
    )
    def test_what_is_not_in_the_table_has_no_licence(self, institution: str | None) -> None:
        assert license_of(institution) is UNKNOWN
        assert not license_of(institution).is_known

    @given(st.text())
    def test_no_other_text_is_known(self, text: str) -> None:
        # The words of an institution cannot all come together by chance.
        assert license_of(text) is UNKNOWN

    @pytest.mark.parametrize("before", [True, False])
    @given(st.sampled_from(list(INSTITUTIONS)), st.text(st.characters(categories=["L", "N"]), min_size=1))
    def test_one_more_word_of_any_script_is_another_institution(
        self, before: bool, institution: str, word: str
    ) -> None:
        assert license_of(f"{word} {institution}" if before else f"{institution} {word}") is UNKNOWN

    @given(st.sampled_from(list(INSTITUTIONS)), st.data())
    def test_one_word_less_is_another_institution(self, institution: str, data: st.DataObject) -> None:
        words = institution.partition(" (")[0].split()
        words.pop(data.draw(st.integers(0, len(words) - 1)))
        assert license_of(" ".join(words)) is UNKNOWN

    @pytest.mark.parametrize("open_one", [LEIPZIG, CAREGGI, DAVIS])
    def test_a_second_institution_in_brackets_does_not_pass_for_a_country(self, open_one: str) -> None:
        """Read as the first one alone, a non-commercial subject would be shared as CC BY."""
        name = open_one.partition(" (")[0]
        assert license_of(f"{name} (AutoPET Challenge)").id != "CC-BY-4.0"


class TestTable:
    def test_only_unknown_is_not_known(self) -> None:
        assert {spdx for spdx, license_ in LICENSES.items() if not license_.is_known} == {"unknown"}
        assert LICENSES["unknown"] is UNKNOWN

    def test_entries_are_found_by_their_own_id_and_have_a_text(self) -> None:
        for spdx, license_ in LICENSES.items():
            assert license_.id == spdx
            assert license_.name
            assert license_.url.startswith("https://") is license_.is_known

    def test_the_two_licences_lead_to_their_own_text(self) -> None:
        assert LICENSES["CC-BY-4.0"].url.endswith("/by/4.0/")
        assert LICENSES["CC-BY-NC-4.0"].url.endswith("/by-nc/4.0/")


class TestNames:
    @pytest.mark.parametrize("nothing", [None, "", " \t\n"])
    def test_no_name_is_none(self, nothing: str | None) -> None:
        assert institution_of(nothing) is None
        assert attribution_of(nothing, "Corpus") == "Corpus, images from an unnamed source"

    def test_a_name_that_is_not_known_is_kept(self) -> None:
        assert institution_of(" Klinikum  Nirgendwo (DE) ") == "Klinikum  Nirgendwo (DE)"
        assert attribution_of(" Klinikum Nirgendwo ", "Corpus") == "Corpus, images from Klinikum Nirgendwo"

    def test_attribution_has_the_name_in_full(self) -> None:
        assert attribution_of("university hospital leipzig (Germany).", "Corpus") == f"Corpus, images from {LEIPZIG}"


class TestFreeText:
    @pytest.mark.parametrize(
        ("text", "spdx"),
        [
            ("CC0", "CC0-1.0"),
            (" cc-by-4.0 ", "CC-BY-4.0"),
            ("CC BY 4.0", "CC-BY-4.0"),
            ("CC BY-NC 4.0.", "CC-BY-NC-4.0"),
            ("Creative Commons Attribution 4.0 International", "CC-BY-4.0"),
            ("http://creativecommons.org/licenses/by-nc/4.0", "CC-BY-NC-4.0"),
            ("creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
            ("PDDL", "PDDL-1.0"),
        ],
    )
    def test_a_licence_in_full(self, text: str, spdx: str) -> None:
        assert license_of_text(text).id == spdx

    @pytest.mark.parametrize(
        "text",
        [None, "", "unknown", "CC", "CC BY", "CC BY 3.0", "CC BY-SA 4.0", "CC0 or CC BY 4.0", "not CC0", "open", "1.0"],
    )
    def test_anything_else_is_unknown(self, text: str | None) -> None:
        assert license_of_text(text) is UNKNOWN

    @given(st.sampled_from([license_.id for license_ in LICENSES.values() if license_.is_known]), st.text())
    def test_words_around_it_make_it_unknown(self, spdx: str, more: str) -> None:
        if any(letter.isalnum() for letter in more):
            assert not license_of_text(f"{spdx} {more}").is_known


def test_a_table_of_ones_own_knows_no_other_institution() -> None:
    own = (Institution("Klinikum Nirgendwo", "CC0-1.0", ("de",)), Institution("Elsewhere", "free beer"))
    assert license_of("klinikum nirgendwo (DE).", own).id == "CC0-1.0"
    assert attribution_of("klinikum nirgendwo (DE).", "Corpus", own) == "Corpus, images from Klinikum Nirgendwo"
    assert institution_of("AUTOPET challenge", own) == "AUTOPET challenge"
    for name in (LEIPZIG, "Klinikum Nirgendwo (US)", "Elsewhere", None):
        assert license_of(name, own) is UNKNOWN
