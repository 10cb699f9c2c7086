"""Pages for people, as HTML without scripts, so that they work behind any firewall."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any, Final

from service.search import SORTS, Index, SubjectQuery

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}
td,th{padding:.25rem .75rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}
pre{background:#f4f4f4;padding:1rem;overflow:auto;margin:.25rem 0 1rem}a{color:#0645ad}
form{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:end}label{display:flex;flex-direction:column}
input,select,button{font:inherit;padding:.15rem .3rem}input[type=number]{width:5rem}
"""
_LIST_COLUMNS: Final = ("license", "sex", "age_years", "source_institution", "indication")
_VOLUME_COLUMNS: Final = (
    "volume",
    "shape_zyx",
    "spacing_mm_zyx",
    "orientation",
    "dtype",
    "units",
    "levels",
    "warnings",
)
_REGION_COLUMNS: Final = ("family", "value", "name", "volume_ml", "touches_edge")


def page(title: str, body: str) -> str:
    """Return a whole page; `body` is HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>
{body}
</body></html>"""


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table; cells are escaped, except those that are `Markup`."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = ("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def link(address: str, text: str) -> Markup:
    """Return a link; both are escaped."""
    return Markup(f'<a href="{escape(address)}">{escape(text)}</a>')


def subject_list(index: Index, query: SubjectQuery, body: dict[str, Any], following: str | None) -> str:
    """Return one page of the list of subjects, with its filters.

    Parameters
    ----------
    index
        For what there is to choose from.
    query
        What was asked for.
    body
        The same answer as JSON has it.
    following
        Address of the next page, or None.
    """
    rows = (
        [link(f"subjects/{row['subject']}", row["subject"]), *(row[name] for name in _LIST_COLUMNS), _access(row)]
        for row in body["subjects"]
    )
    more = f"<p>{link(following, 'Next page')}</p>" if following else ""
    content = f"""<p>{link("../", "Home")}</p><h1>Subjects</h1>{_form(index, query)}
<p>{body["total"]} subjects.</p>
{table(["subject", *_LIST_COLUMNS, "data"], rows)}{more}"""
    return page("Subjects", content)


def subject(body: dict[str, Any]) -> str:
    """Return the page of one subject; `body` is the same answer as JSON has it."""
    license_ = body["license"]
    named = link(license_["url"], license_["id"]) if license_["url"] else escape(license_["id"])
    facts = ("source_institution", "indication", "sex", "age_years", "weight_kg", "height_m", "scanner", "release")
    lines = "".join(f"<h3>{escape(name)}</h3><pre>{escape(line)}</pre>" for name, line in body["clients"].items())
    content = f"""<p>{link("../subjects", "All subjects")}</p><h1>{escape(body["subject"])}</h1>
<p>Licence: {named} ({escape(license_["name"])}), {_access(body)}. Attribution: {_cell(license_["attribution"])}.</p>
{table(["", ""], ([name, body[name]] for name in facts))}
<h2>Read it</h2>{lines or "<p>The data of this subject are not served.</p>"}
<h2>Volumes</h2>{table(_VOLUME_COLUMNS, ([row[name] for name in _VOLUME_COLUMNS] for row in body["volumes"]))}
<h2>Regions</h2>{table(_REGION_COLUMNS, ([row[name] for name in _REGION_COLUMNS] for row in body["regions"]))}
<p>As JSON: {link(f"{body['subject']}.json", f"{body['subject']}.json")}.</p>"""
    return page(f"Subject {body['subject']}", content)


def _access(row: dict[str, Any]) -> str:
    return {
        "open": "open",
        "acknowledge": "after acknowledging the licence",
        "token": "with a token",
        "deny": "not served",
    }[row["rule"]]


def _form(index: Index, query: SubjectQuery) -> str:
    counts = index.statistics
    fields = [
        _input("q", "words", query.q),
        _select("license", "licence", counts["licenses"], query.license),
        _select("sex", "sex", ["F", "M"], query.sex),
        _input("age_min", "age from", query.age_min, kind="number"),
        _input("age_max", "to", query.age_max, kind="number"),
        _select("institution", "institution", counts["institutions"], query.institution),
        _select("indication", "indication", counts["indications"], query.indication),
        _select("has_volume", "has volume", sorted(index.subjects_by_volume), query.has_volume),
        _select("has_label", "has label", sorted(index.subjects_by_label), query.has_label),
        _select("sort", "sort by", SORTS, [query.sort]),
    ]
    return f'<form action="../search" method="get">{"".join(fields)}<button>Show</button></form>'


def _input(name: str, label: str, value: object, *, kind: str = "search") -> str:
    shown = "" if value is None else escape(str(value))
    return f'<label>{label}<input type="{kind}" name="{name}" value="{shown}"></label>'


def _select(name: str, label: str, choices: Iterable[str], chosen: Iterable[str]) -> str:
    chosen = list(chosen)
    options = "".join(
        f'<option value="{escape(text)}"{" selected" if text in chosen else ""}>{escape(text or "any")}</option>'
        for text in ("", *choices)
    )
    return f'<label>{label}<select name="{name}">{options}</select></label>'


def _cell(value: object) -> str:
    if isinstance(value, Markup):
        return value
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list):
        return escape(" ".join(f"{item:.3g}" if isinstance(item, float) else str(item) for item in value))
    return "" if value is None else escape(str(value))
