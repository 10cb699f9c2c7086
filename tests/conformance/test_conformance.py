"""Our service passes the conformance suite, and a server that does everything wrong fails each of its probes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).parent
BIN = Path(sys.executable).parent
STORE = "0001.ome.zarr"
# They wait until a server loses its patience.
PATIENT = "fault-frozen,fault-stalled"
GROUPS = ["bytes", "headers", "refusals", "clients", "faults"]


def probed(*arguments: str | Path) -> dict[str, dict[str, Any]]:
    """What the suite finds, as its users start it, by id of probe."""
    command = [sys.executable, str(SUITE), "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout, done.stderr
    return {probe["id"]: probe for probe in json.loads(done.stdout)["probes"]}


def ours(mirror: Path, upstream: str, *arguments: str) -> dict[str, dict[str, Any]]:
    serve = f"{BIN}/voxshelf serve {upstream} --port {{port}}"
    where = ["--root", mirror, "--store", f"subjects/{STORE}", "--at", f"zarr/{STORE}"]
    return probed("--serve", serve, *where, *arguments)


@pytest.fixture(scope="module")
def found(phantom_mirror: Path) -> dict[str, dict[str, Any]]:
    return ours(phantom_mirror, "{s3}", "--without", PATIENT)


@pytest.mark.parametrize("group", GROUPS)
def test_the_service_passes_all_probes(found: dict[str, dict[str, Any]], group: str) -> None:
    made = [probe for probe in found.values() if probe["group"] == group]
    assert len(made) >= 6
    assert [(probe["id"], probe["reason"]) for probe in made if probe["verdict"] == "fail"] == []
    # Only npm, which needs a registry, may be out of reach.
    skipped = {probe["id"] for probe in made if probe["verdict"] == "skip"}
    assert skipped <= {"zarrita", "zarrita-suffix"}


def test_a_service_of_a_folder_passes_too(served: str, phantom_mirror: Path) -> None:
    truth = phantom_mirror / "subjects" / STORE
    outcome = probed(f"{served}/zarr/{STORE}", "--truth", truth, "--only", "bytes,headers,refusals")
    assert [(probe["id"], probe["reason"]) for probe in outcome.values() if probe["verdict"] != "pass"] == []


@pytest.mark.slow
def test_an_upstream_that_falls_silent_is_given_up_on(phantom_mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXSHELF_SERVE_UPSTREAM_TIMEOUT_S", "2")
    outcome = ours(phantom_mirror, "{upstream}", "--only", PATIENT)
    assert [(probe["id"], probe["reason"]) for probe in outcome.values() if probe["verdict"] != "pass"] == []


def test_each_probe_can_fail(phantom_mirror: Path) -> None:
    serve = f"{sys.executable} {SUITE}/flawed.py {{upstream}} {{port}}"
    store = f"subjects/{STORE}"
    waits = ["--timeout", "1", "--patience", "1"]
    outcome = probed("--serve", serve, "--root", phantom_mirror, "--store", store, "--at", store, *waits)
    # Whole objects are true, or else there would be nothing to compare with: these look at nothing else.
    true = {"get-exact", "get-sharded", "open-consolidated"}
    assert {probe["id"] for probe in outcome.values() if probe["verdict"] != "fail"} == true


def test_other_bytes_than_those_of_the_folder_are_found(served: str, phantom_mirror: Path) -> None:
    other = phantom_mirror / "subjects" / "0002.ome.zarr"
    assert probed(f"{served}/zarr/{STORE}", "--truth", other, "--only", "get-exact")["get-exact"]["verdict"] == "fail"


def test_what_cannot_be_asked_is_said() -> None:
    command = [sys.executable, SUITE, "http://127.0.0.1:9", "--only", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no such probe or group: x" in done.stderr
