"""infra/kubernetes: valid by the schemas of Kubernetes and of the Dask operator, and what the design wants of it."""

from __future__ import annotations

import re
import shutil
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from dask.utils import parse_bytes

from service.app import create_app
from service.settings import ServiceSettings
from tests.infra.composed import ROOT
from tests.infra.manifests import FOLDER, VERSIONS, Manifest, RefusedError, pod_specs, render, validate
from tests.infra.test_compose import COMPOSE_FILE, with_defaults
from voxshelf.cli import cli

OVERLAYS = ("plain", "operator")
GUARDS = ("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "Ingress", "Namespace", "Deployment")


@cache
def rendered(name: str) -> list[Manifest]:
    return render(FOLDER / name)


def whole(overlay: str) -> list[Manifest]:
    """All that runs while a conversion does."""
    return [*rendered(overlay), *rendered("convert")]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    exact = selector.get("matchLabels", {}).items() <= labels.items()
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions)
    return exact and all(labels.get(each["key"]) in each["values"] for each in expressions)


# The schemas --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_valid(overlay: str, version: str) -> None:
    manifests = whole(overlay)
    for manifest in manifests:
        validate(manifest, version)
    assert set(GUARDS) <= {manifest["kind"] for manifest in manifests}


def test_the_variants_have_their_clusters() -> None:
    assert {"scheduler", "worker", "service"} == set(of_kind(rendered("plain"), "Deployment"))
    (cluster,) = of_kind(rendered("operator"), "DaskCluster")
    scaler = of_kind(rendered("operator"), "DaskAutoscaler")["voxshelf"]["spec"]
    assert scaler["cluster"] == cluster
    assert 0 < scaler["minimum"] < scaler["maximum"]


BROKEN = {
    "a field that is misspelt": ("base/service.yaml", "readinessProbe", "readynessProbe", "readynessProbe"),
    "a field at the wrong place": (
        "convert/convert.yaml",
        "  template:",
        "  restartPolicy: Never\n  template:",
        "restartPo",
    ),
    "a number as a text": ("base/scaling.yaml", "minReplicas: 2", 'minReplicas: "two"', "'two' is not of type"),
    "a field that is missing": (
        "plain/scheduler.yaml",
        "containerPort: 8786",
        "hostPort: 8786",
        "'containerPort' is a req",
    ),
    "a kind that there is not": ("base/scaling.yaml", "kind: PodDisruptionBudget", "kind: PodBudget", "PodBudget"),
    "a version that is gone": ("base/scaling.yaml", "autoscaling/v2", "autoscaling/v2beta2", "v2beta2"),
    "a list as a map": ("base/network.yaml", "policyTypes: [Egress]", "policyTypes: {Egress: true}", "NetworkPolicy"),
    "a file that is missing": ("plain/kustomization.yaml", "worker.yaml", "workers.yaml", "workers.yaml"),
    "yaml that is none": ("plain/worker.yaml", "spec:\n  replicas", "spec:\n replicas", "MalformedYAML"),
    "a field the operator does not know": ("operator/cluster.yaml", "idleTimeout", "idleTimeOut", "idleTimeOut"),
    "a field its pods do not have": ("operator/cluster.yaml", "enableServiceLinks", "serviceLinks", "serviceLinks"),
    "an autoscaler without a limit": ("operator/cluster.yaml", "  maximum: 40\n", "", "'maximum' is a required"),
    "a job that is tried for ever": ("convert/convert.yaml", "backoffLimit: 6", "backoffLimit: forever", "'forever'"),
}


def validate_all(folder: Path) -> None:
    for manifest in render(folder):
        validate(manifest)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_copy_is_refused(tmp_path: Path, what: str) -> None:
    path, right, wrong, reason = BROKEN[what]
    copy = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, copy)
    text = (copy / path).read_text()
    assert right in text
    (copy / path).write_text(text.replace(right, wrong, 1))
    overlay = path.split("/")[0].replace("base", "plain")
    with pytest.raises(RefusedError, match=re.escape(reason)):
        validate_all(copy / overlay)


# What refers to what ------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_referred_to_exists(overlay: str) -> None:
    manifests = whole(overlay)
    pods = list(pod_specs(manifests))
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] in {"Service", "Deployment", "PodDisruptionBudget"}:
            chosen = {"matchLabels": spec["selector"]} if manifest["kind"] == "Service" else spec["selector"]
            assert [name for name, labels, _ in pods if selects(chosen, labels)] == [
                manifest["metadata"]["name"].removeprefix("voxshelf-")
            ]
        if manifest["kind"] == "NetworkPolicy":
            assert any(selects(spec["podSelector"], labels) for _, labels, _ in pods), manifest["metadata"]["name"]
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler").values():
        assert scaler["spec"]["scaleTargetRef"]["name"] in of_kind(manifests, "Deployment")
        assert "replicas" not in of_kind(manifests, "Deployment")["service"]["spec"]
    for ingress in of_kind(manifests, "Ingress").values():
        (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
        backend = path["backend"]["service"]
        ports = of_kind(manifests, "Service")[backend["name"]]["spec"]["ports"]
        assert backend["port"]["name"] in {port["name"] for port in ports}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_mount_and_read_what_there_is(overlay: str) -> None:
    manifests = whole(overlay)
    for name, _, spec in pod_specs(manifests):
        (container,) = spec["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in spec["volumes"]}
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                assert source["configMapRef"]["name"] in of_kind(manifests, "ConfigMap")
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in of_kind(manifests, "PersistentVolumeClaim")
        named = {port["name"] for port in container.get("ports", [])}
        probes = [container[key]["httpGet"] for key in container if key.endswith("Probe")]
        assert {probe["port"] for probe in probes} <= named, name
        assert bool(probes) == (name != "convert")


# Hardening, as in the compose file ----------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_hardened(overlay: str) -> None:
    for name, _, spec in pod_specs(whole(overlay)):
        pod, (container,) = spec["securityContext"], spec["containers"]
        assert pod["runAsNonRoot"] is True, name
        assert pod["runAsUser"] > 0
        assert pod["runAsGroup"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert {"cpu", "memory"} == set(container["resources"]["limits"]) == set(container["resources"]["requests"])
        assert all("hostPath" not in volume for volume in spec["volumes"])
    assert (
        of_kind(whole(overlay), "Namespace")["voxshelf"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_keys_are_in_no_file_and_with_those_who_need_them(overlay: str) -> None:
    manifests = whole(overlay)
    assert not of_kind(manifests, "Secret")
    keys = {
        name: [each["secretRef"]["name"] for each in spec["containers"][0].get("envFrom", []) if "secretRef" in each]
        for name, _, spec in pod_specs(manifests)
    }
    writer = ["voxshelf-write"]
    assert keys == {"service": ["voxshelf-read"], "scheduler": [], "worker": writer, "convert": writer}
    mounts = {name for name, _, spec in pod_specs(manifests) if any(v["name"] == "corpus" for v in spec["volumes"])}
    assert mounts == {"worker", "convert"}
    for name, _, spec in pod_specs(manifests):
        assert all(
            mount.get("readOnly") for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "corpus"
        )
        assert all(
            entry["name"].startswith(("DASK_", "VOXSHELF_")) for entry in spec["containers"][0].get("env", [])
        ), name


def allowed(manifests: list[Manifest], source: dict[str, str], target: dict[str, str]) -> bool:
    """Whether a pod in the namespace may open a connection to another: its way out and the other's way in."""

    def side(direction: str, peer_key: str, own: dict[str, str], other: dict[str, str]) -> bool:
        for policy in of_kind(manifests, "NetworkPolicy").values():
            spec = policy["spec"]
            if selects(spec["podSelector"], own) and direction in spec["policyTypes"]:
                for rule in spec.get(direction.lower(), []):
                    if any(selects(peer["podSelector"], other) for peer in rule[peer_key] if "podSelector" in peer):
                        return True
        return False

    return side("Egress", "to", source, target) and side("Ingress", "from", target, source)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_cluster_reaches_what_runs_code(overlay: str) -> None:
    manifests = whole(overlay)
    pods = {name: labels for name, labels, _ in pod_specs(manifests)}
    open_ways = {(a, b) for a in pods for b in pods if a != b and allowed(manifests, pods[a], pods[b])}
    cluster = {"scheduler", "worker", "convert"}
    assert open_ways == {(a, b) for a in cluster for b in cluster if a != b}
    closed = of_kind(manifests, "NetworkPolicy")["nothing"]["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


# Commands -----------------------------------------------------------------------------------------


def test_the_two_variants_run_the_same_pods() -> None:
    plain, operator = ({name: spec for name, _, spec in pod_specs(rendered(overlay))} for overlay in OVERLAYS)
    (at_plain,), (at_operator,) = plain["worker"]["containers"], operator["worker"]["containers"]
    assert at_plain["args"][0] == "tcp://voxshelf-scheduler:8786"
    assert at_operator["args"][0] == "--name=$(DASK_WORKER_NAME)"
    assert at_plain | {"args": at_plain["args"][1:]} == at_operator | {"args": at_operator["args"][1:]}
    assert plain["worker"] | {"containers": []} == operator["worker"] | {"containers": []}
    assert (plain["scheduler"], plain["service"]) == (operator["scheduler"], operator["service"])


def test_commands_are_those_that_the_compose_test_runs() -> None:
    import yaml

    services = yaml.safe_load(with_defaults(COMPOSE_FILE.read_text()))["services"]
    containers = {name: spec["containers"][0] for name, _, spec in pod_specs(whole("plain"))}
    assert containers["scheduler"]["command"] == services["scheduler"]["entrypoint"]
    assert containers["scheduler"]["args"] == services["scheduler"]["command"]
    assert containers["service"]["args"] == services["service"]["command"]
    assert containers["worker"]["command"] == services["worker"]["entrypoint"]
    options = [
        {argument.split("=")[0] for argument in each}
        for each in (containers["worker"]["args"][1:], services["worker"]["command"][1:])
    ]
    assert options[0] == options[1]
    assert ["voxshelf", *containers["convert"]["args"][:-1]] == services["convert"]["entrypoint"][:-1]
    for name, container in containers.items():
        assert container["image"] == services[name]["image"]


def test_images_carry_our_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for overlay in OVERLAYS:
        for _, _, spec in pod_specs(whole(overlay)):
            assert spec["containers"][0]["image"].split(":")[1] == project["version"]


def test_images_can_be_renamed_in_both_variants(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    for overlay in OVERLAYS:
        own = tmp_path / "kubernetes" / f"own-{overlay}"
        own.mkdir()
        images = "images: [{name: voxshelf-converter, newName: registry.example.org/converter}]"
        (own / "kustomization.yaml").write_text(f"resources: [../{overlay}]\n{images}\n")
        names = {name: spec["containers"][0]["image"] for name, _, spec in pod_specs(render(own))}
        assert names["worker"] == names["scheduler"] == "registry.example.org/converter:0.1.0"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_dask_gives_up_a_worker_before_the_kernel_does(overlay: str) -> None:
    (worker,) = (spec["containers"][0] for name, _, spec in pod_specs(rendered(overlay)) if name == "worker")
    (option,) = (each.split("=")[1] for each in worker["args"] if each.startswith("--memory-limit"))
    assert parse_bytes(option) < parse_bytes(f"{worker['resources']['limits']['memory']}B")


def test_our_commands_are_ones_that_the_command_line_takes() -> None:
    containers = {name: spec["containers"][0] for name, _, spec in pod_specs(whole("plain"))}
    for name in ("convert", "service"):
        verb, *arguments = containers[name]["args"]
        parent = cli.make_context("voxshelf", [verb, *arguments])
        command = cli.get_command(parent, verb)
        assert command is not None
        assert command.make_context(verb, arguments, parent=parent).params


def test_the_service_has_the_pages_that_are_probed(tmp_path: Path) -> None:
    (service,) = (spec["containers"][0] for name, _, spec in pod_specs(rendered("plain")) if name == "service")
    probed = {service[key]["httpGet"]["path"] for key in service if key.endswith("Probe")}
    assert probed <= set(create_app(ServiceSettings(str(tmp_path))).openapi()["paths"])
