from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from corpus.errors import SettingsError
from service.settings import ServiceSettings, meaning_of, read_settings

TEMPLATE = Path(__file__).parents[2] / "docs/service.toml"


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text('mirror = "of-file"\nport = 1\nhost = "::1"\ncache_mb = 3\n')
    environment = {"VOXSHELF_SERVE_PORT": "2", "VOXSHELF_SERVE_MIRROR": "of-environment", "PATH": "/bin"}
    settings = read_settings(str(file), environment, {"mirror": "given", "host": None})
    assert (settings.mirror, settings.port, settings.host, settings.cache_mb) == ("given", 2, "::1", 3.0)
    assert settings.client_requests == ServiceSettings("x").client_requests


def test_the_template_is_the_defaults_with_every_line_on() -> None:
    lines = [
        line[1:] if line.startswith("#") and line[1:2].isalpha() else line for line in TEMPLATE.read_text().splitlines()
    ]
    values = msgspec.toml.decode("\n".join(lines))
    assert msgspec.convert(values, ServiceSettings) == ServiceSettings("s3://public/mirror")
    assert values.keys() == {field.name for field in msgspec.structs.fields(ServiceSettings)}


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(ServiceSettings)])
def test_every_setting_says_what_it_means(name: str) -> None:
    assert len(meaning_of(name)) > 20
    assert meaning_of(name).endswith(".")


@pytest.mark.parametrize(
    ("text", "environment", "told"),
    [
        ("", {}, "mirror"),
        ("mirror = 'x'\nprot = 1", {}, "prot"),
        ("mirror = 'x'\nport = 70000", {}, "port"),
        ("mirror = ", {}, "cannot be read"),
        ("mirror = 'x'", {"VOXSHELF_SERVE_PROT": "1"}, "VOXSHELF_SERVE_PROT"),
        ("mirror = 'x'", {"VOXSHELF_SERVE_PORT": "many"}, "port"),
        ("mirror = 'x'", {"VOXSHELF_SERVE_PORT": "[1"}, "VOXSHELF_SERVE_PORT"),
        ("mirror = 'x'\naccel_prefix = 'stored/'", {}, "accel_prefix"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, text: str, environment: dict[str, str], told: str) -> None:
    file = tmp_path / "service.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=told):
        read_settings(str(file), environment, {})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings(str(tmp_path / "nothing"), {}, {})
