"""A tiny grid from its description to its tables, in several processes and by DVC."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from project import ROOT, TINY, UP_TO_DATE, Project, wait_for

GRID: dict[str, Any] = {
    "title": "Tiny",
    "base": "configs/digits.yaml",
    "set": {**TINY, "finetune.epochs": 2, "synthesis.num_images": 16},
    "teachers": {"tiny": {}},
    "images": {
        "zeroq": {"method": "zeroq"},
        "real": {"method": "real_data"},
    },
    "students": {
        "zeroq": {"method": "zeroq"},
        "real": {"method": "real_data"},
        "dynadfq": {"method": "dynadfq"},
    },
    "studies": {
        "methods": {
            "title": "Methods",
            "rows": [
                {"images": "zeroq", "student": "zeroq", "widths": ["w4a4"]},
                {"images": "zeroq", "student": "dynadfq", "widths": ["w4a4-35"]},
                {"images": "real", "student": "real", "widths": ["w4a4"], "label": "Real data"},
            ],
        }
    },
    "controls": ["methods"],
    "statistics": ["real", "zeroq"],
    "entropies": ["zeroq"],
    "test_images": True,
}


def describe(project: Project, grid: dict[str, Any]) -> None:
    (project.folder / "benchmarks/grids/tiny.yaml").write_text(yaml.safe_dump(grid))
    project("python", "-m", "benchmarks.grid", "write", "tiny")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The grid, run with two processes."""
    project = Project.create(tmp_path_factory.mktemp("grid") / "project")
    ignored = shutil.ignore_patterns("artifacts", "reports", "dvc.lock", "__pycache__")
    shutil.copytree(
        ROOT / "benchmarks", project.folder / "benchmarks", ignore=ignored, dirs_exist_ok=True
    )
    describe(project, GRID)
    output = project("python", "-m", "benchmarks.run", "--jobs", "2")
    assert output.count(": done") == 12 and "Traceback" not in output
    return project


def stale(project: Project) -> set[str]:
    status = json.loads(project("dvc", "status", "benchmarks/dvc.yaml", "--json"))
    return {name.rpartition(":")[2] for name in status}


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_report_is_complete(project: Project):
    reports = project.folder / "benchmarks/reports/tiny"
    assert "Not computed" not in (reports / "index.html").read_text()
    rows = (reports / "tables/methods.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in rows[4:7]] == [
        "| zeroq",
        "| dynadfq",
        "| Real data (not data-free)",
    ]
    assert {path.stem for path in (reports / "figures").iterdir()} == {
        "methods",
        "time",
        "layers",
        "channels",
        "entropies",
        "easy-and-hard",
    }


def test_controls_agree_with_the_evaluation(project: Project):
    folder = project.folder / "benchmarks/artifacts/evaluations"
    name = "tiny-zeroq-dynadfq-w4a4-35-s0.json"
    evaluation = json.loads((folder / name).read_text())
    found = json.loads((folder / "controls" / name).read_text())["allocations"]
    assert found["own"]["wrong"] == evaluation["wrong"]
    assert found["permuted"]["wrong"] == evaluation["control_wrong"]
    assert found["own"]["bit_flops_percent"] == evaluation["bit_flops_percent"]
    assert {*found} == {"own", "permuted", "static", "ceiling", "3 bits", "4 bits", "5 bits"}
    costs = [found[f"{bits} bits"]["bit_flops_percent"] for bits in (3, 4, 5)]
    assert costs == sorted(set(costs))
    for one in found.values():
        count = evaluation["test_images"]
        assert one["top1"] == pytest.approx(100 * (1 - len(one["wrong"]) / count))
    for name in found.keys() - {"own"}:
        gain = found["own"]["top1"] - found[name]["top1"]
        assert found[name]["difference"] == pytest.approx(gain)
        assert 0 <= found[name]["p_value"] <= 1
    table = project.folder / "benchmarks/reports/tiny/tables/controls.md"
    against = [row.split(" | ")[2] for row in table.read_text().splitlines()[4:10]]
    assert against == ["permuted", "static", "ceiling", "3 bits", "4 bits", "5 bits"]


def test_nothing_is_left_to_do(project: Project):
    assert stale(project) == set()
    assert UP_TO_DATE in project("dvc", "repro", "benchmarks/dvc.yaml")
    assert "All cells are up to date" in project("python", "-m", "benchmarks.run")
    assert not list((project.folder / ".scratch").rglob("*@*"))


def test_a_cell_made_again_has_the_same_bytes(project: Project, tmp_path: Path):
    copy = project.copy(tmp_path / "project")
    folder = copy.folder / "benchmarks/artifacts/students/tiny-zeroq-dynadfq-w4a4-35-s0"
    before = files(folder)
    shutil.rmtree(folder)
    copy("python", "-m", "benchmarks.cell", "student", folder.name)
    assert files(folder) == before


@pytest.mark.skipif(sys.platform != "linux", reason="processes do not end with their parent")
def test_a_killed_grid_goes_on_with_what_is_missing(project: Project, tmp_path: Path):
    copy = project.copy(tmp_path / "project")
    for path in ("benchmarks/artifacts", ".dvc/cache"):
        shutil.rmtree(copy.folder / path)
    (copy.folder / "benchmarks/dvc.lock").unlink()
    run = copy.start("python", "-m", "benchmarks.run", "--jobs", "2")
    assert wait_for(lambda: any(copy.folder.glob("benchmarks/artifacts/costs/images/*")), 200)
    started = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.communicate()
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive
    output = copy("python", "-m", "benchmarks.run", "--jobs", "2")
    assert "teacher@tiny: done" not in output
    for kind in ("images", "students"):
        folder = Path("benchmarks/artifacts") / kind
        assert files(copy.folder / folder) == files(project.folder / folder)
    assert stale(copy) == set()


def test_a_new_width_runs_its_own_cells_only(project: Project, tmp_path: Path):
    wider = yaml.safe_load(yaml.safe_dump(GRID))
    wider["studies"]["methods"]["rows"][0]["widths"].append("w3a3")
    copy = project.copy(tmp_path / "project")
    describe(copy, wider)
    new = "tiny-zeroq-zeroq-w3a3-s0"
    assert stale(copy) == {f"student@{new}", f"evaluate@{new}", "table@tiny"}


def test_a_grid_is_finished_from_its_record(project: Project, tmp_path: Path):
    copy = project.copy(tmp_path / "project")
    copy("python", "-m", "benchmarks.record", "save")
    record = copy.folder / "benchmarks/records/tiny.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    missing = "tiny-zeroq-dynadfq-w4a4-35-s0"
    record.write_text("".join(line for line in lines if missing not in line))
    for path in ("benchmarks/artifacts", ".dvc/cache"):
        shutil.rmtree(copy.folder / path)
    (copy.folder / "benchmarks/dvc.lock").unlink()
    assert "2 of 3 students" in copy("python", "-m", "benchmarks.record", "restore")
    output = copy("python", "-m", "benchmarks.run", "--missing")
    assert f"student@{missing}, evaluate@{missing}: done" in output
    assert "zeroq-zeroq" not in output and "labelled@" not in output
    evaluations = Path("benchmarks/artifacts/evaluations")
    made = {path.name: path.read_bytes() for path in (copy.folder / evaluations).glob("*.json")}
    assert made == {
        path.name: path.read_bytes() for path in (project.folder / evaluations).glob("*.json")
    }
    assert copy("python", "-m", "benchmarks.record", "save").endswith("3 of 3 students\n")
