"""What docs/service.md tells to paste works, and prints what stands there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

PAGE = (Path(__file__).parents[2] / "docs/service.md").read_text()


def test_the_python_lines_print_what_the_page_shows(served: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```\s+```\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 2
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code.replace("http://127.0.0.1:8000", served), {})
        assert printed.getvalue() == expected


def test_the_curl_lines_give_files_that_open(served: str, tmp_path: Path) -> None:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        command = shlex.split(line.replace("http://127.0.0.1:8000", served))
        subprocess.run([*command, "--fail"], cwd=tmp_path, check=True)
    assert np.load(tmp_path / "box.npy").ndim == 3
    ct, pet = (nib.load(tmp_path / f"0001_{role}_liver.nii.gz") for role in ("ct", "pet"))
    # Both hold the liver, which is on the right.
    for image in (ct, pet):
        corner = nib.affines.apply_affine(image.affine, np.array(image.shape) / 2)  # type: ignore[attr-defined]
        assert corner[0] > 0
    pictures = [path.read_bytes() for path in tmp_path.glob("*.png")]
    assert len(pictures) == 2
    assert {Image.open(io.BytesIO(data)).format for data in pictures} == {"PNG"}
