"""The verb ``serve``."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

import click
import uvicorn

from corpus.catalog import read_mirror
from corpus.errors import LayoutError, SettingsError
from corpus.stores import Store
from service.answered import ACCESS_LOG
from service.app import create_app
from service.settings import ServiceSettings, read_settings
from service.shortcut import protocol_of

_LOG: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "bare": {"format": "%(message)s"},
    },
    "handlers": {
        "errors": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"},
        "access": {"class": "logging.StreamHandler", "formatter": "bare", "stream": "ext://sys.stdout"},
    },
    "loggers": {ACCESS_LOG: {"handlers": ["access"], "level": "INFO", "propagate": False}},
    "root": {"handlers": ["errors"], "level": "INFO"},
}


@click.command()
@click.argument("mirror", required=False)
@click.option("--settings", "file", metavar="FILE", help="Settings as TOML; docs/service.toml explains each of them.")
@click.option("--host", help="Address to listen on; 0.0.0.0 for all.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [default: 8000]")
def command(mirror: str | None, file: str | None, host: str | None, port: int | None) -> None:
    """Serve MIRROR over HTTP: the stores' bytes under /zarr, the catalogue under /v1, a page at /.

    Subjects whose licence is unknown are listed and never served. A new publication shows without a restart.
    SIGTERM and Ctrl-C let answers under way finish. Each request is a line of JSON on standard output.

    Every setting is also an environment variable, such as VOXSHELF_SERVE_PORT; what is given here goes before the
    environment, and that before the file.

    \b
    Examples:
      voxshelf serve mirror
      voxshelf serve s3://public/mirror --host 0.0.0.0 --port 80
      voxshelf serve --settings service.toml
    """
    settings = read_settings(file, os.environ, {"mirror": mirror, "host": host, "port": port})
    _warn_of_nothing(Store(settings.mirror))
    with _listener(settings) as listener:
        address, number = listener.getsockname()[:2]
        click.echo(
            f"serving {settings.mirror} at http://{f'[{address}]' if ':' in address else address}:{number}", err=True
        )
        uvicorn.Server(_configuration(settings)).run([listener])


def _warn_of_nothing(store: Store) -> None:
    if not store.is_local:
        return  # a bucket that does not answer must not keep the service from saying so at /readyz
    try:
        read_mirror(store)
    except LayoutError as error:
        click.echo(f"warning: {error}; serving starts once it is published", err=True)


def _configuration(settings: ServiceSettings) -> uvicorn.Config:
    app = create_app(settings)
    return uvicorn.Config(
        app,
        http=protocol_of(app),
        log_config=_LOG,
        log_level="warning",
        access_log=False,  # ours says more, and no query
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=settings.shutdown_s,
    )


def _listener(settings: ServiceSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(
            "settings.option", f"cannot listen: {error.strerror}", place=f"port {settings.port}"
        ) from error
    # Connections inherit it. The system then drops a reader who takes nothing, which no program above it could: closing
    # waits until what is buffered has been taken.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.reader_stall_s * 1000))
    return listener
