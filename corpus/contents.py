"""What a subject of a corpus may have: its images, and the label maps that are laid on them.

ENHANCE.PET's contents are built in; those of any other corpus come from its description and travel with `CorpusInfo`.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from corpus import layout
from corpus.labels import Family, families

Kind = Literal["ct", "pet", "other"]


class ImageVolume(msgspec.Struct, frozen=True):
    """An intensity volume that a subject may have.

    Attributes
    ----------
    id
        Name of its group in a subject's store, for example ``ct``.
    kind
        A CT is in Hounsfield units, a PET in the unit that the spreadsheet names, of any other nothing is known.
    """

    id: str
    kind: Kind


class LabelVolume(msgspec.Struct, frozen=True):
    """A label map that a subject may have.

    Attributes
    ----------
    family
        Its table; the id names the label map.
    on
        Image on whose lattice it is laid.
    """

    family: Family
    on: str


class Contents(msgspec.Struct, frozen=True):
    """All volumes that a complete subject has, in the order in which they are listed.

    Attributes
    ----------
    images
        Come first.
    labels
        Label maps.
    """

    images: tuple[ImageVolume, ...]
    labels: tuple[LabelVolume, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """Ids of all volumes: images, then label families."""
        return (*(image.id for image in self.images), *(label.family.id for label in self.labels))

    @property
    def carriers(self) -> tuple[str, ...]:
        """Ids of the images that label maps are laid on."""
        on = {label.on for label in self.labels}
        return tuple(image.id for image in self.images if image.id in on)

    def kind(self, role: str) -> Kind | None:
        """Return the kind of an image; None for a label map."""
        return next((image.kind for image in self.images if image.id == role), None)

    def is_label(self, role: str) -> bool:
        """Whether a role is a label map."""
        return self.kind(role) is None

    def family(self, role: str) -> Family | None:
        """Return the table of a label map; None for an image."""
        label = self._label(role)
        return label.family if label else None

    def carrier(self, role: str) -> str | None:
        """Return the image that a label map is laid on; None for an image."""
        label = self._label(role)
        return label.on if label else None

    def volume_name(self, role: str) -> str:
        """Return the name of a role in the tables: ``ct``, ``pet``, ``labels/organs``."""
        return layout.volume_name(role, is_label=self.is_label(role))

    def image_path(self, role: str, *, apart: bool = False) -> str:
        """Return the path of a volume's image group in a subject's store.

        Parameters
        ----------
        role
            An image or a label family.
        apart
            A label map that does not lie on its image's grid, and is kept beside it.
        """
        carrier = self.carrier(role)
        return role if carrier is None else layout.label_path(role, carrier, apart=apart)

    def _label(self, role: str) -> LabelVolume | None:
        return next((label for label in self.labels if label.family.id == role), None)


ENHANCE_PET: Final = Contents(
    images=(ImageVolume("ct", "ct"), ImageVolume("pet", "pet")),
    labels=tuple(LabelVolume(family, "ct") for family in families().values()),
)
