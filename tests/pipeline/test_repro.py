"""What `dvc repro` runs, and what it leaves alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import STAGES, UP_TO_DATE, Project, stages_run

STUDENTS = {"finetune", "finetune_fixed", "evaluate", "export", "plot"}
FROM_IMAGES = STUDENTS | {"synthesize"}
TRIED = {"trial"}


@pytest.fixture(scope="module")
def copied(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return finished.copy(tmp_path_factory.mktemp("stale") / "project")


@pytest.fixture
def edited(copied: Project) -> Iterator[Project]:
    """A copy that is as it was again after each test: DVC then hashes its files once."""
    yield copied
    copied("git", "checkout", "--quiet", ".")
    copied("git", "clean", "--quiet", "--force")


def test_a_first_run_runs_every_stage_once(first_output: str):
    assert stages_run(first_output) == STAGES
    assert "Traceback" not in first_output
    assert "UserWarning" not in first_output and "DeprecationWarning" not in first_output


def test_a_second_run_does_nothing(finished: Project):
    before = finished.artifacts()
    output = finished("dvc", "repro")
    assert UP_TO_DATE in output
    assert stages_run(output) == []
    assert finished.artifacts() == before
    assert finished("git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": 1}, set(STAGES)),
        ({"precision": "bfloat16"}, FROM_IMAGES),
        ({"data.image_size": 16}, set(STAGES)),
        ({"teacher.epochs": 2}, set(STAGES)),
        ({"similarity.measure": "cosine"}, set(STAGES) - {"teacher", "trial"}),
        ({"synthesis.iterations": 5}, FROM_IMAGES),
        ({"method.name": "zeroq"}, FROM_IMAGES | TRIED),
        ({"method.images.class_weight": 0.2}, FROM_IMAGES),
        ({"method.student.mixup_share": 0}, STUDENTS | TRIED),
        ({"finetune.learning_rate": 1e-6}, STUDENTS | TRIED),
        ({"finetune.epochs": 4}, STUDENTS | TRIED),
        ({"quantization.weight_bits": 3}, STUDENTS | TRIED),
        ({"quantization.ranges.observer": "max"}, STUDENTS | TRIED),
        ({"selector.hidden": 8}, STUDENTS - {"finetune_fixed"} | TRIED),
        ({"selector.candidates": [4, 5, 6]}, STUDENTS - {"finetune_fixed"} | TRIED),
        ({"evaluation.control_repeats": 2}, {"evaluate", "plot"}),
        ({"export.formats": ["pt2"]}, {"export", "plot"}),
        ({"report.title": "Another"}, {"plot"}),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_a_changed_parameter_reruns_what_depends_on_it(
    edited: Project, changes: dict[str, Any], expected: set[str]
):
    edited.set(changes)
    assert edited.stale() == expected | {"check"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("dynadfq/quant/quantize.py", STUDENTS | TRIED),
        ("dynadfq/synthesis/pixels.py", FROM_IMAGES | TRIED),
        ("dynadfq/ptq/calibration.py", STUDENTS | TRIED),
        ("dynadfq/methods/dynadfq.py", FROM_IMAGES | TRIED),
        ("dynadfq/methods/zeroq.py", set()),
        ("dynadfq/evaluation/evaluate.py", {"evaluate", "plot"}),
        ("dynadfq/export/program.py", {"evaluate", "export", "plot"}),
        ("dynadfq/report/page.py", {"plot"}),
        ("dynadfq/params/sections.py", set()),
        ("README.md", set()),
    ],
)
def test_edited_code_reruns_what_imports_it(edited: Project, path: str, expected: set[str]):
    with (edited.folder / path).open("a") as file:
        file.write("# edited\n")
    assert edited.stale() == expected


def test_a_new_method_reruns_nothing(edited: Project):
    new = edited.folder / "dynadfq" / "methods" / "another.py"
    new.write_text((edited.folder / "dynadfq" / "methods" / "zeroq.py").read_text())
    with (edited.folder / "dynadfq" / "methods" / "__init__.py").open("a") as file:
        file.write("# one line\n")
    assert edited.stale() == set()


def test_lost_outputs_come_back_without_a_run(project: Project):
    before = project.artifacts()
    shutil.rmtree(project.folder / "artifacts")
    (project.folder / "dvc.lock").unlink()
    output = project("dvc", "repro", "evaluate", "export")
    # DVC keeps no results of stages whose output it never deletes.
    assert stages_run(output) == ["check", "trial"]
    assert output.count("is cached - skipping run") == len(STAGES) - 3
    assert project.artifacts() == before


def test_results_travel_through_a_remote(project: Project, tmp_path: Path):
    project("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    project.commit("Share results")
    project("dvc", "push")
    project("git", "clone", "--quiet", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone("dvc", "pull")
    output = clone("dvc", "repro")
    assert UP_TO_DATE in output and stages_run(output) == []
    assert clone.artifacts() == project.artifacts()
    assert clone("git", "status", "--porcelain") == ""
