"""Whether a hosted mirror is what its readers need: asked from outside, over HTTP, as they ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from converter.asking import GIVEN_UP, Server
from converter.probes import PROBES, Advice, Probe, Site, asked
from corpus import layout
from corpus.catalog import Catalog, read_catalog
from corpus.errors import VoxshelfError
from corpus.licenses import UNKNOWN
from corpus.zarr_v3 import DOCUMENT

_SAMPLE: Final = 8
_SERVICE: Final = "the service of voxshelf"
_STORES: Final = {f"{layout.SUBJECTS}/": "a bucket or folder", "zarr/": _SERVICE}
"""Where subject stores lie, by what hosts them."""
_REFUSED: Final = frozenset({401, 403, 451})


class Check(msgspec.Struct, frozen=True, tag="check"):
    """One thing that was looked at.

    Attributes
    ----------
    name
        Stable, for scripts.
    status
        ``skip`` where something before it has to be right first.
    seen
        What was wrong, or why it was not asked.
    why
        Whom it hurts, and how.
    remedy
        What the host can do.
    """

    name: str
    status: Literal["pass", "fail", "skip"]
    seen: str = ""
    why: str = ""
    remedy: str = ""


class Diagnosis(msgspec.Struct, frozen=True):
    """All that was looked at.

    Attributes
    ----------
    url
        Of the mirror.
    host
        What it was taken for: a bucket or folder, or the service.
    subjects, looked_at
        Subjects that the tables list, and those whose stores were compared with them.
    checks
        In the order in which they were made.
    """

    url: str
    host: str
    subjects: int
    looked_at: int
    checks: tuple[Check, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "fail" for check in self.checks)


type Listener = Callable[[Check], None]

_TABLES: Final = Advice(
    "tables",
    "what is listed is what there is to read",
    "Publish anew with `voxshelf publish`; a cache in front must look again at mirror.json and the tables.",
)
_LICENSES: Final = Advice(
    "licenses",
    "nobody knows what may be done with these images",
    "Name the source of each subject in the spreadsheets and convert again, or `voxshelf unpublish` it.",
)
_CHUNKS: Final = Advice(
    "chunks",
    "there is nothing to read",
    "Let readers have the objects below `subjects/` (infra/s3/bucket-policy.json); then ask again.",
)
_AGREE: Final = Advice(
    "stores",
    "a reader of the tables is sent to voxels that are not there, or under another licence",
    "`voxshelf verify` says more with the mirror at hand; then publish anew.",
)


def diagnose(server: Server, listen: Listener, *, everything: bool = False) -> Diagnosis:
    """Ask a hosted mirror what readers will ask.

    Parameters
    ----------
    server
        Where ``mirror.json`` is: a bucket, a folder on a web server, or the service of voxshelf.
    listen
        Called with each check.
    everything
        Compare the stores of all subjects with the tables, not of a sample.
    """
    checks: list[Check] = []

    def note(check: Check) -> None:
        checks.append(check)
        listen(check)

    try:
        catalog = read_catalog(server)
    except VoxshelfError as error:
        note(_failed(_TABLES, str(error)))
        for name in (_LICENSES.name, _CHUNKS.name, *(probe.name for probe in PROBES), _AGREE.name):
            note(Check(name, "skip", "without tables nothing is known to ask for"))
        return Diagnosis(server.url, "unknown", 0, 0, tuple(checks))
    note(Check(_TABLES.name, "pass"))
    unknown = [subject for subject, row in catalog.subjects.items() if row["license"] in {None, UNKNOWN}]
    note(_failed(_LICENSES, f"unknown for {_some(unknown)}") if unknown else Check(_LICENSES.name, "pass"))
    prefix, site, seen = _site(server, catalog)
    note(Check(_CHUNKS.name, "pass") if site else _failed(_CHUNKS, seen))
    for probe in PROBES:
        note(_asked(probe, site))
    sample = list(catalog.subjects)
    if not everything:
        sample = sample[:: max(1, -(-len(sample) // _SAMPLE))]
    looked_at, wrong = _compare(server, catalog, prefix, sample)
    note(_failed(_AGREE, "; ".join(wrong)) if wrong else Check(_AGREE.name, "pass"))
    return Diagnosis(server.url, _STORES[prefix], len(catalog.subjects), looked_at, tuple(checks))


def _asked(probe: Probe, site: Site | None) -> Check:
    if site is None:
        return Check(probe.name, "skip", "no chunk of a listed subject can be read")
    if site.server.has_given_up:
        return Check(probe.name, "skip", GIVEN_UP)
    wrong = asked(probe, site)
    return _failed(probe, wrong) if wrong else Check(probe.name, "pass")


def _failed(probe: Advice | Probe, seen: str) -> Check:
    return Check(probe.name, "fail", seen, probe.why, probe.remedy)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SAMPLE])
    return shown if len(names) <= _SAMPLE else f"{shown} and {len(names) - _SAMPLE} more"


def _site(server: Server, catalog: Catalog) -> tuple[str, Site | None, str]:
    """Return where the stores lie, a shard to ask for, and why there is none."""
    seen, prefix = "the tables list no volume", next(iter(_STORES))
    for subject in list(catalog.subjects)[:_SAMPLE]:
        for place in _STORES:
            store = f"{place}{subject}{layout.STORE_SUFFIX}"
            try:
                server.get(f"{store}/{DOCUMENT}")
            except VoxshelfError as error:
                seen = str(error)
                continue  # not here, or not to be read by everybody
            prefix = place
            for row in catalog.volumes.get(subject, []):
                # The first shard of the coarsest level; where it is all zero, there is another volume.
                chunk = f"{store}/{layout.array_path(row['image_path'], row['levels'] - 1)}/c/0/0/0"
                try:
                    return prefix, Site(server, f"{store}/{DOCUMENT}", chunk, server.get(chunk)), ""
                except VoxshelfError as error:
                    seen = str(error)
    return prefix, None, seen


def _compare(server: Server, catalog: Catalog, prefix: str, subjects: Sequence[str]) -> tuple[int, list[str]]:
    """Return how many subjects' stores were compared with the tables, and what is wrong."""
    looked_at, wrong = 0, []
    for number, subject in enumerate(subjects):
        if server.has_given_up:
            wrong.append(f"{len(subjects) - number} of {len(subjects)} subjects not asked for: {GIVEN_UP}")
            break
        try:
            found = _disagreements(server, catalog, prefix, subject)
        except VoxshelfError as error:
            wrong.append(f"{subject}: {error}")
            continue
        looked_at += found is not None
        wrong += [f"{subject}: {fault}" for fault in found or ()]
    return looked_at, wrong


def _disagreements(server: Server, catalog: Catalog, prefix: str, subject: str) -> list[str] | None:
    """Return where a subject's store says something else than the tables; None where it is not for everybody."""
    answer = server.ask("GET", f"{prefix}{subject}{layout.STORE_SUFFIX}/{DOCUMENT}")
    if answer.status in _REFUSED and _STORES[prefix] == _SERVICE:
        return None
    if answer.status != 200:
        return [f"its root document gives {answer.status}"]
    try:
        root = json.loads(answer.body)
        license_id = root["attributes"]["voxshelf"]["license"]["id"]
        wrong = list(_wrong_volumes(catalog, subject, root["consolidated_metadata"]["metadata"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"its root document is not one of a mirror ({error!r})"]
    listed = catalog.subjects[subject]["license"]
    return wrong if license_id == listed else [f"the store says {license_id}, the table {listed}", *wrong]


def _wrong_volumes(catalog: Catalog, subject: str, members: dict[str, Any]) -> Iterator[str]:
    for row in catalog.volumes.get(subject, []):
        image = members.get(row["image_path"])
        if image is None:
            yield f"the table lists {row['volume']}, the store does not have it"
        elif image["attributes"].get("voxshelf", {}).get("array_sha256") != row["array_sha256"]:
            yield f"the voxels of {row['volume']} are not those that the table lists"
