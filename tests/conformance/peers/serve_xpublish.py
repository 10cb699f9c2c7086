"""Starts xpublish with xpublish-zarr on a group that xarray can open. Arguments: URL and port."""

from __future__ import annotations

import sys

import uvicorn
import xarray as xr
import xpublish
from xpublish_zarr import ZarrPlugin

url, port = sys.argv[1:]
dataset = xr.open_zarr(url, zarr_format=3)
for variable in dataset.variables.values():
    # With it every request of a chunk is answered 500.
    variable.encoding.pop("shards", None)
rest = xpublish.Rest({"data": dataset}, plugins={"zarr": ZarrPlugin()})
uvicorn.run(rest.app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
