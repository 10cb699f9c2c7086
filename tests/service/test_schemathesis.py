"""What the OpenAPI document promises, asked of a running service by a program that knows only the document."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.settings import Rule, ServiceSettings

if TYPE_CHECKING:
    from tests.service.conftest import Serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)
RULES = {"CC-BY-NC-4.0": Rule.TOKEN}
# Most made-up names lead nowhere; with these, the answers are about data that are there.
REAL = """
[parameters]
"path.subject" = ["0001", "0002"]
"path.store" = ["0001.ome.zarr", "0002.ome.zarr"]
"path.key" = ["zarr.json", ".zgroup", "nothing"]
"path.volume" = ["ct", "pet", "organs"]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "phases"),
    [("", "examples,coverage"), (REAL, "fuzzing")],
    ids=["made-up names", "names that exist"],
)
def test_no_server_error_and_no_undocumented_answer(
    mirror: Path, tmp_path: Path, serving: Serving, config: str, phases: str
) -> None:
    (tmp_path / "schemathesis.toml").write_text(config)
    with serving(ServiceSettings(str(mirror), license_rules=RULES)) as base:
        command = [
            str(Path(sys.executable).parent / "schemathesis"),
            f"--config-file={tmp_path}/schemathesis.toml",
            "run",
            f"{base}/openapi.json",
            f"--checks={','.join(CHECKS)}",
            f"--phases={phases}",
            "--max-examples=20",
            "--seed=1",
            "--generation-deterministic",
            "--no-shrink",
            "--no-color",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) > 100
