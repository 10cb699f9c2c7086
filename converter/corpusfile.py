"""Which corpus a source is: what its description says, and its file ``corpus.json`` says better."""

from __future__ import annotations

from typing import Final

import msgspec

from converter.description import ENHANCE_PET, Description
from converter.labeltables import read_table, united
from converter.names import compiled
from converter.source import SourceFile, read_small
from corpus.contents import ENHANCE_PET as ENHANCE_PET_CONTENTS
from corpus.errors import NotFoundError, SourceError
from corpus.labels import Label
from corpus.licenses import LICENSES, UNKNOWN, License, license_of_text
from corpus.listing import SourceListing, is_archive
from corpus.models import CorpusInfo
from corpus.stores import Store

CORPUS_FILE: Final = "corpus.json"


def read_corpus(source_url: str, description: Description = ENHANCE_PET) -> CorpusInfo:
    """Return name, release, citation and contents of a source; of a zip archive ``corpus.json`` lies beside it.

    Raises
    ------
    SourceError
        There is a ``corpus.json``, and it lacks one of the first three; or a label table of the source cannot be used.
    StoreError
        The source cannot be read.
    """
    info = _named(source_url) or CorpusInfo(description.name, description.release, description.citation)
    contents = description.contents(_tables_in(source_url, description))
    return msgspec.structs.replace(info, own_contents=None if contents == ENHANCE_PET_CONTENTS else contents)


def fixed_license(source_url: str, description: Description) -> License:
    """Return the licence of all subjects of a source, where it does not follow their institution.

    A file that is missing, cannot be understood, or names a licence that is not known gives `UNKNOWN`.

    Raises
    ------
    StoreError
        The source cannot be read.
    """
    rule = description.license
    if rule.file is None:
        return LICENSES.get(rule.id or "", UNKNOWN)
    try:
        document = msgspec.json.decode(Store(_folder(source_url)).get(rule.file))
    except (NotFoundError, msgspec.DecodeError):
        return UNKNOWN
    text = document.get(rule.key) if isinstance(document, dict) else None
    return license_of_text(text) if isinstance(text, str) else UNKNOWN


def _folder(source_url: str) -> str:
    # What describes a zip archive lies beside it.
    return source_url.rpartition("/")[0] or "." if is_archive(source_url) else source_url


def _named(source_url: str) -> CorpusInfo | None:
    try:
        data = Store(_folder(source_url)).get(CORPUS_FILE)
    except NotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=CorpusInfo)
    except msgspec.DecodeError as error:
        raise SourceError("source.corpus-file", str(error), place=CORPUS_FILE) from error


def _tables_in(source_url: str, description: Description) -> dict[str, tuple[Label, ...]]:
    patterns = {name: compiled(table.source) for name, table in description.tables.items() if table.source is not None}
    if not patterns:
        return {}
    listing = SourceListing(source_url)
    found = {}
    for name, pattern in patterns.items():
        sizes = {file: size for file, size in sorted(listing.sizes.items()) if pattern.fullmatch(file)}
        files = [SourceFile(listing.url(file), file, size) for file, size in sizes.items()]
        if files:
            found[name] = united({file.name: read_table(read_small(file), file.name) for file in files})
    return found
