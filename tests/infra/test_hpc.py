"""The Slurm examples, with a real Dask scheduler and workers; `sbatch`, `scancel` and `srun` are played by scripts.

They show that the examples work as far as Dask goes. What Slurm makes of the directives was not tried.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from converter.phantom import write_phantom
from tests.conftest import BIN
from tests.infra.composed import ROOT

HPC = ROOT / "infra" / "hpc"
SECRET = "a-secret-that-nobody-else-prints"
STAND_INS = {
    # Options first, then the command, once whatever the number of tasks.
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"',
    # It keeps the script, which may be gone once it has answered.
    "sbatch": 'cp "$1" "$JOBS/job-$$"\nbash "$JOBS/job-$$" >>"$JOBS/log" 2>&1 &\necho "Submitted batch job $!"',
    "scancel": 'kill "$@" 2>/dev/null || true',
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_phantom(str(folder), subjects=1)
    return folder


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a login node."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in STAND_INS.items():
        program = programs / name
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)
    path = os.pathsep.join([str(programs), str(BIN), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "JOBS": str(tmp_path), "AWS_SECRET_ACCESS_KEY": SECRET}


def run(command: list[str | Path], env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_the_batch_script_converts(corpus: Path, env: dict[str, str], tmp_path: Path) -> None:
    env |= {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "3"}
    mirror = tmp_path / "mirror"
    done = run([HPC / "convert.sbatch", corpus, mirror, "--volumes", "ct,organs"], env, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 volumes converted, 0 were there, 0 failures" in done.stdout
    assert "a Dask cluster" in done.stderr
    assert not (tmp_path / "voxshelf-7.json").exists()
    assert SECRET not in done.stdout + done.stderr


def test_the_batch_script_says_how_it_is_used(env: dict[str, str], tmp_path: Path) -> None:
    done = run([HPC / "convert.sbatch", "only-a-source"], env, tmp_path)
    assert done.returncode == 2
    assert "SRC MIRROR" in done.stderr


@pytest.mark.slow
def test_workers_come_as_jobs_of_slurm(corpus: Path, env: dict[str, str], tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    choices = ["--account", "proj", "--partition", "cpu", "--maximum", "2"]
    choices += ["--dashboard", "127.0.0.1:0", "--interface", "lo"]
    command = [sys.executable, HPC / "slurm.py", *choices, "--", corpus, mirror, "--volumes", "ct,organs"]
    done = run(command, env, tmp_path)
    log = (tmp_path / "log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert "2 volumes converted, 0 were there, 0 failures" in done.stdout
    script = next(tmp_path.glob("job-*")).read_text()
    for line in ("#SBATCH -A proj", "#SBATCH -p cpu", "#SBATCH --mem=4G", "#SBATCH -t 08:00:00", "--lifetime 460m"):
        assert line in script
    # 4 GB of the 4 GiB that Slurm gives.
    assert "--memory-limit 3.73GiB" in script
    assert SECRET not in done.stdout + done.stderr + log + script


@pytest.mark.slow
def test_the_exit_status_is_that_of_the_conversion(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = [
        sys.executable,
        HPC / "slurm.py",
        "--dashboard",
        "127.0.0.1:0",
        "--interface",
        "lo",
        "--minimum",
        "0",
        "--",
    ]
    done = run([*command, tmp_path / "empty", tmp_path / "mirror"], env, tmp_path)
    assert done.returncode == 2
    assert "settings.no-subjects" in done.stderr
