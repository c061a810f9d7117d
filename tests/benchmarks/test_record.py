"""A grid's measurements as one file: what comes back, and what is passed over."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record, run
from benchmarks.cells import ARTIFACTS, controls_of, cost_of, evaluation_of
from stages.artifacts import write_json

EVALUATION = {
    "control_top1": 70.0,
    "control_wrong": [0, 3, 9],
    "test_images": 10,
    "top1": 80.0,
    "wrong": [2, 8],
}
CONTROLS = {
    "test_images": 10,
    "allocations": {"own": {"top1": 80.0, "wrong": [2, 8]}, "3 bits": {"top1": 90.0, "wrong": [1]}},
}
COST = {"seconds": 2.0, "device": "cpu"}


def described(part: str, **values: Any) -> dict[str, Any]:
    method = {"name": "dynadfq", part: values}
    return {"params": {"method": method, "teacher": {"checkpoint": "/here/weights.pth"}}}


def made(share: float) -> dict[str, Any]:
    return described("student", mixup_share=share)


@pytest.fixture
def content() -> dict[str, Any]:
    students = {
        "a-s0": {"images": "im-s0", "teacher": "t", **made(0.5)},
        "b-s0": {"images": "im-s0", "teacher": "t", **made(1.0)},
        "real-s0": {"images": "lab-s0", "teacher": "t", **made(0.0)},
    }
    return {
        "grid": "small",
        "evaluation": {
            "data": {"name": "digits", "root": "/here", "fingerprint": None},
            "test_images": 10,
        },
        "teachers": {"t": {}},
        "images": {"im-s0": {"teacher": "t", **described("images", similar_classes=2)}},
        "labelled": {"lab-s0": {"teacher": "t", **described("images")}},
        "students": students,
        "controls": {"b-s0": {"teacher": "t"}},
        "statistics": {},
    }


def measure(folder: Path, *students: str, weights: str = "ab12", **changed: Any) -> None:
    write_teacher(folder, weights)
    for student in students:
        write_json(folder / evaluation_of(student), EVALUATION | changed)
        if student == "b-s0":
            write_json(folder / controls_of(student), CONTROLS)
        write_json(folder / cost_of("students", student), COST)
    write_json(folder / cost_of("images", "im-s0"), COST)


def write_teacher(folder: Path, weights: str) -> None:
    write_json(folder / ARTIFACTS / "teachers/t/teacher.json", {"sha256": weights})


def files(folder: Path) -> dict[Path, bytes]:
    found = (folder / ARTIFACTS).rglob("*.json")
    return {path.relative_to(folder): path.read_bytes() for path in found}


def test_what_is_restored_is_what_was_saved(content: dict[str, Any], tmp_path: Path) -> None:
    here, there, path = tmp_path / "here", tmp_path / "there", tmp_path / "small.jsonl"
    measure(here, "a-s0", "b-s0", "real-s0")
    assert record.save(content, path, here) == 3
    write_teacher(there, "ab12")
    elsewhere = deepcopy(content)
    elsewhere["evaluation"]["data"]["root"] = "/there"
    elsewhere["students"]["a-s0"]["params"]["teacher"]["checkpoint"] = "/there/weights.pth"
    assert record.restore(elsewhere, path, there) == 3
    assert files(there) == files(here)
    assert record.restore(elsewhere, path, there) == 0  # nothing is written over
    before = path.read_bytes()
    record.restore(content, path, tmp_path / "without a teacher")
    for folder in (there, tmp_path / "without a teacher"):
        assert record.save(content, path, folder) == 3
        assert path.read_bytes() == before


def test_controls_belong_to_their_evaluation(content: dict[str, Any], tmp_path: Path) -> None:
    here, path = tmp_path / "here", tmp_path / "small.jsonl"
    measure(here, "b-s0")
    record.save(content, path, here)
    before = path.read_bytes()
    for top1, kept in ((80.0, True), (60.0, False)):
        path.write_bytes(before)
        measure(folder := tmp_path / str(top1), "b-s0", top1=top1)
        (folder / controls_of("b-s0")).unlink()
        assert record.restore(content, path, folder) == 0
        assert (folder / controls_of("b-s0")).exists() is kept
        (folder / controls_of("b-s0")).unlink(missing_ok=True)
        record.save(content, path, folder)
        assert ("controls" in json.loads(path.read_text())) is kept


def test_a_later_record_keeps_what_is_not_measured_again(
    content: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "small.jsonl"
    measure(tmp_path / "first", "b-s0", "real-s0")
    record.save(content, path, tmp_path / "first")
    measure(tmp_path / "second", "a-s0", "b-s0", top1=60.0)
    assert record.save(content, path, tmp_path / "second") == 3
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = {line["student"]: line["evaluation"]["top1"] for line in lines}
    assert list(found.items()) == [("a-s0", 60.0), ("b-s0", 60.0), ("real-s0", 80.0)]


@pytest.mark.parametrize(
    "part", ["student", "images", "evaluation", "fingerprint", "weights", "removed"]
)
def test_what_is_measured_otherwise_is_passed_over(
    part: str, content: dict[str, Any], tmp_path: Path
) -> None:
    here, there, path = tmp_path / "here", tmp_path / "there", tmp_path / "small.jsonl"
    measure(here, "a-s0")
    record.save(content, path, here)
    write_teacher(there, "cd34" if part == "weights" else "ab12")
    changed = deepcopy(content)
    if part == "student":
        changed["students"]["a-s0"]["params"]["method"]["student"]["mixup_share"] = 0.6
    elif part == "images":
        changed["images"]["im-s0"]["params"]["method"]["images"]["similar_classes"] = 3
    elif part == "evaluation":
        changed["evaluation"]["test_images"] = 5
    elif part == "fingerprint":
        changed["evaluation"]["data"]["fingerprint"] = "of other files"
    elif part == "removed":
        del changed["students"]["a-s0"]
    assert record.restore(changed, path, there) == 0
    assert not (there / evaluation_of("a-s0")).exists()
    assert record.save(changed, path, there) == 0


@pytest.mark.parametrize(("limit", "current"), [(0.0, True), (50.0, False)])
def test_a_parameter_that_was_added_since_has_to_be_at_its_default(
    limit: float, current: bool, content: dict[str, Any], tmp_path: Path
) -> None:
    measure(tmp_path, "a-s0")
    record.save(content, path := tmp_path / "small.jsonl", tmp_path)
    content["students"]["a-s0"]["params"]["finetune"] = {"max_gradient_norm": limit}
    assert record.restore(content, path, tmp_path / "there") == current
    assert record.save(content, path, tmp_path / "without a teacher") == current


def test_a_kept_line_has_the_present_settings(content: dict[str, Any], tmp_path: Path) -> None:
    measure(tmp_path, "a-s0")
    record.save(content, path := tmp_path / "small.jsonl", tmp_path)
    content["students"]["a-s0"]["params"]["finetune"] = {"max_gradient_norm": 0.0}
    record.save(content, path, tmp_path / "without a teacher")
    assert json.loads(path.read_text())["settings"] == record.settings(content, "a-s0")


@pytest.mark.parametrize(("value", "current"), [(0.7, True), (0.5, False)])
def test_a_parameter_that_was_added_with_a_presets_value_makes_a_line_outdated(
    value: float, current: bool, content: dict[str, Any], tmp_path: Path
) -> None:
    method: dict[str, Any] = {"name": "synq", "preset": "cifar100", "student": {}}
    content["students"]["a-s0"]["params"]["method"] = method
    measure(tmp_path, "a-s0")
    record.save(content, path := tmp_path / "small.jsonl", tmp_path)
    method["student"]["hardest_label"] = value  # 0.7 is the default, 0.5 the preset's
    assert record.restore(content, path, tmp_path / "there") == current


def test_a_parameter_that_was_removed_since_makes_a_line_outdated(
    content: dict[str, Any], tmp_path: Path
) -> None:
    measure(tmp_path, "a-s0")
    before = deepcopy(content)
    before["students"]["a-s0"]["params"]["finetune"] = {"removed": 1.0}
    record.save(before, path := tmp_path / "small.jsonl", tmp_path)
    assert record.restore(content, path, tmp_path / "there") == 0


def test_missing_students_alone_are_computed(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    left_out = {"labelled@lab-s0", "student@real-s0", "evaluate@real-s0"}
    measure(tmp_path, "real-s0")
    assert run.not_needed(content) == left_out
    measure(tmp_path, "a-s0")
    assert run.not_needed(content) == left_out | {"student@a-s0", "evaluate@a-s0"}
    (tmp_path / controls_of("b-s0")).parent.mkdir(parents=True)
    measure(tmp_path, "b-s0")
    everything = run.not_needed(content)
    assert {"images@im-s0", "student@b-s0", "controls@b-s0"} <= everything
    (tmp_path / controls_of("b-s0")).unlink()
    needed = {"images@im-s0", "student@b-s0", "evaluate@b-s0", "controls@b-s0"}
    assert run.not_needed(content) == everything - needed


@pytest.mark.parametrize(
    ("part", "changed", "images"),
    [
        ("students", {"a-s0"}, False),
        ("images", {"a-s0", "b-s0"}, True),
        ("evaluation", {"a-s0", "b-s0", "real-s0"}, False),
    ],
)
def test_other_settings_of_the_same_name_leave_no_measurement(
    content: dict[str, Any], tmp_path: Path, part: str, changed: set[str], images: bool
) -> None:
    measure(tmp_path, *content["students"])
    before = files(tmp_path)
    after = deepcopy(content)
    if part == "students":
        after["students"]["a-s0"] |= made(0.9)
    elif part == "images":
        after["images"]["im-s0"] |= described("images", similar_classes=5)
    else:
        after["evaluation"]["test_images"] = 5
    assert record.remove_outdated(content, deepcopy(content), tmp_path) == 0
    assert files(tmp_path) == before
    assert record.remove_outdated(content, after, tmp_path) == len(changed)
    for student in content["students"]:
        kept = student not in changed
        assert (tmp_path / evaluation_of(student)).exists() is kept
        assert (tmp_path / controls_of(student)).exists() is (kept and student == "b-s0")
        same_student = kept or part == "evaluation"
        assert (tmp_path / cost_of("students", student)).exists() is same_student
    assert (tmp_path / cost_of("images", "im-s0")).exists() is not images
    assert record.save(after, tmp_path / "small.jsonl", tmp_path) == 3 - len(changed)


def test_a_record_of_no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "read_cells", lambda: {"reports": []})
    with pytest.raises(SystemExit, match="holds no grid"):
        record.main(["save"])


def test_what_was_restored_before_another_teacher_was_made_is_not_that_teachers(
    content: dict[str, Any], tmp_path: Path
) -> None:
    here, there, path = tmp_path / "here", tmp_path / "there", tmp_path / "small.jsonl"
    measure(here, "a-s0", "b-s0")
    record.save(content, path, here)
    record.restore(content, path, there)
    measure(there, "real-s0", weights="other")
    assert record.save(content, path, there) == 1
    assert list(record.read(path)) == ["real-s0"]
