"""What a person sees of `publish` and `unpublish`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from corpus.errors import SettingsError
from voxshelf.cli import cli


def said(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_from_the_estimate_to_the_proof(phantom_mirror: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    command = ["publish", phantom_mirror, copy, "--license", "CC-BY-4.0", "--subjects", "0002,0003"]
    told = said(*command, "--dry-run", "--downloads", "3")
    assert "nothing was written" in told
    assert "for 3 downloads of the whole" in told
    assert "prices example:" in told
    assert not copy.exists()
    assert "2 subjects copied" in said(*command)
    assert "0 subjects copied (0 objects, 0 B), 2 were there, 0 removed" in said(*command)
    assert "0003 " in said("unpublish", copy, "0003")
    told = said(*command)
    assert "warning.withdrawn: 1" in told
    assert "has 1 subjects: 1 CC-BY-4.0" in told
    assert "2 subjects: 2 CC-BY-4.0" in said(*command, "--bring-back", "0003")


def test_split_by_licence(phantom_mirror: Path, tmp_path: Path) -> None:
    told = said("publish", phantom_mirror, tmp_path, "--split-by-license", "--subjects", "0001-0002")
    assert f"{tmp_path}/CC-BY-4.0 has 1 subjects" in told
    assert f"{tmp_path}/CC-BY-NC-4.0 has 1 subjects" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CC-BY-4.0", "CC-BY-NC-4.0"]


def test_a_licence_that_is_none_is_refused(phantom_mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'CC-BY' is none of"):
        said("publish", phantom_mirror, tmp_path, "--license", "CC-BY")
