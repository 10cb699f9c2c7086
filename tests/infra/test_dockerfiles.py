"""The Dockerfiles: clean by hadolint, and what the design wants of them.

No container engine is needed, so nothing here proves that the images build.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCKERFILES = {name: ROOT / "infra" / "docker" / f"{name}.Dockerfile" for name in ("converter", "service")}
EXTRAS = {"converter": ["convert", "dashboard"], "service": ["serve"]}


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "hadolint", "--no-color", path], capture_output=True, text=True, check=False)


def instructions(name: str) -> list[str]:
    """Return the instructions of a Dockerfile, each in one line, without comments."""
    text = re.sub(r"^#.*\n", "", DOCKERFILES[name].read_text(), flags=re.MULTILINE)
    return [re.sub(r"\s+", " ", line) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def final_stage(name: str) -> list[str]:
    found = instructions(name)
    last = max(index for index, line in enumerate(found) if line.startswith("FROM "))
    return found[last:]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_is_content(name: str) -> None:
    done = hadolint(DOCKERFILES[name])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("FROM python:3.13.14-slim-trixie", "FROM python:latest", "DL3007"),
        ("uv==0.13.9", "uv", "DL3013"),
        ("--no-cache-dir ", "", "DL3042"),
        ('ENTRYPOINT ["voxshelf"]', "ENTRYPOINT voxshelf", "DL3025"),
        ("USER 10001:10001", "USER root", "DL3002"),
    ],
)
def test_a_broken_copy_is_caught(tmp_path: Path, right: str, wrong: str, rule: str) -> None:
    text = DOCKERFILES["service"].read_text()
    assert right in text
    broken = tmp_path / "Dockerfile"
    broken.write_text(text.replace(right, wrong))
    done = hadolint(broken)
    assert done.returncode != 0
    assert rule in done.stdout


@pytest.mark.parametrize("name", DOCKERFILES)
def test_one_pinned_python_in_all_stages(name: str) -> None:
    images = [line.split()[1] for line in instructions(name) if line.startswith("FROM ")]
    assert len(images) == 3
    assert images[1:] == ["base", "base"]
    assert re.fullmatch(r"python:3\.13\.\d+-slim-\w+", images[0])


def test_both_images_have_the_same_python() -> None:
    assert instructions("converter")[0] == instructions("service")[0]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_uv_is_the_version_of_the_bootstrap(name: str) -> None:
    bootstrap = re.search(r"^UV_VERSION=(\S+)$", (ROOT / "infra" / "bootstrap.sh").read_text(), re.MULTILINE)
    assert bootstrap is not None
    assert re.findall(r"uv==(\S+)", DOCKERFILES[name].read_text()) == [bootstrap[1]]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_only_the_lock_decides_what_is_installed(name: str) -> None:
    syncs = [line for line in instructions(name) if "uv sync" in line]
    assert len(syncs) == 2
    for sync in syncs:
        assert {"--locked", "--no-dev", "--no-default-groups", "--no-editable"} <= set(sync.split())
        # Each image its own extra and no other: the service has neither Dask nor nibabel.
        assert re.findall(r"--(?:extra|all-extras|group|all-groups)\b ?(\S*)", sync) == EXTRAS[name]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_final_stage_holds_the_environment_and_nothing_else(name: str) -> None:
    stage = final_stage(name)
    assert [line for line in stage if line.startswith(("COPY", "ADD"))] == ["COPY --from=build /app/.venv /app/.venv"]
    assert not any(line.startswith("RUN") for line in stage)
    assert 'ENTRYPOINT ["voxshelf"]' in stage


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_user_is_a_number_and_not_root(name: str) -> None:
    (user,) = (line.split()[1] for line in final_stage(name) if line.startswith("USER "))
    uid, gid = user.split(":")
    assert int(uid) > 0
    assert int(gid) > 0


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_passes_dockerignore(name: str) -> None:
    allowed = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {
        source
        for line in instructions(name)
        if line.startswith("COPY ") and "--from=" not in line
        for source in line.split()[1:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_the_two_differ_only_where_they_must() -> None:
    converter, service = ("\n".join(instructions(name)) for name in DOCKERFILES)
    assert converter.replace("--extra convert --extra dashboard", "--extra serve") == service
