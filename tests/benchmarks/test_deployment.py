"""The report on a student's forms: what is counted, and that the forms are those of the library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.deployment import __main__ as report
from benchmarks.deployment.agreement import Agreement, agreements
from benchmarks.deployment.forms import (
    IN_ONNXRUNTIME,
    INTEGER_FORM,
    TRAINING,
    forms,
    training_form,
)
from benchmarks.deployment.markdown import page
from benchmarks.deployment.sizes import sizes
from benchmarks.deployment.times import times
from dynadfq.quant.model import Student


def test_agreement_by_hand() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 1.0], [0.0, 0.5]])
    bits = torch.tensor([[4.0, 5.0], [4.0, 5.0], [3.0, 5.0], [4.0, 4.0]])
    other = logits + torch.tensor([[0.0], [0.25], [0.0], [0.0]]) * torch.tensor([1.0, 0.0])
    other[3] = torch.tensor([1.0, 0.5])  # another class, by one
    row = Agreement("x")
    row.add((other, torch.tensor([[4, 5], [4, 5], [4, 5], [4, 4]])), (logits, bits))
    assert (row.images, row.classes, row.bits, row.close, row.logits) == (4, 3, 3, 2, 2)
    assert (row.worst, row.worst_same_bits) == (1.0, 1.0)
    row.add((other[:2], bits[:2]), (logits[:2], bits[:2]))
    assert (row.images, row.classes, row.bits, row.logits, row.worst) == (6, 5, 5, 3, 1.0)
    row.add((logits + 5e-5, bits), (logits, bits))
    assert (row.images, row.close, row.logits) == (10, 7, 3)


def test_all_forms_are_compared_with_the_first(images: Tensor) -> None:
    asked: list[str] = []

    def form(name: str, shift: float) -> Callable[[Tensor], tuple[Tensor, ...]]:
        return lambda x: asked.append(name) or (x.flatten(1) + shift, x[:, :1, 0, 0])  # type: ignore[func-returns-value]

    rows = agreements(
        {"one": form("one", 0), "two": form("two", 0.5), "three": form("three", 0)},
        images.split(128),
    )
    assert asked == ["one", "two", "three"] * 2
    assert [(row.form, row.images, row.classes, row.logits) for row in rows] == [
        ("two", 256, 256, 0),
        ("three", 256, 256, 256),
    ]
    assert rows[0].worst == pytest.approx(0.5, abs=1e-6)


@pytest.fixture
def student(make_student: Callable[..., Student]) -> Student:
    return make_student(3, 4, 5).eval()


def test_the_forms_of_a_student(
    student: Student, make_net: Callable[[], nn.Module], images: Tensor
) -> None:
    found = forms(student, make_net().eval(), threads=1)
    assert (
        next(iter(found.student)) == INTEGER_FORM
        and {TRAINING, IN_ONNXRUNTIME} <= found.student.keys()
    )
    assert not found.missing
    rows = {row.form: row for row in agreements(found.student, images.split(64))}
    exact = rows[IN_ONNXRUNTIME]
    assert exact.classes == exact.bits == 256 and exact.worst < 1e-4
    assert rows[TRAINING].classes >= 250  # but for flips
    measured = times(
        {name: found.timed[name] for name in ("float", "student, integer form")},
        (3, 8, 8),
        2,
        repeats=3,
    )
    assert [row["name"] for row in measured] == ["float", "student, integer form"]
    assert measured[0]["ratio"] == 1.0
    assert all(row["best"] <= row["median"] and row["batch"] == 2 for row in measured)


def test_the_training_form_leaves_the_student_as_it_was(student: Student, images: Tensor) -> None:
    logits, bits = training_form(student, images[:4])
    assert not student.training and not any(site.training for site in student.sites)
    assert torch.equal(bits, student.run(images[:4])[1]) and not logits.requires_grad
    with pytest.raises(RuntimeError):
        training_form(student, images[:, :2])
    assert not student.training


def test_sizes_are_of_files(
    student: Student, make_net: Callable[[], nn.Module], images: Tensor
) -> None:
    found, missing = sizes(student, make_net(), images[:2])
    by_name = dict(found)
    assert (
        not missing
        and by_name["student, packed codes without the selector"] < by_name["student, packed codes"]
    )
    assert {"student, onnx-codes", "student, pt2"} <= by_name.keys()
    floats = sum(
        tensor.numel() * tensor.element_size() for tensor in make_net().state_dict().values()
    )
    assert floats < by_name["float network, safetensors"] < floats + 4000


def test_the_page_says_all_that_was_measured(
    student: Student,
    make_net: Callable[..., nn.Module],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Any,
) -> None:
    from dynadfq.quant import build

    monkeypatch.setattr(report, "build", make_net_of := lambda *_: make_net())
    monkeypatch.setattr(
        report, "load_student", lambda folder: build.load_student(folder, make_net_of())
    )
    monkeypatch.setattr(report, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(
        report, "sizes", lambda *_: ([("float", 1000), ("packed", 250)], ["pt2: no room"])
    )
    student.save(tmp_path / "student")
    card = json.loads((tmp_path / "student/student.json").read_text())
    card["teacher"]["architecture"] = "tests/tiny"
    (tmp_path / "student/student.json").write_text(json.dumps(card))
    monkeypatch.setattr(
        "sys.argv",
        [
            "x",
            str(tmp_path / "student"),
            "--images",
            "7",
            "--batch",
            "1",
            "--repeats",
            "2",
        ],
    )
    report.main()
    text = (tmp_path / "reports/tiny/report.md").read_text()
    assert text == capsys.readouterr().out
    found = json.loads((tmp_path / "reports/tiny/report.json").read_text())
    assert page(found) == text and found["images"] == "7 images (noise)"
    for row in found["agreement"]:
        assert row["images"] == 7 and f"| {row['form']} | 7 |" in text
    assert all(f"| {row['name']} | 1 |" in text for row in found["times"])
    assert "| packed | 250 | 0.25 |" in text and "- pt2: no room" in text
