"""The verb ``demo``."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import msgspec
import uvicorn
import xarray as xr

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.phantom import write_phantom
from converter.reader import Mirror
from converter.verify import VerifySettings, verify
from corpus import layout
from service.app import create_app
from service.settings import ServiceSettings
from voxshelf.display import WorkBar, print_findings, step

_SUBJECT = "0001"
_LABEL = "liver"


@click.command()
@click.option("--once", is_flag=True, help="Stop after reading a region back over HTTP.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Where to work."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Another one if it is taken."
)
def command(folder: Path, port: int, *, once: bool) -> None:
    """Make a phantom corpus, convert it, verify it, serve it, and read one organ back over HTTP.

    The files stay in the folder; running it again finds the mirror complete.
    """
    corpus, mirror = folder / "corpus", folder / "mirror"
    with step("drawing three synthetic subjects"):
        write_phantom(str(corpus))
    click.echo(f"1. corpus     three synthetic subjects in {corpus}")
    _convert(corpus, mirror)
    with step("comparing every voxel with the source"):
        result = verify(str(mirror), VerifySettings(source=str(corpus)), lambda _: None)
    print_findings("Wrong", result.findings)
    if result.findings:
        sys.exit(1)
    click.echo(f"3. verify     {result.voxels} voxels equal to the source's, {result.objects} objects as written")
    with _serving(mirror, port) as base:
        click.echo(f"4. serve      {base}")
        _read_back(mirror, base)
        _explain(base)
        if not once:
            _wait(base)


def _convert(corpus: Path, mirror: Path) -> None:
    with WorkBar("converting") as bar:
        bar.expect(27)
        settings = ConvertSettings(workers=0, corpus=read_corpus(str(corpus)))
        report = convert(str(corpus), str(mirror), settings, lambda _: bar.advance(0, failed=False))
        if {finding.code for finding in report.failures} == {"settings.changed"}:
            # A mirror of another version of voxshelf; nobody relies on a demo's.
            anew = msgspec.structs.replace(settings, overwrite=True)
            report = convert(str(corpus), str(mirror), anew, lambda _: bar.advance(0, failed=False))
    print_findings("Failed", report.failures)
    if report.failures:
        sys.exit(1)
    click.echo(f"2. convert    {report.converted} volumes converted, {report.already} were there, into {mirror}")


@contextmanager
def _serving(mirror: Path, port: int) -> Iterator[str]:
    with socket.socket() as listener:
        # The connections of a demo that was stopped a moment ago must not take its port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(ServiceSettings(str(mirror))), log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _read_back(mirror: Path, base: str) -> None:
    catalog = Mirror(str(mirror)).catalog
    region = catalog.region(_SUBJECT, _LABEL)
    started = time.perf_counter()
    tree = xr.open_datatree(f"{base}/zarr/{_SUBJECT}{layout.STORE_SUFFIX}", engine="zarr", zarr_format=3)
    box = {dim: slice(region[f"{dim}_start"], region[f"{dim}_stop"]) for dim in "zyx"}
    ct = tree["ct/scale0/ct"].isel(box)
    organ = tree[f"ct/labels/{region['family']}/scale0/{region['family']}"].isel(box)
    mean_hu = float(ct.where(organ == region["value"]).mean())
    seconds = time.perf_counter() - started
    click.echo(
        f"5. read       {_LABEL} of {_SUBJECT} over HTTP in {seconds:.2f} s: "
        f"{region['volume_ml']:.0f} ml, mean {mean_hu:.1f} HU"
    )


def _explain(base: str) -> None:
    click.echo(
        f"""
Paste into a notebook (pip install xarray zarr fsspec aiohttp; nothing of ours):

    import xarray as xr
    tree = xr.open_datatree("{base}/zarr/{_SUBJECT}{layout.STORE_SUFFIX}", engine="zarr", zarr_format=3)
    ct = tree["ct/scale0/ct"]
    ct.sel(z=ct.z[36], method="nearest").plot(cmap="gray", vmin=-160, vmax=240)
"""
    )


def _wait(base: str) -> None:
    click.echo(f"Open {base}/ in a browser. Ctrl-C stops the server.")
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)  # the server runs in a thread of its own
