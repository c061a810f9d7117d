"""From a float network to a file: every effort, interrupted work, and what is refused before it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from export_nothing import export_nothing
from interrupts import counted_steps, files, killed_after
from PIL import Image
from torch import Tensor, nn

import dynadfq
from dynadfq.deploy import efforts
from dynadfq.deploy.efforts import EFFORTS, Effort, plan
from dynadfq.deploy.quantize_model import quantize_model
from dynadfq.deploy.work import Work
from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.onnx_export import onnx_session
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig

README = Path(__file__).parents[2] / "README.md"
COMMANDS = README.parent / "docs" / "command-line.md"
HOURS = EFFORTS["hours"]
SMALL = {
    "seconds": Effort(0, 0, 8, "squant", None),
    "minutes": Effort(16, 3, 8, "squant", None),
    "hours": Effort(16, 3, 8, "nearest", FinetuneConfig(steps=3, batch_size=8)),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, effort in SMALL.items():
        monkeypatch.setitem(EFFORTS, name, effort)
    monkeypatch.setattr("dynadfq.export.qdq.REPEATS", 1)


def answers(path: Path, images: Tensor) -> Tensor:
    session = onnx_session(path.read_bytes(), exact=True)
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


class Stop(Exception):
    """Ends a call where its test has seen enough."""


def stop(*args: object, **options: object) -> None:
    raise Stop


def share_equal(logits: Tensor, others: Tensor) -> float:
    """The share of images to which both give the same class."""
    return float(logits.argmax(1).eq(others.argmax(1)).double().mean())


def labelled_files(teacher: Teacher, images: Tensor, folder: Path, wrong: int) -> Tensor:
    """Write images under the class that the network gives them, some under the next one; return
    their pixels."""
    pixels = teacher.preprocessing.denormalize(images).round().clamp(0, 255).byte()
    classes = teacher(teacher.preprocessing.normalize(pixels)).argmax(1).tolist()
    for number, (image, found) in enumerate(zip(pixels, classes, strict=True)):
        label = (found + (number < wrong)) % teacher.num_classes
        path = folder / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.movedim(0, -1).numpy()).save(path)
    return pixels


def test_the_readme_s_lines_give_a_file_that_computes_the_student(
    teacher: Teacher,
    images: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dynadfq, "load_teacher", lambda *args, **options: teacher, raising=False)
    pixels = labelled_files(teacher, images[:64], Path("data"), wrong=16)
    code = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)[0]
    code = code.replace('"int8.onnx"', '"out", data="data", input="uint8"')
    names: dict[str, Any] = {}
    exec(code, names)  # the README's own text
    made = names["made"]
    said = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in said[:4]] == ["1.", "2.", "3.", "4."]
    assert said[-1] == str(made.measured.agreement)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}
    written = {path.name for path in Path("out").iterdir()}
    assert written == {"model.onnx", "model.json", "card.md", "student"}
    assert json.loads(Path("out/model.json").read_text())["input"]["type"] == "uint8"

    answer = answers(made.path, pixels)
    read = teacher.preprocessing.normalize(pixels)
    expected = to_integer_form(dynadfq.load_student("out/student", teacher.module))(read)
    torch.testing.assert_close(answer, expected, atol=0.03 * float(expected.abs().max()), rtol=0)
    assert share_equal(answer, expected) > 0.98
    assert share_equal(answer, teacher(read)) > 0.8
    assert made.measured.float_top1 == 75.0
    assert made.measured.top1 == pytest.approx(75, abs=15)
    page = made.card.read_text()
    assert all(f"| {' | '.join(row)} |" in page for row in made.measured.rows())


@pytest.mark.parametrize(("effort", "steps"), [("seconds", 0), ("minutes", 0), ("hours", 3)])
def test_an_effort_decides_what_the_student_is_made_of(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effort: Any, steps: int
) -> None:
    monkeypatch.setattr("dynadfq.deploy.quantize_model.check_export", lambda *args: None)
    monkeypatch.setattr("dynadfq.deploy.quantize_model.export_qdq", export_nothing)
    with counted_steps(monkeypatch) as taken:
        made = quantize_model(teacher, tmp_path / "a.onnx", effort=effort, weight_bits=4)
    assert bool(taken) == (effort != "seconds")
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "a.md"}
    assert made.student.provenance == {
        "method": "squant" if effort == "seconds" else "dynadfq",
        "data_free": True,
        "images": 0 if effort == "seconds" else 16,  # BatchNorm statistics alone
        "steps": steps,
        "rounding": SMALL[effort].rounding,
    }
    scheme = made.student.scheme
    assert (scheme.scheme, scheme.weight_bits, scheme.activation_bits) == ("integer", 4, (8,))
    kind = "noise" if effort == "seconds" else "held-back synthetic"
    assert made.measured.rows() == [
        (f"same class, 8 {kind} images", "", f"{made.measured.agreement:.1f} %"),
        ("size", f"{made.measured.float_bytes / 1e6:.2f} MB", "0.25 MB"),
        ("time per image, batch 1, one thread", "2.00 ms", "1.00 ms"),
    ]
    line = "- HardSigmoid of gate: float32, 25.0% of the time (no kernel)\n"
    assert line in made.card.read_text()


@pytest.mark.parametrize("step", [3, 8, 11])
def test_an_interrupted_call_goes_on_and_gives_the_same_bytes(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr("dynadfq.deploy.quantize_model.check_export", lambda *args: None)
    monkeypatch.setattr("dynadfq.deploy.quantize_model.export_qdq", stop)
    whole, parts = tmp_path / "whole.onnx", tmp_path / "parts.onnx"
    with killed_after(monkeypatch, step):
        quantize_model(teacher, parts, effort="hours")
    taken = []
    for to in (whole, parts):
        with counted_steps(monkeypatch) as steps, pytest.raises(Stop):
            quantize_model(teacher, to, effort="hours")
        taken.append(len(steps))
    assert taken[1] < taken[0]
    with counted_steps(monkeypatch) as steps, pytest.raises(Stop):  # all but the file is there
        quantize_model(teacher, whole, effort="hours")
    assert steps == []
    students = [
        files(Work.beside(to, teacher, 8, 8, "hours", 0, False).folder / "student")
        for to in (whole, parts)
    ]
    assert students[0] == students[1]


@pytest.mark.parametrize(
    ("to", "options", "reason"),
    [
        ("a.txt", {}, "to: "),
        ("a.onnx", {"weight_bits": 9}, r"weight_bits: must be in 2 … 8; got 9"),
        ("a.onnx", {"activation_bits": 1}, "activation_bits: must be in 2 … 8; got 1"),
        ("a.onnx", {"effort": "minute"}, "did you mean minutes"),
        ("a.onnx", {"input": "pixels"}, "input: must be one of"),
        ("a.onnx", {"data": "nowhere"}, "nowhere is not a folder"),
        ("a.onnx", {"classes": "classes.txt"}, "classes: .*; give data too"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(
    teacher: Teacher, tmp_path: Path, to: str, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        quantize_model(teacher, tmp_path / to, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["teacher.json", "teacher.md"])
def test_a_file_of_another_kind_is_not_written_over(
    teacher: Teacher, tmp_path: Path, other: str
) -> None:
    (tmp_path / other).write_text('{"format": "mine"}')
    with pytest.raises(InvalidArgument, match=rf"^to: .*{other}"):
        quantize_model(teacher, tmp_path / "teacher.onnx", effort="seconds")
    assert [path.name for path in tmp_path.iterdir()] == [other]


def test_a_student_of_another_command_is_not_written_over(
    teacher: Teacher, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    make_student(4).save(tmp_path / "student")
    before = files(tmp_path / "student")
    with pytest.raises(InvalidArgument, match=rf"^to: {tmp_path}/student, which gets the student"):
        quantize_model(teacher, tmp_path, effort="seconds")
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    assert files(tmp_path / "student") == before


def test_a_student_of_this_command_is_replaced(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynadfq.deploy.quantize_model.export_qdq", export_nothing)
    made: list[dict[str, bytes]] = []
    monkeypatch.setattr(Work, "delete", lambda work: made.append(files(work.folder / "student")))
    for widths in ((8, 8), (4, 6), (4, 6)):  # the last one reads what was made before
        quantize_model(teacher, tmp_path / "out", *widths, effort="seconds")
        assert files(tmp_path / "out" / "student") == made[-1]
    scheme = dynadfq.load_student(tmp_path / "out" / "student", teacher.module).scheme
    assert (scheme.weight_bits, scheme.activation_bits) == (4, (6,))


def test_a_folder_may_have_a_dot_in_its_name(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynadfq.deploy.quantize_model.export_qdq", export_nothing)
    folder = tmp_path / "rel-1.0"
    with pytest.raises(InvalidArgument, match=r"^to: .*; make one with a dot in its name first"):
        quantize_model(teacher, folder, effort="seconds")
    folder.mkdir()
    made = quantize_model(teacher, folder, effort="seconds")
    assert (made.path, made.card) == (folder / "model.onnx", folder / "card.md")
    assert (folder / "student" / "student.json").exists()


def test_unfinished_work_of_another_preprocessing_is_not_continued(
    teacher: Teacher, make_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    other = Teacher(make_net(), teacher.input_shape, teacher.num_classes, (0.1,) * 3, teacher.std)
    folders = {Work.beside(tmp_path / "a.onnx", one).folder for one in (teacher, teacher, other)}
    assert len(folders) == 2


def test_a_network_without_statistics_is_quantized_in_seconds(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynadfq.deploy.quantize_model.export_qdq", export_nothing)
    plain = Teacher(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6)),
        (3, 8, 8),
        *(6, teacher.mean, teacher.std),
    )
    with pytest.raises(ValueError, match=r"effort: .* BatchNorm .*; seconds needs no images"):
        quantize_model(plain, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
    assert quantize_model(plain, tmp_path / "a.onnx", effort="seconds").measured.images == 8


def test_a_site_that_no_statistics_reach_is_quantized_in_seconds(tmp_path: Path) -> None:
    norm = nn.BatchNorm2d(4)
    nn.init.ones_(norm.bias)
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), norm, nn.ReLU()]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 64, 6)).eval()
    network = Teacher(module, (3, 8, 8), 6, (0.5,) * 3, (0.5,) * 3)
    student = quantize_model(network, tmp_path / "a.onnx", effort="seconds").student
    assert all((site.high > site.low).all() for site in student.sites)


def test_what_cannot_be_exported_is_said_before_images_are_made(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise ValueError("fc: has no integer form")

    monkeypatch.setattr("dynadfq.deploy.student.qdq_model", refuse)
    with counted_steps(monkeypatch) as steps, pytest.raises(ValueError, match="no integer form"):
        quantize_model(teacher, tmp_path / "a.onnx")
    assert steps == [] and list(tmp_path.iterdir()) == []


def test_the_documented_work_is_done() -> None:
    assert HOURS.finetune is not None
    steps = HOURS.finetune.total_steps(HOURS.images)
    row = f"| `hours` | {HOURS.images}, {HOURS.iterations} steps each | to nearest | "
    assert f"{row}DynaDFQ's, {steps:,} steps |" in COMMANDS.read_text(encoding="utf-8")


def test_the_working_directory_is_an_output_too(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Work.beside(Path("."), teacher).top == tmp_path.with_name(f"{tmp_path.name}.unfinished")


@pytest.mark.parametrize(("weights", "uniform"), [(4, False), (4, True), (5, False)])
def test_layers_that_lose_most_have_8_bits(
    teacher: Teacher, tmp_path: Path, weights: int, uniform: bool
) -> None:
    made = quantize_model(
        teacher, tmp_path / "w4.onnx", weights, uniform=uniform, say=lambda _: None
    )
    layers = {
        name: layer
        for name, layer in made.student.network.named_modules()
        if isinstance(layer, QuantizedLayer)
    }
    widths = {name: layer.weight_bits for name, layer in layers.items()}
    counts = {name: layer.weight.numel() for name, layer in layers.items()}
    mean = sum(counts[name] * widths[name] for name in widths) / sum(counts.values())
    mixed = weights == 4 and not uniform
    assert set(widths.values()) == ({4, 8} if mixed else {weights})
    assert weights <= mean <= weights + 1
    form, images = to_integer_form(made.student), teacher.example.repeat(8, 1, 1, 1)
    assert share_equal(answers(made.path, images), form(images)) == 1


def test_the_plan_says_what_takes_how_long() -> None:
    lines = plan(Effort(128, 100, 64, "squant", None), 4, 8, False, "a.onnx", 0.01)
    assert lines == [
        "images: 128 + 64 held back, 100 steps each (about 3 min)",  # 208 · 100 · 0.01 s
        "student: W4A8 (8 bits in some layers, 5 on average at most), weights rounded by SQuant "
        "(about 4 s)",
        "file: a.onnx, checked in onnxruntime (about 30 s)",
        "measurement: agreement with the float network, size and time",
    ]
    eight = plan(Effort(128, 100, 64, "squant", None), 8, 8, False, "a.onnx", 0.01)
    assert "weights rounded to nearest" in eight[1]
    hours = plan(Effort(64, 1, 64, "nearest", FinetuneConfig(steps=100)), 4, 4, True, "a", 0.01)
    assert hours[1].endswith("100 steps of fine-tuning (about 9 min)")  # 2 · 100 · 256 · 0.01 s
    none = plan(EFFORTS["seconds"], 8, 8, False, "a.onnx", 0.01)
    assert none[0] == (
        "images: none; activation ranges follow from BatchNorm statistics, or from noise"
    )


def test_the_time_of_an_image_is_that_of_one(make_net: Callable[[], nn.Module]) -> None:
    assert (
        0 < efforts.seconds_per_image(Teacher(make_net(), (3, 8, 8), 6, (0, 0, 0), (1, 1, 1))) < 10
    )
