from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voxshelf.cli import VERBS

Run = Callable[..., Any]


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_teaches(voxshelf: Run, verb: str) -> None:
    done = voxshelf(verb, "--help")
    assert done.stdout.startswith(f"Usage: voxshelf {verb}")
    assert verb == "demo" or "Example" in done.stdout


def test_phantom_then_inventory(voxshelf: Run, tmp_path: Path) -> None:
    made = voxshelf("phantom", tmp_path / "c", "--subjects", "2", "--seed", "5")
    assert "of 2 subjects" in made.stdout
    (tmp_path / "c/imaging-data/images/PT/0002.nii.gz").unlink()
    text = voxshelf("inventory", tmp_path / "c").stdout
    assert "0001" in text
    assert "CC-BY-NC-4.0" in text
    assert "0002/pet" in text
    shown = json.loads(voxshelf("inventory", tmp_path / "c", "--json").stdout)
    assert list(shown["subjects"]["0002"]["files"]) == [
        "ct", "body_composition", "cardiac", "muscles", "organs", "peripheral_bones", "ribs", "vertebrae",
    ]  # fmt: skip


def test_inventory_of_many_subjects_lists_those_that_something_is_said_of(voxshelf: Run, tmp_path: Path) -> None:
    from corpus.labels import families

    folders = [*(family.folder for family in families().values()), "CT", "PT"]
    for folder in folders:
        (tmp_path / folder).mkdir()
        for number in range(1, 61):
            (tmp_path / folder / f"{number:04d}.nii.gz").write_bytes(b"x")
    (tmp_path / "PT/0017.nii.gz").unlink()
    (tmp_path / "CT/0017.nii").write_bytes(b"x")
    (tmp_path / "Organs.zip").write_bytes(b"half a download")
    (tmp_path / "labels.json").write_text('{"Organs": {"8": "spleen",},}')
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["Patient", "Data-Source"])
    for number in range(1, 61):
        book.active.append([number, "AutoPET Challenge" if number != 30 else "nobody knows"])
    book.save(tmp_path / "PT-details.xlsx")
    text = voxshelf("inventory", tmp_path).stdout
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line[:4].isdecimal() and "CC" in line}
    assert rows["0017"][1:4] == ["2", "-", "."]
    assert set(rows) == {"0017"}
    assert "58 more subjects are complete" in text
    assert "0030" in text
    assert "Organs.zip: 15 bytes" in text
    assert "8 is 'spleen' there" in text
    assert "unknown release: the ids are neither those of 2025 (1597 subjects) nor 2026 (1683 subjects)" in text
    whole = voxshelf("inventory", tmp_path, "--all", "--release", "2026").stdout
    assert sum(line[:4].isdecimal() and "CC" in line for line in whole.splitlines()) == 59
    assert "release 2026: 1623 of 1683 subjects are missing" in whole
    assert "0017,0061-1683" in whole
    told = json.loads(voxshelf("inventory", tmp_path, "--json").stdout)
    assert told["census"]["licenses"] == {"CC-BY-NC-4.0": 59, "unknown": 1}
    assert told["census"]["volumes"]["pet"]["missing"] == ["0017"]
    assert told["census"]["volumes"]["ct"]["duplicates"] == 1
    assert [finding["place"] for finding in told["findings"]] == ["Organs.zip"]
    assert "warning.label-table" in {finding["code"] for finding in told["warnings"]}


def test_json_of_convert_is_one_event_a_line(voxshelf: Run, corpus: Path, tmp_path: Path) -> None:
    done = voxshelf("convert", corpus, tmp_path / "m", "--workers", "2", "--volumes", "ribs", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-2:]) == ("planned", ["published", "report"])
    assert sorted(kinds[1:-2]) == ["subject"] * 4 + ["volume"] * 4
    assert events[-1]["converted"] == 4
    assert events[-1]["totals"]["volumes_stored"] == 4


def test_convert_leaves_a_report_and_says_how_fast_it_was(voxshelf: Run, corpus: Path, tmp_path: Path) -> None:
    arguments = ["convert", corpus, tmp_path / "m", "--workers", "0", "--volumes", "ribs", "--subjects", "0001"]
    done = voxshelf(*arguments, "--report", tmp_path / "r.json", "--no-pictures")
    assert "0001/ribs" in done.stdout
    assert "MB of source a second" in done.stdout
    assert "report/index.html" in done.stderr
    told = (tmp_path / "r.json").read_bytes()
    assert told == (tmp_path / "m/.voxshelf/report.json").read_bytes()
    assert json.loads(told)["totals"]["volumes_stored"] == 1
    assert "no picture" in (tmp_path / "m/.voxshelf/report/index.html").read_text()
    done = voxshelf(*arguments, "--report", tmp_path, status=2)
    assert "settings.option" in done.stderr


def test_report_draws_what_is_missing(voxshelf: Run, mirror: Path, tmp_path: Path) -> None:
    text = voxshelf("report", mirror, "--out", tmp_path / "look").stdout
    assert f"4 subjects in {tmp_path}/look/index.html" in text
    assert len(list((tmp_path / "look/pictures").iterdir())) == 4
    told = json.loads(voxshelf("report", mirror, "--out", tmp_path / "look", "--json").stdout)
    assert told == {"subjects": 4, "page": f"{tmp_path}/look/index.html", "without_picture": []}


def test_info_of_a_mirror_and_of_a_subject(voxshelf: Run, mirror: Path) -> None:
    text = voxshelf("info", mirror).stdout
    assert "voxshelf phantom" in text
    assert all(subject in text for subject in ("0001", "0002", "0003", "0004"))
    text = voxshelf("info", mirror, "0002").stdout
    assert "labels/organs" in text
    assert "liver" in text
    body = json.loads(voxshelf("info", mirror, "0002", "--json").stdout)
    assert len(body["volumes"]) == 9


def test_export_says_whether_it_is_the_source_s_bytes(voxshelf: Run, mirror: Path, tmp_path: Path) -> None:
    done = voxshelf("export", mirror, "0001", "ct", tmp_path / "ct.nii.gz")
    assert "byte-identical" in done.stdout
    done = voxshelf("export", mirror, "0001", "ct", tmp_path / "b.nii", "--bbox-mm", "-50,-50,300,50,50,400")
    assert "byte-identical" not in done.stdout
    shown = json.loads(voxshelf("export", mirror, "0001", "pet", tmp_path / "p.nii", "--level", "1", "--json").stdout)
    assert sorted(shown) == ["affine", "byte_identical", "dtype", "path", "shape_zyx"]
    assert not shown["byte_identical"]


def test_upgrade_changes_the_version_that_info_shows(voxshelf: Run, mirror: Path, tmp_path: Path) -> None:
    own = shutil.copytree(mirror, tmp_path / "m")
    assert "OME-Zarr 0.5 (4)" in voxshelf("info", own).stdout
    assert "4 of" in voxshelf("upgrade", own, "--dry-run").stdout
    done = voxshelf("upgrade", own, "--subjects", "0001-0002", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["type"] for event in events] == ["planned", "subject", "subject", "result"]
    assert (events[-1]["upgraded"], events[-1]["left"]) == (2, 2)
    assert "2 subjects upgraded to OME-Zarr 0.6, 2 had it; 0 of" in voxshelf("upgrade", own).stdout
    assert json.loads(voxshelf("info", own, "--json").stdout)["ome_versions"] == {"0.6": 4}


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["convert"], 2, "Missing argument"),
        (["convert", "nowhere", "m"], 2, "settings.url"),
        (["convert", "CORPUS", "m", "--license", "MIT"], 2, "settings.option"),
        (["convert", "CORPUS", "m", "--volumes", "mr"], 2, "settings.option"),
        (["convert", "CORPUS", "m", "--subjects", "7777"], 2, "settings.no-subjects"),
        (["convert", "CORPUS", "MIRROR", "--ome-version", "0.6"], 2, "voxshelf upgrade"),
        (["convert", "CORPUS", "m", "--ome-version", "0.4"], 2, "'0.5', '0.6'"),
        (["upgrade", "nowhere"], 5, "layout.not-a-mirror"),
        (["info", "nowhere"], 5, "layout.not-a-mirror"),
        (["info", "MIRROR", "7777"], 6, "not-found.subject"),
        (["export", "MIRROR", "0001", "mr", "x.nii"], 6, "not-found.volume"),
        (["export", "MIRROR", "0001", "ct", "x.nii", "--bbox-mm", "1,2,3"], 2, "settings.option"),
        (["verify", "gopher://x"], 2, "settings.url"),
        (["report", "nowhere"], 5, "layout.not-a-mirror"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_errors_have_a_code_a_hint_and_their_exit_status(
    voxshelf: Run, corpus: Path, mirror: Path, arguments: list[str], status: int, code: str
) -> None:
    places = {"CORPUS": str(corpus), "MIRROR": str(mirror)}
    done = voxshelf(*[places.get(argument, argument) for argument in arguments], status=status)
    assert code in done.stderr
    assert "Traceback" not in done.stderr
    assert code[0] in "MN'" or "hint: " in done.stderr


def test_verify_tells_faults_by_its_exit_status(voxshelf: Run, mirror: Path, tmp_path: Path) -> None:
    own = shutil.copytree(mirror, tmp_path / "m")
    assert "0 faults" in voxshelf("verify", own, "--subjects", "0001").stdout
    (own / "subjects/0001.ome.zarr/ct/scale0/ct/c/0/0/0").unlink()
    done = voxshelf("verify", own, "--subjects", "0001", status=1)
    assert "subjects/0001.ome.zarr/ct/scale0/ct/c/0/0/0" in done.stdout
    assert "hint: " in done.stdout


@pytest.mark.parametrize(("verb", "missing", "extra"), [("convert", "isal", "convert"), ("serve", "uvicorn", "serve")])
def test_a_missing_extra_is_named(verb: str, missing: str, extra: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['voxshelf', {verb!r}, 'a', 'b'];"
    code += "from voxshelf.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "settings.missing-extra" in done.stderr
    assert f"voxshelf[{extra}]" in done.stderr
