"""The verb ``serve``."""

from __future__ import annotations

import click
import uvicorn

from corpus.catalog import read_mirror
from corpus.errors import LayoutError
from corpus.stores import Store
from service.app import create_app
from service.settings import ServiceSettings
from voxshelf import options


@click.command()
@options.mirror
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
def command(mirror: str, host: str, port: int) -> None:
    """Serve MIRROR over HTTP: the stores' bytes under /zarr, the catalogue under /v1, a page at /.

    Subjects whose licence is unknown are listed and never served. A new publication shows without a restart.

    \b
    Examples:
      voxshelf serve mirror
      voxshelf serve s3://public/mirror --host 0.0.0.0 --port 80
    """
    try:
        read_mirror(Store(mirror))
    except LayoutError as error:
        click.echo(f"warning: {error}; serving starts once it is published", err=True)
    uvicorn.run(create_app(ServiceSettings(mirror)), host=host, port=port, log_level="info", server_header=False)
