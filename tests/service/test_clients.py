"""The lines that the service gives to paste, pasted."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from service.clients import client_lines
from service.settings import Rule, ServiceSettings, Token

if TYPE_CHECKING:
    from tests.service.conftest import Serving

LICENSE = "CC-BY-NC-4.0"
SECRET = "a-token-of-the-test"
TOKENS = (Token("test", hashlib.sha256(SECRET.encode()).hexdigest(), (LICENSE,)),)


@pytest.fixture(scope="module", params=[Rule.OPEN, Rule.ACKNOWLEDGE, Rule.TOKEN])
def lines(request: pytest.FixtureRequest, mirror: Path, serving: Serving) -> Iterator[dict[str, str]]:
    settings = ServiceSettings(str(mirror), license_rules={LICENSE: request.param}, tokens=TOKENS)
    with serving(settings) as base:
        body = httpx.get(f"{base}/v1/subjects/0001").json()
        assert body["rule"] == request.param
        found: dict[str, str] = body["clients"]
        assert found.keys() == {"xarray", "zarr", "tensorstore", "curl", "nibabel"}
        assert all(("TOKEN" in line) == (request.param is Rule.TOKEN) for line in found.values())
        yield {name: line.replace("TOKEN", SECRET) for name, line in found.items()}


def pasted(line: str, name: str) -> Any:
    names: dict[str, Any] = {}
    exec(line, names)
    return names[name]


def test_xarray(lines: dict[str, str]) -> None:
    tree = pasted(lines["xarray"], "tree")
    assert tree["ct/scale0/ct"].isel(z=0).values.shape == tree["ct/scale0/ct"].shape[1:]


def test_zarr(lines: dict[str, str]) -> None:
    group = pasted(lines["zarr"], "group")
    assert group["ct/scale0/ct"][0].shape == group["ct/scale0/ct"].shape[1:]


def test_tensorstore(lines: dict[str, str]) -> None:
    array = pasted(lines["tensorstore"], "array")
    assert np.asarray(array[0]).shape == tuple(array.shape[1:])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(lines: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(lines["curl"], shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"consolidated_metadata" in (tmp_path / "zarr.json").read_bytes()


def test_nibabel(lines: dict[str, str]) -> None:
    base = lines["xarray"].partition('"')[2].partition("/zarr/")[0]
    if not any(path.endswith(".nii") for path in httpx.get(f"{base}/openapi.json").json()["paths"]):
        pytest.skip("the service has no virtual NIfTI")
    image = pasted(lines["nibabel"], "image")
    assert image.dataobj[:, :, 3].shape == image.shape[:2]


def test_nothing_to_paste_where_nothing_may_be_read() -> None:
    volumes = [{"volume": "labels/organs", "array_path": "ct/labels/organs/scale0/organs"}]
    assert client_lines("http://x", "0001", volumes, LICENSE, Rule.DENY) == {}
    assert client_lines("http://x", "0001", [], LICENSE, Rule.OPEN) == {}
    assert "/v1/subjects/0001/organs.nii" in client_lines("http://x", "0001", volumes, LICENSE, Rule.OPEN)["nibabel"]
