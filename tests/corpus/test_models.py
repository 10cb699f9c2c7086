"""Records of what was stored: they come back from JSON as they were, and the same value gives the same bytes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import models
from corpus.errors import SourceError
from corpus.findings import failure, warning
from corpus.geometry import Grid, Reorder
from corpus.models import Region, Scaling, Statistics, StoredImage, SubjectInfo, to_json
from corpus.outcomes import ObjectRecord, SubjectOutcome, VolumeOutcome

STRUCTS = [kind for _, kind in inspect.getmembers(models, inspect.isclass) if issubclass(kind, msgspec.Struct)]
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def outcome(
    make_grid: Callable[..., Grid], make_image: Callable[..., StoredImage], make_region: Callable[..., Region]
) -> SubjectOutcome:
    """A subject with something in every field: a CT, a map in another voxel order, a PET that failed."""
    reordered = make_image(
        "organs",
        make_grid("SLA"),
        reorder=Reorder((2, 0, 1), (True, False, True)),
        header=bytes(range(256)) + bytes(96),
        source_header=b"\xff\xfe\x00 not text",
        scaling=Scaling(0.1, -1024.0),
        lossless=False,
        regions=(make_region(7, "liver"), make_region(99, "unexpected_99", touches_edge=False)),
    )
    error = SourceError("source.gzip-truncated", "expected 10 bytes, found 9", place="images/PT/0007.nii.gz")
    return SubjectOutcome(
        info=SubjectInfo(
            subject="0007",
            source_institution="AutoPET Challenge",
            license="CC-BY-NC-4.0",
            attribution="Name them.",
            indication="Mélanome \u2260 lymphoma",
            sex="F",
            age_years=61.7,
            weight_kg=70.1,
            height_m=1.71,
            scanner="Biograph",
            pet_units="BQML",
            extra={"PT: Tracer": "FDG", "CT: kVp": "120"},
        ),
        volumes=(
            VolumeOutcome(
                subject="0007",
                role="ct",
                digest="1" * 64,
                image=make_image("ct", statistics=Statistics(-1024.0, 3071.0, -0.1, 2, 1e-7)),
                objects=(ObjectRecord("subjects/0007.ome.zarr/ct/zarr.json", 2**40, "f" * 64),),
                seconds=1.25,
            ),
            VolumeOutcome(
                subject="0007",
                role="organs",
                digest="2" * 64,
                image=reordered,
                findings=(warning("warning.label-reordered", "0007/organs"),),
            ),
            VolumeOutcome(subject="0007", role="pet", digest="3" * 64, image=None, findings=(failure(error),)),
        ),
        findings=(warning("warning.volume-missing", "0007/ribs"),),
        objects=(ObjectRecord("subjects/0007.ome.zarr/zarr.json", 77, "e" * 64),),
    )


class TestJson:
    def test_gives_back_all_of_an_outcome(self, outcome: SubjectOutcome) -> None:
        assert msgspec.json.decode(to_json(outcome), type=SubjectOutcome) == outcome

    @given(st.lists(FINITE, min_size=12, max_size=12), st.tuples(*[st.integers(1, 2**31)] * 3))
    def test_gives_back_every_bit_of_an_affine(self, values: list[float], shape: tuple[int, int, int]) -> None:
        """Positions are compared and exported later, so no digit may be lost."""
        grid = Grid.of(shape, [values[:4], values[4:8], values[8:], [0.0, 0.0, 0.0, 1.0]])
        again = msgspec.json.decode(to_json(grid), type=Grid)
        assert again.shape_zyx == shape
        assert [value.hex() for row in again.affine for value in row] == [
            value.hex() for row in grid.affine for value in row
        ]

    def test_is_the_same_whatever_order_the_columns_came_in(self, outcome: SubjectOutcome) -> None:
        turned = dict(reversed(outcome.info.extra.items()))
        again = msgspec.structs.replace(outcome, info=msgspec.structs.replace(outcome.info, extra=turned))
        assert list(turned) != list(outcome.info.extra)
        assert to_json(again) == to_json(outcome)

    def test_differs_where_any_field_does(self, outcome: SubjectOutcome) -> None:
        image = outcome.volumes[0].image
        assert image is not None
        changes: dict[str, Any] = {
            "header": b"other",
            "reorder": Reorder((0, 1, 2), (True, False, False)),
            "scaling": Scaling(1.0, 1.0),
            "levels": image.levels[:1],
            "regions": (),
            "statistics": None,
        }
        changes = {name: value for name, value in changes.items() if getattr(image, name) != value}
        assert len(changes) == 5
        documents = {to_json(msgspec.structs.replace(image, **{name: value})) for name, value in changes.items()}
        assert len(documents | {to_json(image)}) == 6

    def test_is_plain_json_for_outsiders(self, outcome: SubjectOutcome) -> None:
        document = json.loads(to_json(outcome))
        assert document["info"]["indication"] == "Mélanome \u2260 lymphoma"
        assert document["volumes"][2]["image"] is None
        assert document["volumes"][1]["image"]["reorder"] == {"axes": [2, 0, 1], "flips": [True, False, True]}

    @pytest.mark.parametrize("damage", [b"", b"{}", b'{"info": {"subject": 7}, "volumes": []}', b"null"])
    def test_of_something_else_is_no_outcome(self, damage: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(damage, type=SubjectOutcome)


class TestValues:
    @pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
    def test_are_frozen(self, kind: type[msgspec.Struct]) -> None:
        assert kind.__struct_config__.frozen

    def test_an_image_lies_on_the_grid_of_its_first_level(self, make_image: Callable[..., StoredImage]) -> None:
        image = make_image("ct")
        assert len(image.levels) > 1
        assert image.grid == image.levels[0].grid != image.levels[1].grid

    @pytest.mark.parametrize(
        ("slope", "inter", "identity"),
        [(1.0, 0.0, True), (1.0, -0.0, True), (1.0, -1024.0, False), (0.5, 0.0, False), (-1.0, 0.0, False)],
    )
    def test_only_one_scaling_changes_nothing(self, slope: float, inter: float, identity: bool) -> None:
        assert Scaling(slope, inter).is_identity is identity

    def test_no_scaling_is_the_usual_one(self) -> None:
        assert Scaling().is_identity

    def test_digests_are_those_of_stored_volumes_only(self, outcome: SubjectOutcome) -> None:
        """A volume that failed has to be tried again, whatever its digest."""
        assert outcome.digests == {"ct": "1" * 64, "organs": "2" * 64}

    def test_a_subject_of_which_nothing_is_known_is_closed(self) -> None:
        info = SubjectInfo(subject="0007")
        assert info.license == "unknown"
        known = {name: value for name, value in msgspec.structs.asdict(info).items() if value}
        assert known == {"subject": "0007", "license": "unknown"}

    def test_subjects_do_not_share_their_columns(self) -> None:
        one, other = SubjectInfo(subject="1"), SubjectInfo(subject="2")
        one.extra["Tracer"] = "FDG"
        assert other.extra == {}
