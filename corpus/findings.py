"""Findings: what a run or a check has to say about one file or volume, in the report and in the tables."""

from __future__ import annotations

from typing import Final

import msgspec

from corpus.errors import CODES, Code, VoxshelfError

WARNINGS: Final[dict[str, Code]] = {
    "warning.volume-missing": Code(
        "The subject lacks a volume that the corpus should have.",
        "Fetch the missing file and run convert again; the gap is in catalog.parquet.",
    ),
    "warning.licence-unknown": Code(
        "The licence of the subject is not known, so it is never served as open.",
        "Check the Data-Source column of the spreadsheets, or the licence rule of the corpus description.",
    ),
    "warning.rows-conflict": Code(
        "Rows or sheets contradict each other about a subject: what they do not agree on is unknown, and kept as text.",
        "Correct the spreadsheets and run convert again: it tells the metadata anew.",
    ),
    "warning.suv-implausible": Code(
        "The fields for SUV contradict each other or sense, so no suv_factor is given.",
        "Correct the cells of the PET sheet and run convert again: it tells the metadata anew.",
    ),
    "warning.not-in-source": Code(
        "A published subject is not in the source; it stays published.",
        "If it was withdrawn, remove it: `voxshelf unpublish MIRROR SUBJECT`.",
    ),
    "warning.withdrawn": Code(
        "The subject was withdrawn with `voxshelf unpublish`, so it was left out.",
        "Remove it from the source. If it may be shown again, lift the withdrawal with --bring-back SUBJECT.",
    ),
    "warning.duplicate": Code(
        "The same volume was found twice; the first by name was used.",
        "Remove one of the two files.",
    ),
    "warning.label-table": Code(
        "The labels.json of the source is absent, not valid, or not the built-in table, which alone was used.",
        "Values that bear other names mean label maps of another model or release; compare before you rely on names.",
    ),
    "warning.release-mixed": Code(
        "The subjects seem to come from two releases, which differ in whether heads were removed.",
        "Convert each release into a mirror of its own, with --release; for privacy prefer the newer one.",
    ),
    "warning.mask-overlap": Code(
        "Binary masks of a label map overlap; the structure that the table lists first kept the voxels.",
        "Where the overlap matters, convert the masks into label maps of their own.",
    ),
    "warning.mask-unknown": Code(
        "A binary mask shows a structure that the label table does not list; it was left out.",
        "Add the structure to the table of the corpus description.",
    ),
    "warning.label-rounded": Code(
        "Label values were off whole numbers by at most 0.001 and were rounded; export is not byte-identical.",
        "Nothing to do, unless you need the source's bytes back.",
    ),
    "warning.label-unexpected": Code(
        "The label map holds values that the label table does not know; the voxels are kept.",
        "Compare the release of the corpus with the label table.",
    ),
    "warning.label-empty": Code("The label map is entirely background.", "Valid, but look at the source."),
    "warning.label-grid": Code(
        "The label map does not lie on the CT's grid; it is kept apart on its own grid.",
        "Select by world position, never by index.",
    ),
    "warning.label-reordered": Code(
        "The label map was written in the CT's voxel order; export gives back the source's order.",
        "Nothing to do.",
    ),
    "warning.affine-conflict": Code(
        "sform and qform disagree; the sform was used.",
        "Check the position of the volume against another one of the subject.",
    ),
    "warning.affine-pixdim": Code(
        "The header has neither sform nor qform: orientation and position are guessed from pixdim.",
        "Left and right are not known; do not rely on world positions.",
    ),
    "warning.affine-sheared": Code(
        "The axes of the volume are not orthogonal, as with a tilted gantry.",
        "The full affine is stored; resample before measuring across slices.",
    ),
    "warning.oblique": Code(
        "The axes of the volume are not those of the world; coordinates are distances along the axes.",
        "Use the affine for world positions.",
    ),
    "warning.units-unknown": Code(
        "The header does not say the spatial unit; millimetres are assumed.", "Check the spacing."
    ),
    "warning.non-finite": Code("Some voxels are NaN or infinite.", "They are kept, and left out of the statistics."),
    "warning.label-side": Code(
        "Structures of the label map lie on the wrong side of the patient.",
        "Look at the picture: a map that was given another file's geometry is mirrored, and so is, rarely, a person.",
    ),
    "warning.label-outside": Code(
        "Most of the label map lies outside the body that the CT shows.",
        "Look at the picture: the map is shifted, turned over, or another subject's.",
    ),
    "warning.views-apart": Code(
        "The fields of view of CT and PET overlap hardly or not at all.",
        "Check that both are of one examination, and their positions.",
    ),
    "warning.hu-range": Code(
        "The CT's values are not those of a body in Hounsfield units.",
        "The intercept was probably lost (1024 too much), or the values were clipped; compare with the DICOM series.",
    ),
    "warning.intensity-unit": Code(
        "The physical unit of the intensities is not known.",
        "Compare volumes by ratios only; for a PET, the Units column of the spreadsheets says it.",
    ),
    "warning.report-page": Code(
        "The report page could not be written; the mirror itself is published.",
        "Make the page with `voxshelf report MIRROR`, which says what is wrong.",
    ),
    "warning.not-checked": Code(
        "The quality checks of the subject could not be made.", "Please report it with the message."
    ),
}
"""What a volume may be marked with although it was converted."""


class Finding(msgspec.Struct, frozen=True):
    """One failure or warning.

    Attributes
    ----------
    code
        A key of `corpus.errors.CODES` or of `WARNINGS`.
    message
        What was expected and what was found.
    place
        The file, object or subject.
    hint
        What a person can do.
    """

    code: str
    message: str
    place: str
    hint: str

    @property
    def is_warning(self) -> bool:
        """Whether the volume is usable all the same."""
        return self.code in WARNINGS


def warning(code: str, place: str, message: str = "") -> Finding:
    """Make a finding from the table of warnings; the meaning of the code stands in for an empty message."""
    entry = WARNINGS[code]
    return Finding(code, message or entry.meaning, place, entry.hint)


def failure(error: VoxshelfError, place: str = "") -> Finding:
    """Make a finding from an error; `place` stands in where the error names none."""
    return Finding(error.code, error.message, error.place or place, error.hint)


def unexpected(error: Exception, place: str) -> Finding:
    """Make a finding from an error that voxshelf does not know, so that the rest of a run goes on."""
    entry = CODES["source.unexpected"]
    return Finding("source.unexpected", f"{type(error).__name__}: {error}", place, entry.hint)
