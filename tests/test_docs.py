"""The documents say what the code does."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec
import pytest

from converter.events import Event, Report
from converter.report import closing_event, document
from corpus.errors import CODES
from corpus.findings import WARNINGS
from docs.generate import PAGES
from service.app import create_app
from service.settings import ServiceSettings
from voxshelf.cli import VERBS

ROOT = Path(__file__).parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "infra/README.md", ROOT / "CHANGELOG.md"]


@pytest.mark.parametrize("name", list(PAGES))
def test_generated_pages_are_fresh(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run `make docs`"


def test_every_code_and_verb_is_documented() -> None:
    errors, cli = ((ROOT / "docs" / name).read_text() for name in ("errors.md", "cli.md"))
    assert [code for code in [*CODES, *WARNINGS] if f"`{code}`" not in errors] == []
    assert [verb for verb in VERBS if f"## voxshelf {verb}\n" not in cli] == []


def test_every_route_and_setting_is_documented(tmp_path: Path) -> None:
    page = (ROOT / "docs/service.md").read_text()
    app = create_app(ServiceSettings(str(tmp_path)))
    routes = {getattr(route, "path", None) for route in app.routes} | set(app.openapi()["paths"])
    routes |= {"/zarr/{store}/{key:path}"}
    assert [route for route in sorted(filter(None, routes)) if f"`{route.replace(':path', '')}`" not in page] == []
    template = (ROOT / "docs/service.toml").read_text()
    fields = [field.name for field in msgspec.structs.fields(ServiceSettings)]
    assert re.findall(r"^#?(\w+) = ", template, re.MULTILINE) == fields
    named = set(re.findall(r"`(\w+_(?:s|mb|prefix|port|requests))`", page))
    assert named
    assert named <= set(fields)


def test_every_field_of_every_event_is_documented() -> None:
    page = (ROOT / "docs/reports.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in page.split("## Events")[1].splitlines() if "|" in line}
    for event in typing.get_args(Event):
        fields = [field.name for field in msgspec.structs.fields(event)]
        assert [name for name in fields if f"`{name}`" not in rows[event.__struct_config__.tag]] == []
    told = closing_event(Report(0, 0, (), (), 0, {}))
    assert [name for name in told if name != "type" and f"`{name}`" not in rows["report"]] == []
    assert [name for name in document(Report(0, 0, (), (), 0, {})) if f"`{name}`" not in page] == []


def test_every_code_that_the_code_raises_is_in_the_table() -> None:
    used = set()
    for package in ("corpus", "converter", "service", "voxshelf"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            used |= set(re.findall(r'Error\(\s*"([a-z-]+\.[a-z-]+)"', text))
            used |= set(re.findall(r'warning\(\s*"([a-z-]+\.[a-z-]+)"', text))
    assert len(used) > 30
    assert used <= {*CODES, *WARNINGS}


def test_every_known_bad_input_has_a_row_and_a_test_of_its_codes() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\|([^|]*)\|$", (ROOT / "docs/inputs.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 29))
    tests: dict[int, str] = {}
    text = (ROOT / "tests/converter/inputs/test_known_bad_inputs.py").read_text()
    for number, body in re.findall(r"^def test_(\d\d)_(.*?)(?=^def |\Z)", text, re.MULTILINE | re.DOTALL):
        tests[int(number)] = tests.get(int(number), "") + body
    for number, codes in rows:
        named = set(re.findall(r"`([a-z-]+\.[a-z0-9-]+)`", codes))
        assert named <= {*CODES, *WARNINGS}
        assert [code for code in named if code not in tests[int(number)]] == [], number
    page = (ROOT / "docs/inputs.md").read_text()
    assert set(re.findall(r"`((?:source|warning)\.[a-z0-9-]+)`", page)) <= {*CODES, *WARNINGS}


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for text in TEXTS:
        targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text.read_text())
        broken += [(text.name, to) for to in targets if "://" not in to and not (text.parent / to).exists()]
    assert broken == []


def test_commands_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for text in TEXTS:
        content = text.read_text()
        blocks = "".join(content.split("```")[1::2])
        assert [
            verb for verb in re.findall(r"^\s*(?:\$ )?voxshelf ([a-z]+)", blocks, re.MULTILINE) if verb not in VERBS
        ] == []
        targets = re.findall(r"`make ([a-z-]+)`", content)
        assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_the_version_is_in_the_changelog() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()
