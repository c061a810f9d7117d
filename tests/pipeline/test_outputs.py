"""The files of a finished run: their public names, and that the seed decides their bytes."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from dvc.utils.serialize import load_yaml
from project import ROOT, Project
from safetensors.numpy import load_file

PIPELINE: dict[str, Any] = load_yaml(ROOT / "dvc.yaml")
PER_IMAGE = [
    "index",
    "label",
    "prediction",
    "teacher_prediction",
    "entropy_nats",
    "bit_flops_percent",
    "mean_bits",
]


@pytest.fixture(scope="session")
def metrics(finished: Project) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (finished.folder / "reports/metrics.json").read_text(), parse_constant=pytest.fail
    )
    return content


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_metrics_have_their_public_names(metrics: dict[str, Any]):
    for name in ("teacher", "control", "static", "ceiling", "fixed", "student"):
        assert 0 <= metrics[name]["top1"] <= 100
    for name in ("fixed", "student"):
        assert 0 < metrics[name]["bit_flops_percent"] < 100
    assert metrics["teacher"]["bit_flops_percent"] == 100
    assert 3 <= metrics["student"]["mean_activation_bits"] <= 5
    assert metrics["entropy_bits_spearman"] is None or -1 <= metrics["entropy_bits_spearman"] <= 1
    assert metrics["data"] == {"name": "digits", "test_images": 540}
    assert metrics["synthetic"]["num_images"] == 32
    assert metrics["control"]["repeats"] == 1
    assert metrics["budget_curve"]["budgets"] == 3
    assert (
        metrics["budget_curve"]["lowest_bit_flops_percent"]
        < metrics["budget_curve"]["highest_bit_flops_percent"]
    )


def test_per_image_agrees_with_the_metrics(finished: Project, metrics: dict[str, Any]):
    table = rows(finished.folder / "reports/per_image.csv")
    assert [name for name in table[0] if name in PER_IMAGE] == PER_IMAGE
    assert [int(row["index"]) for row in table] == list(range(540))
    percent = {
        column: 100 * sum(row[column] == row["label"] for row in table) / len(table)
        for column in ("prediction", "teacher_prediction", "fixed_prediction")
    }
    expected = [metrics[name]["top1"] for name in ("student", "teacher", "fixed")]
    assert list(percent.values()) == pytest.approx(expected)
    for column, name in (
        ("bit_flops_percent", "bit_flops_percent"),
        ("mean_bits", "mean_activation_bits"),
    ):
        assert sum(float(row[column]) for row in table) / 540 == pytest.approx(
            metrics["student"][name], rel=1e-6
        )
    assert all(
        float(row["entropy_nats"]) >= 0 and 3 <= float(row["mean_bits"]) <= 5 for row in table
    )


def test_the_manifest_describes_every_shard(finished: Project):
    folder = finished.folder / "artifacts/synthetic"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [shard["file"] for shard in manifest["shards"]] == [
        f"shard-{n:05d}.safetensors" for n in range(4)
    ]
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        *(shard["file"] for shard in manifest["shards"]),
    ]
    for shard in manifest["shards"]:
        data = (folder / shard["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
        tensors = load_file(folder / shard["file"])
        assert {name: tensor.shape for name, tensor in tensors.items()} == {
            "images": (8, 1, 8, 8),
            "soft_labels": (8, 10),
        }
        assert shard["losses"]["total"] > 0 and isinstance(shard["seed"], int)
    assert len({shard["seed"] for shard in manifest["shards"]}) == 4


def test_teacher_similarity_and_students_have_their_files(finished: Project):
    files = finished.artifacts()
    teacher = json.loads(files["teacher/teacher.json"])
    assert teacher["sha256"] == hashlib.sha256(files["teacher/model.safetensors"]).hexdigest()
    assert teacher["architecture"] == "pytorchcv/resnet20_cifar10" and teacher["input_shape"] == [
        1,
        8,
        8,
    ]
    assert set(teacher) >= {"class_names", "num_classes", "mean", "std", "source", "float_top1"}
    similarity = load_file(finished.folder / "artifacts/similarity/similarity.safetensors")
    assert {name: tensor.shape for name, tensor in similarity.items()} == {"similarity": (10, 10)}
    assert len(rows(finished.folder / "artifacts/similarity/top_similar.csv")) == 10 * 5
    for name in ("student", "fixed"):
        assert f"{name}/model.safetensors" in files and f"{name}/student.json" in files
        assert "Data-free: yes" in (finished.folder / "artifacts" / name / "card.md").read_text()
        history = rows(finished.folder / "artifacts" / name / "history.csv")
        assert [int(row["epoch"]) for row in history] == [1, 2, 3]
        assert [int(row["step"]) for row in history] == [2, 4, 6]


def test_what_plot_promises_is_there(finished: Project):
    plot = PIPELINE["stages"]["plot"]
    for entry in plot["metrics"] + plot["plots"] + plot["outs"]:
        for path in entry:
            place = finished.folder / path
            assert any(place.iterdir()) if place.is_dir() else place.stat().st_size
    assert len(list((finished.folder / "reports/figures").glob("*.png"))) >= 9
    page = (finished.folder / "reports/index.html").read_text()
    assert 'src="http' not in page and "<img" in page


@pytest.mark.parametrize("plot", PIPELINE["plots"], ids=lambda plot: next(iter(plot)))
def test_a_dvc_plot_names_files_and_columns_that_exist(finished: Project, plot: dict[str, Any]):
    [content] = plot.values()
    [(path, columns)] = content["y"].items()
    wanted = {columns} if isinstance(columns, str) else set(columns)
    if isinstance(content["x"], dict):
        [(also, column)] = content["x"].items()
        assert also == path
        wanted.add(column)
    else:
        wanted.add(content["x"])
    table = rows(finished.folder / path)
    assert table and wanted <= set(table[0])


# All stages in one process: random numbers that one of them draws must not reach the next.
ONE_PROCESS = """
import re
import shutil
import sys
from pathlib import Path
from runpy import run_module

def run(*stages, **changes):
    before = text = params.read_text()
    for key, value in changes.items():
        text = re.sub(f"^{key}: .*", f"{key}: {value}", text, flags=re.MULTILINE)
    params.write_text(text)
    for line in stages:
        stage, *sys.argv[1:] = line.split()
        run_module(f"stages.{stage}", run_name="__main__", alter_sys=True)
    params.write_text(before)

params = Path("params.yaml")
students = ("finetune", "finetune --fixed")
run("check", "teacher", "similarity", "trial", "synthesize", *students, "evaluate", "export")
shutil.copytree("artifacts", "again/artifacts")
run(*students, "synthesize", precision="bfloat16")  # students of the same images as before
shutil.copytree("artifacts", "bfloat16/artifacts")
run("synthesize", seed=1)
"""


class Again(NamedTuple):
    """All of it computed again without DVC, then in another precision, then with another seed."""

    same: Project
    bfloat16: Project
    other_seed: Project


@pytest.fixture(scope="module")
def again(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Again:
    project = finished.copy(tmp_path_factory.mktemp("again") / "project")
    shutil.rmtree(project.folder / "artifacts")
    project("python", "-c", ONE_PROCESS)
    return Again(Project(project.folder / "again"), Project(project.folder / "bfloat16"), project)


def test_from_scratch_the_same_seed_gives_the_same_bytes(again: Again, finished: Project):
    same, expected = again.same.artifacts(), finished.artifacts()
    assert list(same) == list(expected)
    assert [name for name, data in expected.items() if same[name] != data] == []


@pytest.mark.parametrize("folder", ["synthetic", "student", "fixed"])
def test_precision_reaches_images_and_students(again: Again, finished: Project, folder: str):
    new, old = (
        {k: v for k, v in project.artifacts(folder).items() if k.endswith(".safetensors")}
        for project in (again.bfloat16, finished)
    )
    assert new.keys() == old.keys() and new != old


def test_the_manifest_records_the_precision(again: Again, finished: Project):
    for project, precision in ((again.bfloat16, "bfloat16"), (finished, "float32")):
        manifest = json.loads(project.artifacts("synthetic")["synthetic/manifest.json"])
        assert manifest["precision"] == precision


def test_another_seed_gives_other_images(again: Again, finished: Project):
    for number in range(4):
        path = f"artifacts/synthetic/shard-{number:05d}.safetensors"
        new, old = (
            load_file(project.folder / path)["images"] for project in (again.other_seed, finished)
        )
        assert new.shape == old.shape and (abs(new - old) > 1e-3).mean() > 0.9
