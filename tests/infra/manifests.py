"""Renders the Kubernetes manifests with kubectl, and checks them by the schemas of Kubernetes and of the Dask operator.

No cluster is asked. The schemas are those of the API servers, closed: a field that a server would drop in silence is an
error here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.conftest import BIN

type Manifest = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "infra" / "kubernetes"
DASK_GROUP = "kubernetes.dask.org/v1"
VERSIONS = ("1.32", "1.37")
"""Of Kubernetes: the oldest that has all fields we use switched on, and the newest whose schemas there are."""


class RefusedError(Exception):
    """Kustomize or a schema does not take it."""


def render(folder: Path) -> list[Manifest]:
    """Return what ``kubectl apply -k FOLDER`` would send."""
    done = subprocess.run(
        [BIN / "kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise RefusedError(done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def validate(manifest: Manifest, version: str = VERSIONS[-1]) -> None:
    """Compare a manifest with the schema of its kind.

    Raises
    ------
    RefusedError
        It has a field too much or too few, or one of another type.
    """
    try:
        if manifest["apiVersion"] == DASK_GROUP:
            jsonschema.Draft202012Validator(_operator_schemas()[manifest["kind"]]).validate(manifest)
        else:
            kubernetes_validate.validate(manifest, version, strict=True)
    except jsonschema.ValidationError as error:
        raise RefusedError(f"{manifest['kind']} {manifest['metadata']['name']}: {error.message}") from error
    except kubernetes_validate.SchemaNotFoundError as error:
        raise RefusedError(error.message) from error


@cache
def _operator_schemas() -> dict[str, Manifest]:
    """Schemas of the operator's kinds, from the chart that installs it."""
    package = find_spec("dask_kubernetes")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    definitions = [yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")]
    schemas = {}
    for definition in definitions:
        (version,) = definition["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"] |= {"apiVersion": {"const": DASK_GROUP}, "kind": {}, "metadata": {"type": "object"}}
        schemas[definition["spec"]["names"]["kind"]] = _closed(schema)
    return schemas


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed = {"type": ["integer", "string"]}
    return closed


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, str], Manifest]]:
    """Yield name, labels and specification of each kind of pod that comes of the manifests."""
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "Job"}:
            template = manifest["spec"]["template"]
            yield manifest["metadata"]["name"], template["metadata"]["labels"], template["spec"]
        if manifest["kind"] == "DaskCluster":
            for component in ("scheduler", "worker"):
                part = manifest["spec"][component]
                added = {"dask.org/cluster-name": manifest["metadata"]["name"], "dask.org/component": component}
                yield component, {**part["metadata"]["labels"], **added}, part["spec"]
