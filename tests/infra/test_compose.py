"""docker-compose.yml: valid by the schema of compose, and what the design wants of it.

No container engine is needed; `test_compose_runs.py` proves that the commands, environments and health checks work.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dask.utils import parse_bytes

from voxshelf.cli import cli

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE_FILE = ROOT / "docker-compose.yml"
ENV_EXAMPLE = ROOT / ".env.example"
LINT_FILE = ROOT / ".compose-lint.yml"

SERVERS = ("s3", "scheduler", "worker", "service", "prometheus")
PROFILES = {"convert": ["convert"], "prometheus": ["monitoring"]}
EVERY_SERVICE = (*SERVERS, "convert")
OURS = ("scheduler", "worker", "service", "convert")
FROM_ENVIRONMENT = re.compile(r"\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")
DOCKER_UNITS = {"m": 2**20, "g": 2**30}


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "compose-lint"), "check", "--fail-on", "low", "--quiet", "--config", str(LINT_FILE), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def with_defaults(text: str) -> str:
    """Replace each ``${NAME:-default}`` by its default, as compose does where NAME is not set."""
    return FROM_ENVIRONMENT.sub(lambda found: found["rest"].removeprefix(":-"), text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return document


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


# The schema ---------------------------------------------------------------------------------------


def test_the_file_is_valid() -> None:
    done = check_schema(COMPOSE_FILE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("healthcheck:", "healtcheck:"),
        ("    networks: [storage]", "    networks: storage"),
        ("service_healthy", "service_well"),
    ],
)
def test_a_broken_copy_is_caught(tmp_path: Path, right: str, wrong: str) -> None:
    text = COMPOSE_FILE.read_text()
    assert right in text
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(text.replace(right, wrong, 1))
    assert check_schema(broken).returncode != 0


def test_compose_lint_is_content() -> None:
    done = lint(COMPOSE_FILE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("    networks: [storage]", "    networks: [storage]\n    privileged: true", "CL-0002"),
        ("127.0.0.1:", "", "CL-0005"),
        ("no-new-privileges:true", "no-new-privileges:false", "CL-0003"),
        ("read_only: true", "read_only: false", "CL-0007"),
    ],
)
def test_compose_lint_finds_what_is_not_hardened(tmp_path: Path, right: str, wrong: str, rule: str) -> None:
    text = COMPOSE_FILE.read_text()
    assert right in text
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(text.replace(right, wrong))
    done = lint(broken)
    assert done.returncode == 1
    assert rule in done.stdout


def test_the_services(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == set(EVERY_SERVICE)


def test_what_is_referred_to_exists(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert set(service["networks"]) <= set(compose["networks"]), name
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name
        named = [v.split(":")[0] for v in service.get("volumes", []) if isinstance(v, str)]
        assert set(named) <= set(compose["volumes"]), name
        if build := service.get("build"):
            assert (ROOT / build["context"] / build["dockerfile"]).is_file(), name


# Images -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SERVICE)
def test_images_are_pinned_to_a_whole_version(services: dict[str, dict[str, Any]], name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+", services[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_our_images_carry_our_version(services: dict[str, dict[str, Any]], name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert services[name]["image"].split(":")[1] == project["version"]


def test_scheduler_workers_and_job_run_one_image(services: dict[str, dict[str, Any]]) -> None:
    images = {(services[name]["image"], str(services[name]["build"])) for name in ("scheduler", "worker", "convert")}
    assert len(images) == 1


def test_the_s3_server_is_the_one_the_tests_run(services: dict[str, dict[str, Any]]) -> None:
    done = subprocess.run([BIN / "weed", "version"], capture_output=True, text=True, check=True)
    assert services["s3"]["image"].split(":")[1] in done.stdout.split()


# Hardening ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SERVICE)
def test_hardened(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    uid, gid = with_defaults(service["user"]).split(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged", False)
    assert any(mount.startswith("/tmp:size=") for mount in service["tmpfs"])


@pytest.mark.parametrize("name", EVERY_SERVICE)
def test_limits(services: dict[str, dict[str, Any]], name: str) -> None:
    assert set(services[name]["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("name", EVERY_SERVICE)
def test_ports_are_published_on_loopback_only(services: dict[str, dict[str, Any]], name: str) -> None:
    for port in services[name].get("ports", []):
        assert with_defaults(port).startswith("127.0.0.1:")


def test_what_runs_code_is_not_published(services: dict[str, dict[str, Any]]) -> None:
    assert {name for name in services if "ports" in services[name]} == {"s3", "service", "scheduler", "prometheus"}
    # Whatever connects to 8786 may run code.
    assert services["scheduler"]["ports"] == ["127.0.0.1:${DASHBOARD_PORT:-8787}:8787"]


def test_what_faces_strangers_cannot_reach_what_runs_code(services: dict[str, dict[str, Any]]) -> None:
    assert not set(services["service"]["networks"]) & set(services["scheduler"]["networks"])


def test_the_corpus_is_read_only_and_only_where_it_is_read(services: dict[str, dict[str, Any]]) -> None:
    mounts = {
        name: [v for v in service.get("volumes", []) if isinstance(v, dict)] for name, service in services.items()
    }
    assert {name for name, found in mounts.items() if found} == {"worker", "convert", "prometheus"}
    assert mounts["worker"] == mounts["convert"]  # workers open the very paths that the job names
    (corpus,) = mounts["convert"]
    assert corpus["read_only"] is True
    assert corpus["target"] in services["convert"]["entrypoint"]


# Secrets and settings -----------------------------------------------------------------------------


def test_keys_come_from_the_environment_alone(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("KEY|SECRET|TOKEN|PASSWORD", variable):
                assert value == f"${{{variable}:?see .env.example}}", (name, variable)


def test_the_scheduler_has_no_keys(services: dict[str, dict[str, Any]]) -> None:
    assert "environment" not in services["scheduler"]


def test_every_setting_is_explained_and_none_is_idle() -> None:
    wanted = {found["name"]: found["rest"] for found in FROM_ENVIRONMENT.finditer(COMPOSE_FILE.read_text())}
    lines = ENV_EXAMPLE.read_text().splitlines()
    explained = {
        line.split("=")[0]: line.split("=", 1)[1]
        for before, line in zip(["", *lines], lines, strict=False)
        if "=" in line and not line.startswith("#") and before.startswith("# ")
    }
    assert set(explained) == set(wanted)
    for name, value in explained.items():
        # A key is left empty, which compose refuses; anything else shows the default that holds without .env.
        assert value == ("" if wanted[name].startswith(":?") else wanted[name].removeprefix(":-")), name


def test_docker_and_git_ignore_the_settings() -> None:
    allowed = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert allowed[0] == "*"
    assert not any(".env" in line for line in allowed)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


# What compose linters ask for ------------------------------------------------------------------------


def test_the_project_has_a_name_and_no_version(compose: dict[str, Any]) -> None:
    assert compose["name"] == "voxshelf"
    assert "version" not in compose


def test_no_name_or_port_is_given_twice(services: dict[str, dict[str, Any]]) -> None:
    names = [service["container_name"] for service in services.values() if "container_name" in service]
    ports = [
        with_defaults(port).rsplit(":", 1)[0] for service in services.values() for port in service.get("ports", [])
    ]
    assert len(set(names)) == len(names)
    assert len(set(ports)) == len(ports)


def test_ports_and_numbers_are_texts(services: dict[str, dict[str, Any]]) -> None:
    # YAML 1.1 reads 8000:22 as a number to the base of 60, and `no` as false.
    for name, service in services.items():
        given = [*service.get("ports", []), *service.get("command", []), *service.get("environment", {}).values()]
        given += [service["user"], service["restart"], service["deploy"]["resources"]["limits"]["cpus"]]
        assert all(isinstance(value, str) for value in given), name


def test_no_key_is_given_twice() -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: Strict, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.value != "<<"]
        assert len(set(keys)) == len(keys), keys
        loader.flatten_mapping(node)
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    yaml.load(COMPOSE_FILE.read_text(), Strict)
    with pytest.raises(AssertionError):
        yaml.load("{a: 1, a: 2}", Strict)


def test_everything_at_the_top_is_used(compose: dict[str, Any]) -> None:
    used = {name for service in compose["services"].values() for name in service["networks"]}
    mounts = [v for service in compose["services"].values() for v in service.get("volumes", [])]
    volumes = {mount.split(":")[0] for mount in mounts if isinstance(mount, str)}
    assert (used, volumes) == (set(compose["networks"]), set(compose["volumes"]))


# Running ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_has_a_health_check_without_a_shell(services: dict[str, dict[str, Any]], name: str) -> None:
    check = services[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    assert services[name]["restart"] == "unless-stopped"


def test_what_is_started_only_when_asked_for(services: dict[str, dict[str, Any]]) -> None:
    assert {name: service["profiles"] for name, service in services.items() if "profiles" in service} == PROFILES
    assert services["convert"]["restart"] == "no"


def test_workers_can_be_many(services: dict[str, dict[str, Any]]) -> None:
    assert "container_name" not in services["worker"]
    assert "ports" not in services["worker"]


def test_dask_gives_up_a_worker_before_the_kernel_does(services: dict[str, dict[str, Any]]) -> None:
    worker = services["worker"]
    (option,) = (argument for argument in worker["command"] if argument.startswith("--memory-limit="))
    container = worker["deploy"]["resources"]["limits"]["memory"]
    assert option == f"--memory-limit={container}"
    size = with_defaults(container)
    assert parse_bytes(size) < int(size[:-1]) * DOCKER_UNITS[size[-1]]


@pytest.mark.parametrize(
    ("name", "program", "help_option"),
    [
        ("s3", ["weed", "mini"], "-h"),
        ("scheduler", ["dask", "scheduler"], "--help"),
        ("worker", ["dask", "worker"], "--help"),
    ],
)
def test_the_options_exist(
    services: dict[str, dict[str, Any]], name: str, program: list[str], help_option: str
) -> None:
    # `weed mini -h` ends with status 2, so only the text counts.
    done = subprocess.run(
        [BIN / program[0], program[1], help_option], capture_output=True, text=True, check=False, timeout=60
    )
    known = set(re.findall(r"(?<!\S)--?[A-Za-z][\w.-]*", done.stdout + done.stderr))
    options = {argument.split("=")[0] for argument in services[name]["command"] if argument.startswith("-")}
    assert options
    assert options <= known


@pytest.mark.parametrize("name", ["convert", "service"])
def test_our_commands_are_ones_that_the_command_line_takes(services: dict[str, dict[str, Any]], name: str) -> None:
    words = [*services[name].get("entrypoint", []), *services[name].get("command", [])]
    verb, *arguments = words[words[0] == "voxshelf" :]
    parent = cli.make_context("voxshelf", [verb, *arguments])
    command = cli.get_command(parent, verb)
    assert command is not None
    assert command.make_context(verb, arguments, parent=parent).params
