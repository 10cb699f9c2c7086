"""The command ``voxshelf``: finds a verb, runs it, and turns errors into messages and exit status.

Each verb is a module of its own, imported when it runs, so that ``--help`` is quick and an installation without one
of the extras still has the other verbs.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Final

import click

from corpus.errors import EXIT_STATUS, SettingsError, VoxshelfError

VERBS: Final = {
    "phantom": "Make a synthetic corpus to try everything with.",
    "inventory": "Show which volumes of which subjects a source holds.",
    "convert": "Turn a corpus of NIfTI volumes into a mirror.",
    "info": "Show what a mirror, or one subject of it, holds.",
    "describe": "Write what registries, search engines and citations need of a mirror.",
    "report": "Make the page that shows each subject of a mirror.",
    "verify": "Check a mirror against its records, or against the source.",
    "upgrade": "Turn a mirror's OME-Zarr 0.5 metadata into 0.6, in place.",
    "publish": "Copy a chosen, licensed part of a mirror to another store.",
    "unpublish": "Remove subjects from a mirror, and prove that nothing is left.",
    "export": "Write a volume, or a part of it, as NIfTI.",
    "serve": "Serve a mirror over HTTP.",
    "doctor": "Ask a hosted mirror what its readers will ask.",
    "demo": "Phantom, convert, verify, serve: the whole way in one command.",
}
"""The verbs in the order in which a newcomer needs them."""


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in VERBS:
            return None
        # Little that is imported is ever thrown away, so that looking for it takes a tenth of the start. Matrices here
        # are of 4 x 4: threads for larger ones would spin beside the imports.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        gc.disable()
        try:
            module = importlib.import_module(f"voxshelf.verbs.{cmd_name}")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in {"converter", "corpus", "service", "voxshelf"}:
                raise
            extra = "serve" if cmd_name == "serve" else "convert"
            message = f"'{cmd_name}' needs the package {error.name}; install voxshelf[{extra}]"
            raise SettingsError("settings.missing-extra", message) from error
        finally:
            gc.freeze()
            gc.enable()
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        # From the table: a page that lists the verbs must not import them all.
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="voxshelf")
def cli() -> None:
    """Turn a corpus of NIfTI volumes and masks into chunked Zarr on object storage, and serve it.

    Start with `voxshelf demo`, or with `voxshelf inventory SRC` on a corpus of your own.

    Exit status: 0 all done, 1 some volumes failed and are listed, 2 wrong usage; other errors have the status
    that docs/errors.md lists.
    """


def main() -> None:
    """Run the command line; never returns."""
    try:
        status = cli.main(standalone_mode=False)
    except VoxshelfError as error:
        click.echo(f"error: {error}", err=True)
        click.echo(f"hint: {error.hint}", err=True)
        sys.exit(EXIT_STATUS[error.kind])
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; running the same command again goes on where it was", err=True)
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)
