"""The mirror's own documents and tables, byte for byte, so that a copy of the mirror can be made and checked."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from corpus import layout
from corpus.errors import NotFoundError
from service.answers import answer_object
from service.dependencies import catalog_of
from service.openapi import CATALOGUE_CODES, Answers, errors
from service.ranges import ByteRange
from service.reader import Document, Reader
from service.upstream import Method, Opened, resolve

router = APIRouter(tags=["catalogue"])

_JSON = "application/json"
_TYPES = {
    layout.MIRROR_JSON: _JSON,
    layout.LABELS_JSON: _JSON,
    layout.CROISSANT_JSON: "application/ld+json",
    layout.DATASET_JSONLD: "application/ld+json",
    layout.CITATION_CFF: "application/yaml",
    layout.ATTRIBUTION: "text/plain; charset=utf-8",
    **{layout.table_key(table): "application/vnd.apache.parquet" for table in layout.TABLES},
}


class _Published:
    """The documents of the publication that is served: new tables are never seen with an old ``mirror.json``."""

    def __init__(self, documents: dict[str, Document]) -> None:
        self._documents = documents

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        """Open a document."""
        document = self._documents.get(key)
        if document is None:
            raise NotFoundError("not-found.key", "the mirror was published without it", place=key)
        size = len(document.data)
        start, stop = resolve(wanted, size)
        return Opened(size, document.etag, document.read, start, stop, document.data[start:stop] if body else b"")

    async def presigned(self, key: str, method: Method) -> str | None:  # noqa: ARG002  # the protocol's
        """Return None: these are in memory."""
        return None

    def path_of(self, key: str) -> str | None:  # noqa: ARG002  # the protocol's
        """Return None: these are in memory."""
        return None


async def read_document(request: Request) -> Response:
    """Return a document of the mirror as it lies there, with Range."""
    key = request.url.path.lstrip("/")
    await catalog_of(request)
    reader: Reader = request.app.state.reader
    headers = {"Content-Type": _TYPES[key], "Cache-Control": "no-cache, no-transform"}
    return await answer_object(request, _Published(reader.documents), key, headers)


def _answers(media_type: str) -> Answers:
    schema = {"type": "string", "format": "binary"} if media_type.endswith("parquet") else {}
    whole = {"description": "The document.", "content": {media_type: {"schema": schema}}}
    return {
        200: whole,
        206: {**whole, "description": "The range that was asked for."},
        304: {"description": "It is the one that `If-None-Match` names."},
        **errors("not-found.key", "request.range", "request.precondition", *CATALOGUE_CODES),
    }


for _key, _type in _TYPES.items():
    router.add_api_route(
        f"/{_key}",
        read_document,
        methods=["GET"],
        summary=f"{_key} of the mirror",
        responses=_answers(_type),
        response_class=Response,
    )
    router.add_api_route(f"/{_key}", read_document, methods=["HEAD"], include_in_schema=False)
