"""Starts zarr-http-server on a store: a folder, or an http:// URL read through fsspec. Arguments: store and port."""

from __future__ import annotations

import sys

import zarr_http_server
from zarr.storage import FsspecStore, LocalStore

url, port = sys.argv[1:]
store = FsspecStore.from_url(url, read_only=True) if "://" in url else LocalStore(url, read_only=True)
cors: zarr_http_server.CorsOptions = {"allow_origins": ["*"], "allow_methods": ["GET"]}
app = zarr_http_server.store_app(store, cors_options=cors)
zarr_http_server.serve(app, port=int(port), uvicorn_options={"log_level": "warning", "access_log": False})
