"""Contents: which volumes a corpus may have, and where they lie in a store."""

from __future__ import annotations

import itertools
import pickle

import msgspec

from corpus import layout
from corpus.contents import ENHANCE_PET, Contents, ImageVolume, LabelVolume
from corpus.labels import Family, Label
from corpus.models import CorpusInfo, to_json

BRAIN = Contents(
    images=(ImageVolume("t1w", "other"), ImageVolume("fdg", "pet")),
    labels=(LabelVolume(Family("dseg", "Brain", "", (Label(1, "grey_matter", "Grey matter", None, None),)), "t1w"),),
)


def test_another_corpus_lays_its_labels_on_another_image() -> None:
    assert BRAIN.roles == ("t1w", "fdg", "dseg")
    assert BRAIN.carriers == ("t1w",)
    assert (BRAIN.kind("fdg"), BRAIN.kind("dseg"), BRAIN.is_label("dseg")) == ("pet", None, True)
    assert (BRAIN.carrier("dseg"), BRAIN.carrier("t1w")) == ("t1w", None)
    assert BRAIN.image_path("dseg") == "t1w/labels/dseg"
    assert BRAIN.image_path("dseg", apart=True) == "labels_dseg"
    assert BRAIN.volume_name("dseg") == "labels/dseg"


def test_a_path_tells_whether_it_is_a_label_map_and_whose() -> None:
    for contents, apart in itertools.product((ENHANCE_PET, BRAIN), (False, True)):
        for role in contents.roles:
            path = contents.image_path(role, apart=apart)
            assert layout.is_label_path(path) is contents.is_label(role)
            assert layout.carrier_of(path) == (None if apart else contents.carrier(role))


def test_the_built_in_contents_leave_no_trace_in_a_document() -> None:
    info = CorpusInfo("ENHANCE.PET 1.6k", "2026", "Cite.")
    for one in (info, pickle.loads(pickle.dumps(info))):
        assert msgspec.json.decode(to_json(one)) == {"name": "ENHANCE.PET 1.6k", "release": "2026", "citation": "Cite."}
        assert one.contents is ENHANCE_PET


def test_other_contents_come_back_from_a_document() -> None:
    info = CorpusInfo("Brains", "1", "Cite.", BRAIN)
    again = msgspec.json.decode(to_json(info), type=CorpusInfo)
    assert (again, again.contents) == (info, BRAIN)
