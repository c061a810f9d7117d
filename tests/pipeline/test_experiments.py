"""`dvc exp` and the comparisons."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, NamedTuple

import pytest
from project import STAGES, Project, stages_run

# YAML 1.1 would read what DVC writes for this rate as text.
CHANGES = ("method.name=zeroq", "finetune.learning_rate=1e-06", "export.formats=[onnx-codes]")


class Another(NamedTuple):
    """A project that took over an experiment with another method, another rate and a file for other
    engines, as the pages say."""

    project: Project
    output: str  # of the run
    before: str  # the parameters of the working copy before the experiment
    meanwhile: str  # … and before it was taken over
    table: list[dict[str, Any]]  # what `dynadfq compare` showed then


@pytest.fixture(scope="module")
def another(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Another:
    project = finished.copy(tmp_path_factory.mktemp("experiments") / "project")
    before = (project.folder / "params.yaml").read_text()
    options = [word for change in CHANGES for word in ("--set-param", change)]
    output = project("dvc", "exp", "run", "--temp", "--name", "another", *options)
    meanwhile = (project.folder / "params.yaml").read_text()
    table = json.loads(project("python", "-m", "dynadfq", "compare", "--json"))
    project("dvc", "exp", "apply", "another")
    return Another(project, output, before, meanwhile, table)


def measured(project: Project) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project.folder / "reports/metrics.json").read_text())
    return content


def test_an_experiment_in_a_copy_leaves_no_parameter_behind(another: Another, finished: Project):
    assert another.meanwhile == another.before
    rows = {row["experiment"]: row for row in another.table}
    assert set(rows) == {"working copy", "HEAD", "another"}
    values = {
        "method.name": "zeroq",
        "finetune.learning_rate": 1e-6,
        "export.formats": ["onnx-codes"],
    }
    assert rows["another"]["differs"] == values
    assert rows["another"]["student"] == measured(another.project)["student"]["top1"]
    assert rows["working copy"]["differs"] == {
        "method.name": "dynadfq",
        "finetune.learning_rate": 1e-5,
        "export.formats": [],
    }
    assert rows["working copy"]["student"] == measured(finished)["student"]["top1"]


def test_another_method_is_one_command(another: Another, finished: Project):
    project, output = another.project, another.output
    assert "learning_rate: 1e-06" in (project.folder / "params.yaml").read_text()
    assert stages_run(output) == [
        stage for stage in STAGES if stage not in ("teacher", "similarity")
    ]
    assert project.artifacts("teacher", "similarity") == finished.artifacts("teacher", "similarity")
    assert measured(project) != measured(finished)
    manifest = json.loads(project.artifacts("synthetic")["synthetic/manifest.json"])
    assert set(manifest["shards"][0]["losses"]) == {"total", "bn_statistics"}
    assert project.scratch() == []


def test_files_for_other_engines_are_made_when_asked_for(another: Another, finished: Project):
    project = another.project
    before = json.loads((finished.folder / "artifacts/export/export.json").read_text())
    after = json.loads((project.folder / "artifacts/export/export.json").read_text())
    assert before["files"] == [] and [file["images_checked"] for file in after["files"]] == [8]
    assert set(project.artifacts("export")) == {"export/export.json", "export/student.onnx"}
    page, size = (project.folder / "reports/index.html").read_text(), after["files"][0]["bytes"]
    assert f">{size:,}</td>" in page


def test_experiments_are_compared(another: Another, finished: Project):
    project = another.project
    assert json.loads(project("dvc", "params", "diff", "--json"))["params.yaml"] == {
        "method.name": {"old": "dynadfq", "new": "zeroq"},
        "finetune.learning_rate": {"old": 1e-5, "new": 1e-6, "diff": pytest.approx(-9e-6)},
        "export.formats": {"old": "[]", "new": "['onnx-codes']"},
    }
    was, now = measured(finished), measured(project)
    changed = json.loads(project("dvc", "metrics", "diff", "--json"))["reports/metrics.json"]
    assert "synthetic.one_hot_recognized" in changed
    for name, row in changed.items():
        group, _, key = name.partition(".")
        assert (row["old"], row["new"]) == (
            (was[group][key], now[group][key]) if key else (was[group], now[group])
        )
    plots = json.loads(project("dvc", "plots", "diff", "--json"))
    assert "errors" not in plots and len(plots["data"]) >= 8


def test_the_table_of_experiments(another: Another):
    project = another.project
    table = csv.DictReader(io.StringIO(project("dvc", "exp", "show", "--csv")))
    rows = {row["Experiment"] or row["rev"]: row for row in table}
    assert rows["another"]["method.name"] == "zeroq" and rows["main"]["method.name"] == "dynadfq"
    for row in rows.values():
        assert all(
            0 <= float(row[f"{name}.top1"]) <= 100
            for name in ("teacher", "control", "fixed", "student")
        )
        assert (
            0 < float(row["student.bit_flops_percent"]) < 100
            and 0 < float(row["fixed.bit_flops_percent"]) < 100
        )
        assert 3 <= float(row["student.mean_activation_bits"]) <= 5
