"""What docker-compose.yml describes works: its commands, environments and health checks, run as processes."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import s3fs
import xarray as xr
import yaml

from converter.phantom import write_phantom
from tests.infra.composed import ROOT, Composed, interpolated

pytestmark = pytest.mark.slow

SECRET = "a-secret-that-nobody-else-prints"


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    folder = tmp_path_factory.mktemp("compose")
    corpus = folder / "corpus"
    write_phantom(str(corpus), subjects=1)
    env = {"CORPUS": str(corpus), "AWS_ACCESS_KEY_ID": "voxshelf", "AWS_SECRET_ACCESS_KEY": SECRET}
    composed = Composed(ROOT / "docker-compose.yml", folder, env)
    try:
        yield composed
    finally:
        composed.close()


@pytest.fixture(scope="module")
def converted(composed: Composed) -> subprocess.CompletedProcess[str]:
    """The order of a user: all that runs for long, with one worker more, then the job."""
    for name in ("s3", "scheduler", "worker", "service"):
        composed.start(name)
    composed.start("worker", replica=1)
    return composed.run("convert")


def test_the_job_converts_on_the_workers(converted: subprocess.CompletedProcess[str], composed: Composed) -> None:
    assert converted.returncode == 0, converted.stdout + converted.stderr
    assert "9 volumes converted, 0 were there, 0 failures; 1 subjects published in s3://voxshelf" in converted.stdout
    assert "a Dask cluster of 2 workers" in converted.stderr


def test_a_region_is_read_with_plain_xarray(converted: subprocess.CompletedProcess[str], composed: Composed) -> None:
    base = f"http://{composed.hosts['service']}:8000"
    tree = xr.open_datatree(f"{base}/zarr/0001.ome.zarr", engine="zarr", zarr_format=3)
    box = {"x": slice(40, 60), "y": slice(50, 80), "z": slice(10, 30)}
    (source,) = (composed.folder / "corpus").glob("**/images/CT/*.nii.gz")
    expected = np.asarray(nib.load(source).dataobj)[box["x"], box["y"], box["z"]]
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(tree["ct/scale0/ct"].isel(box).transpose("x", "y", "z").values, expected)


def test_options_of_compose_run_are_added_to_the_job(
    converted: subprocess.CompletedProcess[str], composed: Composed
) -> None:
    again = composed.run("convert", "--subjects", "0001", "--volumes", "ct")
    assert again.returncode == 0, again.stderr
    assert "0 volumes converted, 1 were there" in again.stdout


def test_no_secret_is_printed_or_stored(converted: subprocess.CompletedProcess[str], composed: Composed) -> None:
    logs = composed.logs()
    assert {"s3-0", "scheduler-0", "worker-0", "worker-1", "service-0", "convert-job"} <= set(logs)
    assert [name for name, text in logs.items() if SECRET in text] == []
    endpoint = f"http://{composed.hosts['s3']}:8333"
    filesystem = s3fs.S3FileSystem(key="voxshelf", secret=SECRET, endpoint_url=endpoint)
    objects = filesystem.cat(filesystem.find("voxshelf/mirror"))
    assert "voxshelf/mirror/.voxshelf/report.json" in objects
    assert [key for key, data in objects.items() if SECRET.encode() in data] == []


def test_tasks_carry_no_secret_and_readable_names(
    converted: subprocess.CompletedProcess[str], composed: Composed
) -> None:
    import distributed

    def seen(dask_scheduler: distributed.Scheduler) -> tuple[list[str], str]:
        return list(dask_scheduler.task_prefixes), repr(dask_scheduler.get_events())

    with distributed.Client(f"tcp://{composed.hosts['scheduler']}:8786") as client:
        names, events = client.run_on_scheduler(seen)
    assert {"ct 0001", "pet 0001", "organs 0001", "finish 0001"} <= set(names)
    assert SECRET not in events


def test_storage_refuses_strangers(converted: subprocess.CompletedProcess[str], composed: Composed) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://{composed.hosts['s3']}:8333/voxshelf/mirror/mirror.json", timeout=30)
    assert caught.value.code == 403
    caught.value.close()


def page(base: str) -> str:
    with urllib.request.urlopen(base, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def test_prometheus_asks_pages_that_exist_for_figures_that_exist(
    converted: subprocess.CompletedProcess[str], composed: Composed
) -> None:
    settings = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in settings["scrape_configs"]}
    assert set(targets) == {"service", "dask"}
    asked = json.dumps(yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text()))
    for job, prefix in (("dask", "dask_"), ("service", "voxshelf_")):
        host, port = targets[job].split(":")
        shown = page(f"http://{composed.hosts[host]}:{port}/metrics")
        exported = {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE")}
        named = set(re.findall(rf"\b{prefix}[a-z_]+", asked))
        assert named
        assert named <= exported


def test_without_keys_nothing_starts() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    with pytest.raises(ValueError, match=r"AWS_ACCESS_KEY_ID is not set: see \.env\.example"):
        interpolated(text, {})


def test_a_command_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(text.replace("--dashboard-address", "--dashbord-adress"))
    composed = Composed(broken, tmp_path, {"AWS_ACCESS_KEY_ID": "voxshelf", "AWS_SECRET_ACCESS_KEY": SECRET})
    try:
        with pytest.raises(AssertionError, match=r"(?s)scheduler ended.*No such option"):
            composed.start("scheduler")
    finally:
        composed.close()


def test_a_health_check_that_is_wrong_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.infra.composed._PATIENCE_S", 3)
    text = (ROOT / "docker-compose.yml").read_text()
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(text.replace("8787/health", "8787/helth"))
    composed = Composed(broken, tmp_path, {"AWS_ACCESS_KEY_ID": "voxshelf", "AWS_SECRET_ACCESS_KEY": SECRET})
    try:
        with pytest.raises(AssertionError, match="scheduler is not healthy"):
            composed.start("scheduler")
    finally:
        composed.close()
