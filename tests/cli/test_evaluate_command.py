"""``dynadfq evaluate``: labelled folders, and the number on the model card."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dynadfq

Run = Callable[..., Any]


@pytest.fixture
def folder(models: Any, run: Run, tmp_path: Path) -> Path:
    """Three images in folders of the classes that the student predicts, but for one."""
    predictions = run("predict", models.student, models.images, "--json --top 2").json
    for number, found in enumerate(predictions):
        name = found["top"][1 if number == 0 else 0]["class"]
        (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(found["file"], tmp_path / "images" / name)
    return tmp_path / "images"


def test_accuracy_is_that_of_the_predictions(
    run: Run, models: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("evaluate", models.student, folder, "--json").json
    assert run("evaluate", models.student, folder, "--batch-size 2 --json").json == found
    assert [path.name for path in tmp_path.iterdir()] == ["images"]  # nothing is left behind
    assert found["images"] == 3 and found["top1"] == pytest.approx(200 / 3)
    assert found["top1_standard_error"] == pytest.approx(100 * (2 / 9 / 3) ** 0.5)
    assert found["agreement"] is None and "by name" in found["classes"]
    predictions = run("predict", models.student, models.images, "--json").json
    cost = sum(one["bit_flops_percent"] for one in predictions) / 3
    assert found["bit_flops_percent"] == pytest.approx(cost)
    assert run("evaluate", models.student, folder, "--images 1 --json").json["images"] == 1
    narrow = run("evaluate", models.student, folder, "--bits 3 --json").json
    assert narrow["mean_activation_bits"] == narrow["bits"] == 3 and found["bits"] is None

    card = tmp_path / "card.md"
    options = ("--teacher", models.teacher, "--card", card)
    text = run("evaluate", models.student, folder, *options).out
    assert "66.67" in text and "agreement" in text
    page = card.read_text()
    assert f"3 test images of {folder}" in page
    assert "| this student | 66.67 |" in page and "control" not in page


def test_a_teacher_is_measured_too(run: Run, models: Any, folder: Path, tmp_path: Path) -> None:
    found = run("evaluate", models.teacher, folder, "--json").json
    assert (found["bit_flops_percent"], found["mean_activation_bits"]) == (100, 32)
    for options in (("--bits", 3), ("--bits", 3, "--card", tmp_path / "card.md")):
        model = models.teacher if len(options) == 2 else models.student
        assert "--bits: a " in run("evaluate", model, folder, *options).err
    refused = run("evaluate", models.teacher, folder, "--card", tmp_path / "card.md")
    assert refused.status == 1 and "a teacher has no model card" in refused.err
    other = run("evaluate", models.student, folder, "--teacher", models.student)
    assert other.status == 1 and other.err.startswith("dynadfq: --teacher: ")


def test_a_teacher_of_other_images_or_classes_is_refused(
    run: Run, models: Any, folder: Path, tmp_path: Path
) -> None:
    own = dynadfq.load_teacher(models.teacher)
    facts = own.arguments() | {"mean": [0.5, 0.4, 0.1], "class_names": own.class_names[::-1]}
    dynadfq.Teacher(own.module, **facts).save(tmp_path / "other")
    refused = run("evaluate", models.student, folder, "--teacher", tmp_path / "other")
    assert refused.status == 1 and refused.err.splitlines()[-1] == (
        "dynadfq: --teacher: its mean is [0.5, 0.4, 0.1] and the model's [0.5, 0.4, 0.3]; "
        'its class 0 is "6" and the model\'s "cat"; '
        "give the float network that the model was made from"
    )


def test_a_folder_without_labels_is_refused(run: Run, models: Any, tmp_path: Path) -> None:
    for path in (models.images, tmp_path / "no"):
        refused = run("evaluate", models.student, path)
        assert refused.status == 1 and refused.err.count("\n") == 1


def test_errors_name_the_arguments_as_they_were_written(
    run: Run, models: Any, folder: Path, tmp_path: Path
) -> None:
    missing = run("evaluate", models.student, folder, "--classes", tmp_path / "no.txt")
    assert missing.status == 1 and missing.err.startswith("dynadfq: --classes: ")
    nothing = run("evaluate", models.student, tmp_path / "nothing")
    assert nothing.status == 1 and nothing.err.startswith("dynadfq: FOLDER: ")
    (tmp_path / "flat").mkdir()
    flat = run("evaluate", models.student, tmp_path / "flat")
    assert flat.status == 1 and "flat has no class folders; give a folder of <class>/" in flat.err
    teacher = run("evaluate", models.student, folder, "--teacher", tmp_path / "nowhere")
    assert teacher.status == 1 and teacher.err.startswith("dynadfq: --teacher: ")


def test_python_measures_what_the_command_measures(models: Any, tmp_path: Path) -> None:
    teacher = dynadfq.load_teacher(models.teacher)
    images = torch.randn(5, *teacher.input_shape, generator=torch.Generator().manual_seed(0))
    labels = teacher(images).argmax(dim=1)
    labels[0] = (labels[0] + 1) % teacher.num_classes
    batches = [(images[:2], labels[:2]), (images[2:], labels[2:])]
    result = dynadfq.evaluate(teacher, batches)
    assert result.top1 == 80 and result.bit_flops_percent == 100
    assert result.per_image["prediction"].tolist() == teacher(images).argmax(dim=1).tolist()

    shutil.copytree(models.student, tmp_path / "student")
    student = dynadfq.load_student(models.student)
    measured = dynadfq.evaluate(student, batches, teacher)
    dynadfq.write_card(tmp_path / "student", measured, "five images")
    page = (tmp_path / "student" / "card.md").read_text()
    assert "5 test images of five images" in page
    assert f"| {measured.top1:.2f} | {measured.bit_flops_percent:.3f} | " in page
    unlabelled = dynadfq.evaluate(student, [(images, None)])
    with pytest.raises(ValueError, match="no labels"):
        dynadfq.write_card(tmp_path / "student", unlabelled, "five images")
