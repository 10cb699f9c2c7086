"""Whether a hosted mirror is what its readers need: asked from outside, over HTTP, as they ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import msgspec

from converter.asking import Server
from converter.probes import PROBES, Advice, Probe, Site, asked
from corpus import layout
from corpus.catalog import Catalog, read_catalog
from corpus.errors import VoxshelfError
from corpus.licenses import UNKNOWN
from corpus.zarr_v3 import DOCUMENT

_SAMPLE: Final = 8
_STORES: Final = (f"{layout.SUBJECTS}/", "zarr/")
"""Where subject stores lie: in a bucket or folder, and in the service of voxshelf."""
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
        for name in (_LICENSES.name, *(probe.name for probe in PROBES), _AGREE.name):
            note(Check(name, "skip", "without tables nothing is known to ask for"))
        return Diagnosis(server.url, "unknown", 0, 0, tuple(checks))
    note(Check(_TABLES.name, "pass"))
    unknown = [subject for subject, row in catalog.subjects.items() if row["license"] in {None, UNKNOWN}]
    note(_failed(_LICENSES, f"unknown for {_some(unknown)}") if unknown else Check(_LICENSES.name, "pass"))
    site = next(_sites(server, catalog), None)
    for probe in PROBES:
        note(_asked(probe, site))
    sample = list(catalog.subjects)
    if not everything:
        sample = sample[:: max(1, -(-len(sample) // _SAMPLE))]
    prefix = next((each for each in _STORES if site is not None and site.document.startswith(each)), _STORES[0])
    wrong = [fault for subject in sample for fault in _disagreements(server, catalog, prefix, subject)]
    note(_failed(_AGREE, "; ".join(wrong)) if wrong else Check(_AGREE.name, "pass"))
    host = {_STORES[0]: "a bucket or folder", _STORES[1]: "the service of voxshelf"}[prefix]
    return Diagnosis(server.url, host, len(catalog.subjects), len(sample), tuple(checks))


def _asked(probe: Probe, site: Site | None) -> Check:
    if site is None:
        return Check(probe.name, "skip", "no store of a listed subject can be read")
    wrong = asked(probe, site)
    return _failed(probe, wrong) if wrong else Check(probe.name, "pass")


def _failed(probe: Advice | Probe, seen: str) -> Check:
    return Check(probe.name, "fail", seen, probe.why, probe.remedy)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SAMPLE])
    return shown if len(names) <= _SAMPLE else f"{shown} and {len(names) - _SAMPLE} more"


def _sites(server: Server, catalog: Catalog) -> Iterator[Site]:
    """Yield what can be asked for, as soon as it can: one store, and its smallest shard."""
    for subject in list(catalog.subjects)[:_SAMPLE]:
        for prefix in _STORES:
            store = f"{prefix}{subject}{layout.STORE_SUFFIX}"
            for row in catalog.volumes.get(subject, []):
                image, last = row["image_path"], row["levels"] - 1
                chunk = f"{store}/{layout.array_path(image, last)}/c/0/0/0"
                try:
                    yield Site(server, f"{store}/{DOCUMENT}", chunk, server.get(chunk))
                except VoxshelfError:
                    break  # not here, or not to be read by everybody


def _disagreements(server: Server, catalog: Catalog, prefix: str, subject: str) -> Iterator[str]:
    """Yield where a subject's store says something else than the tables."""
    try:
        answer = server.ask("GET", f"{prefix}{subject}{layout.STORE_SUFFIX}/{DOCUMENT}")
    except VoxshelfError as error:
        yield str(error)
        return
    if answer.status in _REFUSED and prefix != _STORES[0]:
        return  # under a licence that is not for everybody, as the service has it
    if answer.status != 200:
        yield f"{subject}: its root document gives {answer.status}"
        return
    try:
        root = json.loads(answer.body)
        told, members = root["attributes"]["voxshelf"], root["consolidated_metadata"]["metadata"]
        license_id = told["license"]["id"]
    except (ValueError, KeyError, TypeError) as error:
        yield f"{subject}: its root document is not one of a mirror ({error!r})"
        return
    listed = catalog.subjects[subject]["license"]
    if license_id != listed:
        yield f"{subject}: the store says {license_id}, the table {listed}"
    yield from (f"{subject}: {fault}" for fault in _wrong_volumes(catalog, subject, members))


def _wrong_volumes(catalog: Catalog, subject: str, members: dict[str, Any]) -> Iterator[str]:
    for row in catalog.volumes.get(subject, []):
        image = members.get(row["image_path"])
        if image is None:
            yield f"the table lists {row['volume']}, the store does not have it"
        elif image["attributes"].get("voxshelf", {}).get("array_sha256") != row["array_sha256"]:
            yield f"the voxels of {row['volume']} are not those that the table lists"
