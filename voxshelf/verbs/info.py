"""The verb ``info``."""

from __future__ import annotations

import click

from converter.reader import Mirror, summary
from voxshelf import options
from voxshelf.display import console, print_json, print_table, size_text


@click.command()
@options.mirror
@click.argument("subject", required=False)
@options.as_json
def command(mirror: str, subject: str | None, *, as_json: bool) -> None:
    """Show what MIRROR holds, or everything about one SUBJECT of it.

    \b
    Examples:
      voxshelf info mirror
      voxshelf info s3://public/mirror 0001
    """
    opened = Mirror(mirror)
    if subject is None:
        _show_mirror(opened, as_json=as_json)
    else:
        _show_subject(opened, subject, as_json=as_json)


def _show_mirror(mirror: Mirror, *, as_json: bool) -> None:
    facts = summary(mirror)
    if as_json:
        print_json({**facts, "list": list(mirror.catalog.subjects.values())})
        return
    out = console()
    out.print(
        f"{facts['corpus']}, release {facts['release']}: {facts['subjects']} subjects, {size_text(facts['bytes'])}"
    )
    versions = ", ".join(f"{version} ({count})" for version, count in facts["ome_versions"].items())
    out.print(f"OME-Zarr {versions or '0.5'}", markup=False)
    columns = ["subject", "license", "sex", "age_years", "indication", "families_present", "gaps", "bytes"]
    rows = []
    for row in mirror.catalog.subjects.values():
        cells = {**row, "families_present": len(row["families_present"]), "gaps": len(row["gaps"])}
        cells["bytes"] = size_text(row["bytes"])
        rows.append([cells[column] for column in columns])
    print_table("", columns, rows)


def _show_subject(mirror: Mirror, subject: str, *, as_json: bool) -> None:
    row = mirror.catalog.subject(subject)
    volumes = mirror.catalog.volumes.get(subject, [])
    regions = mirror.catalog.regions.get(subject, [])
    if as_json:
        print_json({"subject": row, "volumes": volumes, "regions": regions})
        return
    out = console()
    for name in ("subject", "license", "attribution", "indication", "sex", "age_years", "gaps", "warnings", "store"):
        out.print(f"{name:12} {row[name]}", markup=False)
    columns = ["volume", "shape_zyx", "spacing_mm_zyx", "orientation", "dtype", "units", "levels", "bytes", "warnings"]
    print_table("\nVolumes", columns, [[_cell(volume, column) for column in columns] for volume in volumes])
    columns = ["family", "value", "name", "voxels", "volume_ml", "touches_edge"]
    print_table("\nRegions", columns, [[_cell(region, column) for column in columns] for region in regions])


def _cell(row: dict[str, object], column: str) -> object:
    value = row[column]
    if column == "bytes" and isinstance(value, int):
        return size_text(value)
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list):
        return " ".join(f"{item:.3g}" if isinstance(item, float) else str(item) for item in value) or None
    return value
