"""Which corpus a source is: from the file ``corpus.json`` at its root, else ENHANCE.PET itself."""

from __future__ import annotations

from typing import Final

import msgspec

from corpus.errors import NotFoundError, SourceError
from corpus.models import CorpusInfo
from corpus.stores import Store, is_archive

CORPUS_FILE: Final = "corpus.json"
ENHANCE_PET: Final = CorpusInfo(
    name="ENHANCE.PET 1.6k",
    # Two releases differ in subjects and in what was removed for privacy; nothing in the files tells them apart.
    release="unspecified",
    citation="ENHANCE.PET 1.6k. Scientific Data 2026. https://doi.org/10.1038/s41597-026-07218-y",
)


def read_corpus(source_url: str) -> CorpusInfo:
    """Return name, release and citation of a source; of a zip archive the file lies beside it.

    Raises
    ------
    SourceError
        There is a ``corpus.json``, and it lacks one of the three.
    StoreError
        The source cannot be read.
    """
    folder = source_url.rpartition("/")[0] or "." if is_archive(source_url) else source_url
    try:
        data = Store(folder).get(CORPUS_FILE)
    except NotFoundError:
        return ENHANCE_PET
    try:
        return msgspec.json.decode(data, type=CorpusInfo)
    except msgspec.DecodeError as error:
        raise SourceError("source.corpus-file", str(error), place=CORPUS_FILE) from error
