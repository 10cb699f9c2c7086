"""The application, made by a function of its settings that only wires things together."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from corpus.errors import VoxshelfError
from corpus.stores import Store
from service import errors
from service.cors import CrossOrigin
from service.reader import Reader
from service.routes import home, subjects, zarr
from service.settings import ServiceSettings
from service.upstream import upstream_of


def create_app(settings: ServiceSettings) -> FastAPI:
    """Return the service for a mirror.

    Raises
    ------
    SettingsError
        The mirror's URL cannot be used.
    """
    store = Store(settings.mirror)
    # FastAPI's own pages load scripts from a CDN, which a hospital's network does not reach.
    app = FastAPI(title="voxshelf", version=version("voxshelf"), docs_url=None, redoc_url=None)
    app.state.reader = Reader(store, settings.catalog_ttl_s)
    app.state.upstream = upstream_of(store)
    app.include_router(home.router)
    app.include_router(subjects.router)
    app.router.routes.extend(zarr.routes)
    app.add_exception_handler(VoxshelfError, errors.on_error)
    app.add_exception_handler(HTTPException, errors.on_http_error)
    app.add_middleware(CrossOrigin)
    return app
