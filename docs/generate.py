"""Writes the pages that follow from the code: ``cli.md``, ``errors.md`` and ``service.toml``, each from its tables."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

import click
import msgspec

from corpus.errors import CODES, EXIT_STATUS, Code
from corpus.findings import WARNINGS
from service.errors import STATUS
from service.settings import ENVIRONMENT, ServiceSettings, meaning_of
from voxshelf.cli import VERBS, cli

FOLDER: Final = Path(__file__).parent
_KINDS: Final = {
    "source": "The input is bad: fetch or write the file anew.",
    "settings": "The call is wrong: use other options.",
    "store": "The storage failed: try again, or mend it.",
    "layout": "The mirror is not what it should be: restore it, or convert again.",
    "not-found": "What was asked for does not exist.",
    "request": "A reader asked for something that cannot be given.",
}


def cli_page() -> str:
    """Return ``docs/cli.md``."""
    parts = ["# The command line", "", "Written by `make docs` from `voxshelf --help`; a test compares the two.", ""]
    for name in ("", *VERBS):
        parts += [f"## voxshelf {name}".rstrip(), "", "```", _help(name), "```", ""]
    return "\n".join(parts)


def errors_page() -> str:
    """Return ``docs/errors.md``."""
    parts = [
        "# Errors and warnings",
        "",
        "Written by `make docs` from the tables in `corpus` and `service`; a test compares the two.",
        "",
        "Codes are stable. Exit status 0 means that all is done, 1 that a run went through and some volumes failed and",
        "are listed (or that `verify` found faults), 130 that it was stopped.",
        "",
    ]
    for kind, meaning in _KINDS.items():
        codes = {code: entry for code, entry in CODES.items() if code.startswith(f"{kind}.")}
        exit_status = f"Exit status {EXIT_STATUS[kind]}, HTTP status {STATUS[kind]} unless the code has its own."
        parts += [f"## {kind}", "", f"{meaning} {exit_status}", "", *_table(codes), ""]
    parts += ["## warning", "", "The volume was converted; look at it before you rely on it.", "", *_table(WARNINGS)]
    return "\n".join([*parts, ""])


def settings_template() -> str:
    """Return ``docs/service.toml``."""
    parts = [
        "# Settings of `voxshelf serve --settings FILE`: what each means, and its default.",
        "# Written by `make docs` from service/settings.py; a test compares the two.",
        f"# As environment variables they are {ENVIRONMENT}MIRROR and so on, which go before this file.",
    ]
    for field in msgspec.structs.fields(ServiceSettings):
        text = textwrap.wrap(meaning_of(field.name), 117)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        required = default is msgspec.NODEFAULT
        line = f"{field.name} = {_toml('s3://public/mirror' if required else default)}"
        parts += ["", *(f"# {each}" for each in text), line if required else f"#{line}"]
    return "\n".join([*parts, ""])


def _toml(value: object) -> str:
    # But for tables TOML writes values as JSON does.
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {_toml(each)}' for key, each in value.items()) + "}"
    return msgspec.json.encode(value).decode()


def _table(codes: dict[str, Code]) -> list[str]:
    rows = [f"| `{code}`{_own_status(code)} | {entry.meaning} | {entry.hint} |" for code, entry in codes.items()]
    return ["| code | meaning | hint |", "| --- | --- | --- |", *rows]


def _own_status(code: str) -> str:
    return f" (HTTP {STATUS[code]})" if code in STATUS else ""


def _help(name: str) -> str:
    top = click.Context(cli, info_name="voxshelf", terminal_width=100, help_option_names=["-h", "--help"])
    if not name:
        return cli.get_help(top)
    command = cli.get_command(top, name)
    if command is None:
        raise AssertionError(f"{name} is a verb")
    return command.get_help(click.Context(command, info_name=name, parent=top, terminal_width=100))


PAGES: Final = {"cli.md": cli_page, "errors.md": errors_page, "service.toml": settings_template}
"""Generated pages by file name."""


if __name__ == "__main__":
    for file, page in PAGES.items():
        (FOLDER / file).write_text(page())
