"""Spreadsheets as bytes, without a trace of today's date."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime

from openpyxl import Workbook
from openpyxl.writer.excel import ExcelWriter

type Row = dict[str, str | float | None]


def workbook(rows: list[Row]) -> bytes:
    """Return an .xlsx file with one sheet, the names of the columns first; equal rows give equal bytes."""
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    book.properties.created = book.properties.modified = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    dated, dateless = io.BytesIO(), io.BytesIO()
    # Workbook.save would set the time of modification; its writer does not.
    ExcelWriter(book, zipfile.ZipFile(dated, "w")).save()
    with zipfile.ZipFile(dated) as old, zipfile.ZipFile(dateless, "w") as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), old.read(name), zipfile.ZIP_DEFLATED)
    return dateless.getvalue()
