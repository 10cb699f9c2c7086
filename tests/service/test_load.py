"""A short form of `make load`: many clients, some slow, some that hang up, and an upstream that freezes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_many_clients_and_a_frozen_upstream_meet_no_error(phantom_mirror: Path) -> None:
    plan = ["--clients", "30", "--slow", "2", "--hanging", "2", "--seconds", "10"]
    plan += ["--freeze", "3", "--upstream-timeout", "1", "--mirror", str(phantom_mirror), "--json"]
    command = [sys.executable, "-m", "bench.load", *plan]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    found = json.loads(done.stdout)
    assert found["errors"] == {}
    assert done.returncode == 0
    assert found["requests"] > 300
    assert found["clean_faults"] > 0, "upstream was frozen, and nobody was told"
    assert set(found["after_freeze"]) == {"ok"}
    second, last = found["rss_mb_second_and_last_fifth"]
    assert last < second + 60, f"{found['rss_mb']} MB"
