"""Where a corpus puts its files: the six layouts in which ENHANCE.PET is met, for the phantom.

Names go in as the bucket has them, which is layout L1. In a layout with archives they come out as
``archive.zip!member``.
"""

from __future__ import annotations

import re
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from converter.corpusfile import CORPUS_FILE
from corpus.errors import SettingsError
from corpus.labels import families

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

LAYOUTS: Final = {
    "L1": "as in the bucket, one file per volume",
    "L2": "the whole corpus in one archive, without labels.json",
    "L3": "CT split over two folders, as the data card of 2026 has it",
    "L4": "ten archives, as the release of 2026 is served",
    "L5": "the thirteen files that moosez -dtd leaves",
    "L6": "somebody's copy: all a folder deeper, and one folder in another case",
}
_LAST_OF_FIRST_CT_SET: Final = 1000
_VOLUME: Final = re.compile(r"imaging-data/(?:images|ground-truth)/(?P<folder>[^/]+)/(?P<number>\d+)\.nii\.gz")
_MOOSEZ_NAMES: Final = {
    "CT-details.xlsx": "CT_details.xlsx",
    "PT-details.xlsx": "PT_details.xlsx",
    "Body-Composition": "body_composition_labels",
    "Cardiac": "cardiac_labels",
    "Muscles": "muscle_labels",
    "Organs": "organs_labels",
    "Peripheral-Bones": "peripheral_bones_labels",
    "Ribs": "ribs_labels",
    "Vertebrae": "vertebrae_labels",
    "PT_0001-1683": "PT_images",
    "CT_0001-1000": "CT_images_0001-1000",
    # So it is called, and so it begins with 1001.
    "CT_1001-1683": "CT_images_1000-1683",
}


def place(layout: str, name: str) -> str | None:
    """Return where a layout has the file that L1 calls `name`; None where it lacks it."""
    # The phantom's own file, by which no reader takes it for patients, lies at the root of every layout.
    return name if name == CORPUS_FILE else _PLACES[layout](name)


def _in_one_archive(name: str) -> str | None:
    return None if name == "labels.json" else f"ENHANCE-PET-1_6k.zip!{name}"


def _split(name: str) -> str:
    match = _VOLUME.fullmatch(name)
    if not match:
        return name
    images = match["folder"] in {"CT", "PT"}
    return f"{'images' if images else 'ground-truth'}/{_set(match)}/{match['number']}.nii.gz"


def _in_ten_archives(name: str) -> str:
    # What the paths within the archives are is not known; their folder is the likely one.
    match = _VOLUME.fullmatch(name)
    return f"{_set(match)}.zip!{_set(match)}/{match['number']}.nii.gz" if match else name


def _renamed(name: str) -> str:
    archive, mark, member = _in_ten_archives(name).partition(".zip!")
    return f"{_MOOSEZ_NAMES.get(archive, archive)}{mark}{member}"


def _copied(name: str) -> str:
    return f"enhance-pet-1_6k/{name.replace('Peripheral-Bones', 'Peripheral-bones')}"


def _set(match: re.Match[str]) -> str:
    if match["folder"] == "CT":
        return "CT_0001-1000" if int(match["number"]) <= _LAST_OF_FIRST_CT_SET else "CT_1001-1683"
    return "PT_0001-1683" if match["folder"] == "PT" else match["folder"]


_PLACES: Final[dict[str, Callable[[str], str | None]]] = {
    "L1": lambda name: name,
    "L2": _in_one_archive,
    "L3": _split,
    "L4": _in_ten_archives,
    "L5": _renamed,
    "L6": _copied,
}


class LayoutWriter:
    """Writes the files of a corpus in a layout. Use as a context manager: archives are whole at its end.

    Every archive of the layout is made, also one that gets no member. Images are stored in it, all else is deflated,
    and nothing bears today's date.

    Parameters
    ----------
    folder
        Made when missing.
    layout
        A key of `LAYOUTS`.

    Raises
    ------
    SettingsError
        There is no such layout.
    """

    def __init__(self, folder: Path, layout: str) -> None:
        if layout not in LAYOUTS:
            raise SettingsError("settings.option", f"{layout!r} is none of {', '.join(LAYOUTS)}", place="--layout")
        self._folder = folder
        self._layout = layout
        self._archives: dict[str, zipfile.ZipFile] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folders = [*(f"ground-truth/{family.folder}" for family in families().values()), "images/CT", "images/PT"]
        for folder in folders:
            for number in ("0001", f"{_LAST_OF_FIRST_CT_SET + 1}"):
                name = place(self._layout, f"imaging-data/{folder}/{number}.nii.gz")
                if name and "!" in name:
                    self._archive(name.partition("!")[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write(self, name: str, content: bytes) -> str | None:
        """Write the file that L1 calls `name`; return what it is called here, None where the layout lacks it."""
        placed = place(self._layout, name)
        if placed is None:
            return None
        archive, _, member = placed.rpartition("!")
        if archive:
            info = zipfile.ZipInfo(member)
            info.external_attr = 0o644 << 16
            method = zipfile.ZIP_STORED if "/images/" in name else zipfile.ZIP_DEFLATED
            self._archive(archive).writestr(info, content, compress_type=method)
        else:
            path = self._folder / placed
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return placed

    def _archive(self, name: str) -> zipfile.ZipFile:
        if name not in self._archives:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._archives[name] = self._stack.enter_context(zipfile.ZipFile(self._folder / name, "w"))
        return self._archives[name]
