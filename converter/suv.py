"""The factor from PET values to SUV, given only where the spreadsheet proves it.

A wrong factor is worse than none: nobody sees it in a picture. So every field has to be there, to have a unit, and to
be plausible; what had to be assumed is said beside the factor, and where there is none, why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Final, NamedTuple

import msgspec

from converter.sheets import EITHER, pet_units
from corpus.models import SubjectInfo

_FIELDS: Final = {
    "dose": "injecteddose injectedactivity injectedradioactivity administereddose administeredactivity totaldose "
    "radionuclidetotaldose 00181074",
    "half-life": "halflife radionuclidehalflife isotopehalflife 00181075",
    "injection": "injectiontime timeofinjection injectiondatetime radiopharmaceuticalstarttime "
    "radiopharmaceuticalstartdatetime 00181072 00181078",
    "acquisition": "acquisitiontime acquisitiondatetime acquisitionstarttime scanstarttime 00080032 0008002a",
    "series": "seriestime seriesdatetime 00080031",
    "ge-scan": "gescantime gescandatetime geprivatescantime geprivatescandatetime 0009100d",
    "decay": "decaycorrection 00541102",
    "corrected": "correctedimage 00280051",
    "suv-type": "suvtype 00541006",
    "philips-suv": "suvscalefactor philipssuvscalefactor philipssuvfactor 70531000",
    "philips-activity": "activityconcentrationscalefactor philipsactivityconcentrationscalefactor 70531009",
}
"""Our field to the bare headers that stand for it: words of people, DICOM keywords, DICOM tags."""

_BY_HEADER: Final = {header: field for field, headers in _FIELDS.items() for header in headers.split()}
_BQ_PER_UNIT: Final = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9, "mci": 37e6}
_SECONDS_PER_UNIT: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_HALF_LIVES_S: Final = (75.5, 122.2, 598, 1222, 4066, 6586.2, 14400, 45720, 53064, 230760, 282300, 360800)
"""Of Rb-82, O-15, N-13, C-11, Ga-68, F-18, Sc-44, Cu-64, Y-86, Y-90, Zr-89 and I-124: what PET is done with."""

_DAY_S: Final = 86400.0
_DOSE_BQ: Final = (1e6, 5e9)
_WEIGHT_KG: Final = (1.0, 400.0)
_WAIT_S: Final = (300.0, 6 * 3600.0)
"""From injection to scan. Times that were wiped are equal, and those of another study lie a day's part apart."""


class Suv(msgspec.Struct, frozen=True):
    """What is known of the way from a PET's physical values to SUV.

    Attributes
    ----------
    factor
        SUV (body weight, g/ml) is this times the value in the volume's unit; None where it is not known.
    basis
        Which fields it follows from and what was assumed, or why there is none.
    is_implausible
        Whether there is none because fields contradict each other or sense, and not because one is missing.
    """

    factor: float | None
    basis: str
    is_implausible: bool = False


def suv_of(info: SubjectInfo) -> Suv:
    """Return the factor of a subject's PET.

    ``SUVbw = value * weight in g / (injected dose in Bq * 2 ** (-t / half-life))`` for values in Bq/ml that are decay
    corrected to the start of the scan (DICOM: Decay Correction START), ``t`` from the injection to that start. For
    ADMIN the dose is not decayed; for NONE there is no factor. The start is the series time where that is not after
    the acquisition time (a later reconstruction has a series time of its own), else GE's private scan time, else the
    acquisition time. Counts (CNTS) need Philips's private factor: (7053,1000) gives SUV, (7053,1009) gives Bq/ml.
    Values in g/ml are SUVbw already, unless SUV Type names another kind.

    Source: QIBA, "SUV vendor-neutral pseudo-code",
    https://qibawiki.rsna.org/index.php/Standardized_Uptake_Value_(SUV); DICOM PS3.3 C.8.9.1 for the attributes.

    Parameters
    ----------
    info
        Its weight, its unit, and the unrecognised columns of the PET sheet (``PT: ...``). Headers are compared without
        case and punctuation; a unit is the header's last word, and DICOM's (Bq, s) where it has none.
    """
    sheet = _Sheet(info)
    try:
        factor = _factor(sheet, info)
    except _NoFactorError as reason:
        return Suv(None, f"none: {reason}", reason.is_implausible)
    return Suv(factor, f"QIBA SUVbw from the PET sheet: {', '.join(sheet.used)}{''.join(sheet.assumed)}")


class _NoFactorError(Exception):
    def __init__(self, reason: str, *, is_implausible: bool = False) -> None:
        super().__init__(reason)
        self.is_implausible = is_implausible


class _Cell(NamedTuple):
    header: str
    unit: str
    text: str


class _Moment(NamedTuple):
    """A time of day in seconds, with its day where that is known."""

    day: int | None
    seconds: float

    def since(self, earlier: _Moment) -> float:
        """Return the seconds from an earlier moment; across midnight where days are not known."""
        if self.day is None or earlier.day is None:
            return (self.seconds - earlier.seconds) % _DAY_S
        return (self.day - earlier.day) * _DAY_S + self.seconds - earlier.seconds


class _Sheet:
    """The cells of one subject by our fields; remembers what was read of it and what was assumed."""

    def __init__(self, info: SubjectInfo) -> None:
        self.used: list[str] = []
        self.assumed: list[str] = []
        self._cells: dict[str, list[_Cell]] = {}
        for key, text in info.extra.items():
            header = key.removeprefix("PT: ")
            field, unit = _field_of(header)
            if field and header != key:
                self._cells.setdefault(field, []).append(_Cell(header, unit, text.strip()))

    def has(self, field: str) -> bool:
        """Whether any column of a field has a cell."""
        return field in self._cells

    def read[T](self, field: str, parse: Callable[[_Cell], T | None]) -> T:
        """Return what a field says; all its columns have to say the same."""
        cells = self._cells.get(field)
        if cells is None:
            raise _NoFactorError(f"the sheet gives no {field}")
        values = []
        for cell in cells:
            if EITHER in cell.text or (value := parse(cell)) is None:
                raise _NoFactorError(f"{cell.header!r} is {cell.text!r}", is_implausible=True)
            values.append(value)
        if any(value != values[0] for value in values):
            headers = " and ".join(repr(cell.header) for cell in cells)
            raise _NoFactorError(f"{headers} disagree", is_implausible=True)
        self.used += [cell.header for cell in cells if cell.header not in self.used]
        return values[0]


def _field_of(header: str) -> tuple[str | None, str]:
    words = re.findall(r"[a-z0-9]+", header.casefold())
    unit = words.pop() if words and words[-1] in {*_BQ_PER_UNIT, *_SECONDS_PER_UNIT} else ""
    name = "".join(words).removesuffix("in") if unit else "".join(words)
    tag = re.search(r"\(([0-9a-f]{4}), ?([0-9a-f]{4})\)", header.casefold())
    return _BY_HEADER.get(name) or (_BY_HEADER.get(tag[1] + tag[2]) if tag else None), unit


def _factor(sheet: _Sheet, info: SubjectInfo) -> float:
    unit = pet_units(info.pet_units)
    if unit is None:
        raise _NoFactorError(f"the unit of the values is {info.pet_units!r}" if info.pet_units else "no unit is given")
    sheet.used.append("Units")
    if unit == "SUV":
        return _already_suv(sheet, info)
    correction = _decay_correction(sheet)
    if unit == "Bq/ml":
        return _per_becquerel(sheet, info, correction)
    # QIBA: (7053,1000) first; scanners write 0 where they could not compute it.
    if sheet.has("philips-suv") and sheet.read("philips-suv", _not_negative) > 0:
        return sheet.read("philips-suv", _not_negative)
    if sheet.has("philips-activity"):
        return sheet.read("philips-activity", _positive) * _per_becquerel(sheet, info, correction)
    raise _NoFactorError("counts (CNTS) need Philips's (7053,1000) or (7053,1009), which the sheet does not give")


def _already_suv(sheet: _Sheet, info: SubjectInfo) -> float:
    if sheet.has("suv-type"):
        if sheet.read("suv-type", _upper) != "BW":
            raise _NoFactorError("the values are SUV of another kind than body weight")
    elif re.sub(r"[^a-z]", "", (info.pet_units or "").casefold()) != "gml":
        # DICOM C.8.9.1: GML without SUV Type means body weight. A sheet that says SUV in words does not say which.
        raise _NoFactorError("the values are SUV, and the sheet does not say of which kind")
    return 1.0


def _decay_correction(sheet: _Sheet) -> str:
    if sheet.has("corrected"):
        applied = sheet.read("corrected", _upper)
        if not ("ATTN" in applied and "DECY" in applied):
            raise _NoFactorError(f"the values are corrected for {applied}, not for attenuation and decay")
    if not sheet.has("decay"):
        sheet.assumed.append("; decay correction to the start of the scan is assumed, no column says it")
        return "START"
    correction = sheet.read("decay", _upper)
    if correction not in {"START", "ADMIN"}:
        raise _NoFactorError(f"the decay correction is {correction}")
    return correction


def _per_becquerel(sheet: _Sheet, info: SubjectInfo, correction: str) -> float:
    if info.weight_kg is None:
        raise _NoFactorError("the sheet gives no weight")
    _require(info.weight_kg, _WEIGHT_KG, "a weight of {} kg")
    sheet.used.append("Weight")
    dose_bq = sheet.read("dose", lambda cell: _quantity(cell, _BQ_PER_UNIT))
    _require(dose_bq, _DOSE_BQ, "a dose of {} Bq")
    left = 1.0 if correction == "ADMIN" else _left_at_scan(sheet)
    return info.weight_kg * 1000 / (dose_bq * left)


def _left_at_scan(sheet: _Sheet) -> float:
    """Return the fraction of the dose that is left when the scan begins."""
    half_life_s = sheet.read("half-life", lambda cell: _quantity(cell, _SECONDS_PER_UNIT))
    if not any(math.isclose(half_life_s, known, rel_tol=0.01) for known in _HALF_LIVES_S):
        raise _NoFactorError(f"a half-life of {half_life_s:g} s is no PET tracer's", is_implausible=True)
    injection = sheet.read("injection", _moment)
    start = _scan_start(sheet, injection)
    if (injection.day is None or start.day is None) and 5 * half_life_s > _DAY_S:
        raise _NoFactorError("times without days do not tell how long a tracer of days has decayed")
    wait_s = start.since(injection)
    longest = max(_WAIT_S[1], 5 * half_life_s) if injection.day is not None and start.day is not None else _WAIT_S[1]
    _require(wait_s, (_WAIT_S[0], longest), "{} s from injection to scan")
    return float(0.5 ** (wait_s / half_life_s))


def _scan_start(sheet: _Sheet, injection: _Moment) -> _Moment:
    # A series time alone may be that of a reconstruction hours later: only an acquisition time can tell.
    acquisition = sheet.read("acquisition", _moment)
    if sheet.has("series"):
        series = sheet.read("series", _moment)
        if 0 <= series.since(injection) <= acquisition.since(injection):
            return series
    return sheet.read("ge-scan", _moment) if sheet.has("ge-scan") else acquisition


def _require(value: float, bounds: tuple[float, float], what: str) -> None:
    if not bounds[0] <= value <= bounds[1]:
        raise _NoFactorError(f"{what.format(f'{value:g}')} is not plausible", is_implausible=True)


def _not_negative(cell: _Cell) -> float | None:
    try:
        number = float(cell.text.replace(",", "."))
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _positive(cell: _Cell) -> float | None:
    return _not_negative(cell) or None


def _quantity(cell: _Cell, units: dict[str, float]) -> float | None:
    if cell.unit and cell.unit not in units:
        return None
    number = _positive(cell)
    # Nine digits, so that 350 MBq and 350000000 Bq agree.
    return number and float(f"{number * units.get(cell.unit, 1.0):.9g}")


def _upper(cell: _Cell) -> str | None:
    return cell.text.upper() or None


_TIME: Final = re.compile(
    r"(?:(?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)[ T]?)?"
    r"(?P<h>\d\d):?(?P<m>\d\d):?(?P<s>\d\d(?:\.\d+)?)"
)
"""HH:MM:SS, DICOM's HHMMSS.ffffff, or either after a date. A leading zero that a spreadsheet took away is not guessed:
what is left could as well be seconds."""


def _moment(cell: _Cell) -> _Moment | None:
    match = _TIME.fullmatch(cell.text)
    if match is None or cell.unit:
        return None
    hours, minutes, seconds = int(match["h"]), int(match["m"]), float(match["s"])
    if hours > 23 or minutes > 59 or seconds >= 60:
        return None
    try:
        year = match["year"]
        day = date(int(year), int(match["month"]), int(match["day"])).toordinal() if year else None
    except ValueError:
        return None
    return _Moment(day, hours * 3600 + minutes * 60 + seconds)
