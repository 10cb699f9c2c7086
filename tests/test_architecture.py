"""The house rules that no linter checks."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PACKAGES = ("corpus", "converter", "service", "voxshelf")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def test_modules_are_short() -> None:
    assert len(MODULES) > 40
    assert {path.name: count for path in MODULES if (count := len(path.read_text().splitlines())) > 400} == {}


def test_functions_are_short_and_most_are_very_short() -> None:
    lengths = {f"{path.name}:{node.name}": (node.end_lineno or 0) - node.lineno + 1 for path, node in functions()}
    assert {name: length for name, length in lengths.items() if length > 60} == {}
    assert sorted(lengths.values())[len(lengths) * 3 // 4] <= 25


def test_parameters_are_few() -> None:
    crowded = {
        f"{path.name}:{node.name}"
        for path, node in functions()
        if len(node.args.args) + len(node.args.kwonlyargs) - (node.args.args[:1] == ["self"]) > 8
    }
    assert crowded == set()


def test_no_attic() -> None:
    assert [path for path in MODULES if path.stem in {"utils", "util", "helpers", "common", "misc", "core"}] == []


def test_every_module_says_what_it_is_for() -> None:
    assert [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_only_the_command_line_prints_and_exits() -> None:
    calls = {"print", "exit", "quit"}
    guilty = [
        path
        for path in MODULES
        if "voxshelf" not in path.parts[-3:]
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in calls)
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.exit")
    ]
    assert guilty == []


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nsys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_service_loads_nothing_heavy() -> None:
    heavy = {"dask", "distributed", "nibabel", "xarray", "pandas", "converter"}
    assert loaded_by("import service.app") & heavy == set()


def test_help_loads_no_verb() -> None:
    loaded = loaded_by(
        "from click.testing import CliRunner\nfrom voxshelf.cli import cli\nCliRunner().invoke(cli, '--help')"
    )
    assert "voxshelf" in loaded
    assert loaded & {"converter", "service", "numpy", "zarr", "dask"} == set()


def test_ruff_reads_our_rules() -> None:
    bad = "def f(a, b=[]):\n    print(a, b)\n    try:\n        pass\n    except Exception:\n        pass\n"
    command = [str(BIN / "ruff"), "check", "--output-format", "concise", "--stdin-filename", "corpus/bad.py", "-"]
    done = subprocess.run(command, input=bad, capture_output=True, text=True, check=False, cwd=ROOT)
    assert {"B006", "T201", "BLE001", "D100"} <= set(done.stdout.replace(":", " ").split())


def test_mypy_is_strict(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(x): return x\n")
    command = [str(BIN / "mypy"), "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "bad.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "no-untyped-def" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("service/reader.py", "import converter.plan", "Command line"),
        ("corpus/layout.py", "import service.ranges", "Command line"),
        ("converter/plan.py", "import nibabel", "NIfTI"),
        ("converter/write.py", "import dask", "Dask"),
        ("converter/plan.py", "import fsspec", "store"),
    ],
)
def test_import_linter_breaks_on_a_forbidden_import(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / module
    path.write_text(path.read_text() + f"\n{line}\n")
    command = [str(BIN / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env={"PYTHONPATH": "."})
    assert done.returncode == 1
    broken = [text for text in done.stdout.splitlines() if "BROKEN" in text]
    assert any(contract.casefold() in text.casefold() for text in [*broken, done.stdout])
