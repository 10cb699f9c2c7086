"""The application, made by a function of its settings that only wires things together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from prometheus_client import start_http_server
from starlette.exceptions import HTTPException

from corpus.errors import VoxshelfError
from corpus.stores import Store
from service import errors
from service.access import Access
from service.answered import Answered
from service.bucket import Bucket
from service.cache import Cached
from service.cors import CrossOrigin
from service.folder import Folder
from service.limits import Limits
from service.metrics import Metrics
from service.observation import Observed
from service.openapi import DescribedApp
from service.parameters import given_once
from service.pool import Pool
from service.reader import Reader
from service.routes import (
    cutouts,
    docs,
    documents,
    home,
    nifti,
    operation,
    pictures,
    subjects,
    summaries,
    zarr,
    zarrdoc,
)
from service.settings import ServiceSettings

# Ours are the metrics and the log; looking for a tracer anew at each request costs as much as opening a file.
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}


def create_app(settings: ServiceSettings) -> FastAPI:
    """Return the service for a mirror.

    Raises
    ------
    SettingsError
        The mirror's URL, a rule or a token cannot be used.
    """
    app = DescribedApp(
        zarrdoc.PATHS,
        title="voxshelf",
        version=version("voxshelf"),
        lifespan=_listening_apart,
        telemetry=_NO_TELEMETRY,
    )
    _provide(app, settings)
    app.router.routes.extend(zarr.routes)
    for each in (home, docs, subjects, summaries, cutouts, nifti, pictures, documents, operation):
        app.include_router(each.router, dependencies=[Depends(given_once)])
    if not settings.metrics_port:
        app.include_router(operation.public_metrics)
    app.add_exception_handler(VoxshelfError, errors.on_error)
    app.add_exception_handler(HTTPException, errors.on_http_error)
    app.add_exception_handler(RequestValidationError, errors.on_invalid)
    app.add_exception_handler(Exception, errors.on_bug)
    # Around the framework's own layers, and not among them, since raw keys need none of those.
    metrics: Metrics = app.state.metrics
    app.state.limits = Limits(zarr.RawKeys(app.build_middleware_stack()), settings, metrics)
    # The outermost observes refusals and preflights too.
    app.middleware_stack = Observed(CrossOrigin(app.state.limits), metrics, app.state.answered)
    return app


def _provide(app: FastAPI, settings: ServiceSettings) -> None:
    """Make what routes are handed."""
    store = Store(settings.mirror)
    answered = Answered(log=settings.access_log)
    metrics = Metrics(answered)
    reader = Reader(store, settings.catalog_ttl_s)
    app.state.settings = settings
    app.state.access = Access(settings)
    app.state.answered = answered
    app.state.metrics = metrics
    app.state.reader = reader
    app.state.pool = Pool(settings.decoding_threads, settings.decoding_answers)
    if store.is_local:
        # The operating system keeps what was read of a folder.
        app.state.storage = app.state.upstream = Folder(store.url, settings.upstream_timeout_s, metrics)
    else:
        app.state.storage = bucket = Bucket(store.url, settings, metrics)
        app.state.upstream = Cached(bucket, int(settings.cache_mb * 1e6), settings.cache_ttl_s, metrics)
        reader.on_publication(lambda _: app.state.upstream.clear())
    reader.on_publication(lambda catalog: metrics.subjects.set(len(catalog.subjects)))


@asynccontextmanager
async def _listening_apart(app: FastAPI) -> AsyncIterator[None]:
    """Serve the metrics on a port of their own, where one is set, while the application runs."""
    settings: ServiceSettings = app.state.settings
    if not settings.metrics_port:
        yield
        return
    server, thread = start_http_server(settings.metrics_port, settings.host, app.state.metrics.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
