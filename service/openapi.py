"""The OpenAPI document: what the framework knows of the routes, completed with errors, schemas and raw routes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from corpus.errors import CODES
from service.access import ACKNOWLEDGE_HEADER, ATTRIBUTION_HEADER
from service.errors import CHALLENGES, STATUS
from service.examples import EXAMPLES
from service.schemas import SCHEMAS, ref

Answers = dict[int | str, dict[str, Any]]
_UNCHANGED: Final = {"description": "The answer is the one that `If-None-Match` names."}
_CONDITIONS: Final = {
    304: {
        "If-None-Match": "ETags that are at hand; 304 for one of them.",
        "If-Match": "ETags of the answer that is wanted; 412 for others.",
    },
    206: {
        "Range": "`bytes=a-b`, `bytes=a-` or `bytes=-N`; several ranges give the whole.",
        "If-Range": "The range only if the answer has this ETag, otherwise the whole.",
    },
}
"""Request headers of a route that may answer with a status."""
_PART: Final = {"Content-Range": "Which bytes these are, and of how many."}
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

_DESCRIPTION: Final = """
A mirror of medical volumes as chunked OME-Zarr, byte for byte, with a catalogue.

Everything is read with `GET`, and `HEAD` answers the same without a body. `OPTIONS` is answered 204 on every path, for
pages of other origins. Every error is JSON with `code`, `message` and `hint`. 404 means that there is no such object,
and nothing else; a fault of the storage behind is 502 or 503 with `Retry-After`.
"""
_TAGS: Final = [
    {"name": "data", "description": "Voxels and metadata, under the rule of the subject's licence."},
    {"name": "pictures", "description": "Slices as PNG, under the same rule."},
    {"name": "catalogue", "description": "Which subjects there are, and what is known of them."},
    {"name": "operation", "description": "For those who run the service."},
]
_SECURITY_SCHEMES: Final = {
    "token": {"type": "http", "scheme": "bearer", "description": "Opens the licences that the operator gave it."},
    "acknowledgement": {
        "type": "apiKey",
        "in": "header",
        "name": ACKNOWLEDGE_HEADER,
        "description": "SPDX id of the licence that is accepted; `/v1/licenses` says which ask for it.",
    },
}
# Which of the three a request needs depends on the subject.
_SECURITY: Final[list[dict[str, list[str]]]] = [{}, {"token": []}, {"acknowledgement": []}]
_PATH_PARAMETERS: Final = {
    "subject": {"description": "Id of a subject.", "example": "0001"},
    "volume": {"description": "`ct`, `pet` or a label family.", "example": "ct"},
    "extension": {"description": "The format, as the name of a file ends."},
}
_GUARDED_PATHS: Final = ("/zarr/", "/v1/subjects/{subject}/")

LICENCE_CODES: Final = (
    "request.licence",
    "request.acknowledge",
    "request.token",
    "request.token-unknown",
    "request.token-licence",
)
"""What each route that gives data may answer for the licence."""

_ANYWHERE: Final = ("request.unexpected", "request.rate", "request.busy")
CATALOGUE_CODES: Final = ("store.unreachable", "store.denied", "store.timeout", "layout.not-a-mirror", "layout.table")
"""What each route that needs the tables may answer for a fault of the mirror."""


def answers(schema: str | None, *codes: str, tables: bool = True) -> Answers:
    """Return the answers of a JSON route: 200 with a schema of `SCHEMAS` and its example, and the errors of `codes`.

    Parameters
    ----------
    schema
        Name of the schema; None where the route describes its 200 itself.
    codes
        Error codes that the route may answer.
    tables
        Whether the route needs the tables, so that all faults of a mirror are among its answers.
    """
    good: Answers = {304: _UNCHANGED} if tables else {}
    if schema is not None:
        # By reference, since the framework would drop what is null in an example.
        example = {"example": {"$ref": f"#/components/examples/{schema}"}}
        good[200] = {"description": "OK", "content": {"application/json": {"schema": ref(schema), "examples": example}}}
    return good | errors(*codes, *(("request.precondition", *CATALOGUE_CODES) if tables else ()))


def data_answers(
    media_types: tuple[str, ...], *codes: str, ranged: bool = False, also: Mapping[str, str] = _NO_HEADERS
) -> Answers:
    """Return the answers of a route that gives data of a subject as a file.

    Parameters
    ----------
    media_types
        What the data may come as.
    codes
        Error codes of this route beyond those of every route that decodes voxels.
    ranged
        Whether the route knows ``Range``.
    also
        Response headers of this route alone, and what they say.
    """
    texts = {"ETag": "Changes when the data do.", "Link": "The licence.", ATTRIBUTION_HEADER: "To give with the data."}
    headers, own = _described(texts), _described({**texts, **also})
    binary = {"schema": {"type": "string", "format": "binary"}}
    whole = {"description": "The data.", "headers": own, "content": dict.fromkeys(media_types, binary)}
    part = {"description": "The range that was asked for.", "headers": own | _described(_PART)}
    partial: Answers = {206: {**whole, **part}} if ranged else {}
    return {
        200: whole,
        **partial,
        304: {"description": "The data are those that `If-None-Match` names.", "headers": headers},
        **errors(
            *(["request.range"] if ranged else []),
            *("request.parameter", "request.key", "request.precondition", *LICENCE_CODES),
            *("not-found.subject", "not-found.withdrawn", "not-found.volume", *codes),
            *("layout.object", "layout.metadata", *CATALOGUE_CODES),
        ),
    }


def _described(headers: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}


def errors(*codes: str) -> Answers:
    """Return the error answers for some codes, by status, each with an example that follows from the table of codes."""
    found: Answers = {}
    for code in (*codes, *_ANYWHERE):
        status = STATUS.get(code, STATUS[code.partition(".")[0]])
        answer = found.setdefault(status, _error_answer(status))
        answer["content"]["application/json"]["examples"][code] = {
            "summary": CODES[code].meaning,
            "value": {"code": code, "message": CODES[code].meaning, "hint": CODES[code].hint},
        }
        answer["description"] = " ".join([answer["description"], CODES[code].meaning]).strip()
        if code in CHALLENGES:
            answer["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return found


def _error_answer(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": "",
        "content": {"application/json": {"schema": ref("Error"), "examples": {}}},
    }
    if status in {429, 502, 503, 504}:
        answer["headers"] = {"Retry-After": {"required": True, "schema": {"type": "string"}}}
    return answer


def _add_conditions(paths: dict[str, Any]) -> None:
    """Describe the request headers that routes read for themselves."""
    for operation in (operation for operations in paths.values() for operation in operations.values()):
        for status, headers in _CONDITIONS.items():
            answer = operation["responses"].get(str(status), {})
            # A part of a JSON document is none, and who checks answers by this document would refuse it.
            if answer and not any("json" in kind for kind in answer.get("content", ())):
                operation.setdefault("parameters", []).extend(
                    {"in": "header", "name": name, "description": text, "required": False, "schema": {"type": "string"}}
                    for name, text in headers.items()
                )


class DescribedApp(FastAPI):
    """An application whose document is complete.

    Parameters
    ----------
    raw_paths
        Path items of routes that the framework does not describe.
    options
        Of `FastAPI`.
    """

    def __init__(self, raw_paths: dict[str, Any], **options: Any) -> None:
        # FastAPI's own pages load scripts from a CDN, which a hospital's network does not reach.
        super().__init__(docs_url=None, redoc_url=None, **options)
        self._raw_paths = raw_paths

    def openapi(self) -> dict[str, Any]:
        """Return the document; made once."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title,
                version=self.version,
                description=_DESCRIPTION.strip(),
                license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
                tags=_TAGS,
                servers=[{"url": "/"}],
                routes=self.routes,
            )
            _add_conditions(document["paths"])
            document["paths"] |= self._raw_paths
            for path, operations in document["paths"].items():
                if path.startswith(_GUARDED_PATHS):
                    for operation in operations.values():
                        operation["security"] = _SECURITY
                        for parameter in operation["parameters"]:
                            parameter.update(_PATH_PARAMETERS.get(parameter["name"], {}))
            document["components"] = {
                **document.get("components", {}),
                "schemas": {**document.get("components", {}).get("schemas", {}), **SCHEMAS},
                "examples": {name: {"value": value} for name, value in EXAMPLES.items()},
                "securitySchemes": _SECURITY_SCHEMES,
            }
            self.openapi_schema = document
        return self.openapi_schema
