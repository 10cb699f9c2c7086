"""JSON schemas of what the service answers, for the OpenAPI document. Those of rows follow from the tables' columns."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from corpus.catalog import SCHEMAS as TABLES
from service.settings import Rule

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "number"}
_COUNTS: Final[Schema] = {"type": "object", "additionalProperties": _COUNT}
_RULE: Final[Schema] = {
    "type": "string",
    "enum": [rule.value for rule in Rule],
    "description": "What a reader has to do.",
}


def ref(name: str) -> Schema:
    """Return a reference to a schema of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _cell(kind: pa.DataType) -> Schema:
    if pa.types.is_list(kind):
        return _array(_cell_of_list(kind))
    names = {pa.string(): "string", pa.float64(): "number", pa.int64(): "integer", pa.bool_(): "boolean"}
    return {"type": names[kind]}


def _cell_of_list(kind: pa.DataType) -> Schema:
    return _cell(kind.value_type)


def _row(table: str, **others: Schema) -> Schema:
    # Any cell may be null: what is not known is never 0 or "".
    columns = {field.name: _or_null(_cell(field.type)) for field in TABLES[table]}
    return _object(**{**columns, **others})


SCHEMAS: Final[dict[str, Schema]] = {
    "Error": _object(
        code={**_TEXT, "description": "Stable; docs/errors.md lists them."},
        message={**_TEXT, "description": "What happened."},
        hint={**_TEXT, "description": "What to do about it."},
    ),
    "Status": _object(status=_TEXT),
    "Readiness": _object(ready={"type": "boolean"}, catalog=_TEXT, storage=_TEXT),
    "Subject": _row("catalog", rule=_RULE, url=_or_null(_TEXT)),
    "SubjectList": _object(
        total={**_COUNT, "description": "Subjects that the filters choose, on all pages."},
        next={**_or_null(_TEXT), "description": "Cursor of the next page; null on the last."},
        subjects=_array(ref("Subject")),
    ),
    "Volume": _row("volumes"),
    "Region": _row("regions"),
    "SubjectLicense": _object(id=_TEXT, name=_TEXT, url=_or_null(_TEXT), rule=_RULE, attribution=_or_null(_TEXT)),
    "SubjectDetail": _row(
        "catalog",
        license=ref("SubjectLicense"),
        rule=_RULE,
        url=_or_null(_TEXT),
        volumes=_array(ref("Volume")),
        regions=_array(ref("Region")),
        clients={"type": "object", "additionalProperties": _TEXT, "description": "Lines to paste, by client."},
    ),
    "Label": _object(
        family=_TEXT,
        value=_COUNT,
        name=_TEXT,
        display=_or_null(_TEXT),
        side=_or_null(_TEXT),
        snomed_ct=_or_null(_TEXT),
        rgba=_array(_COUNT),
        subjects={**_COUNT, "description": "Subjects whose map holds it."},
        volume_ml_median={**_or_null(_NUMBER), "description": "Of regions that do not touch the volume's edge."},
    ),
    "LabelList": _object(labels=_array(ref("Label"))),
    "License": _object(id=_TEXT, name=_TEXT, url=_or_null(_TEXT), rule=_RULE, subjects=_COUNT),
    "LicenseList": _object(licenses=_array(ref("License"))),
    "Statistics": _object(
        corpus=_TEXT,
        release=_TEXT,
        **dict.fromkeys(("subjects", "volumes", "regions", "bytes"), _COUNT),
        **dict.fromkeys(("licenses", "sexes", "institutions", "indications", "releases"), _COUNTS),
        volume_names=_COUNTS,
        warnings=_COUNTS,
        age_years=_object(known=_COUNT, **dict.fromkeys(("min", "median", "max"), _or_null(_NUMBER))),
    ),
}
"""By name."""
