"""Files that other engines run: what is in them, that they agree, and that a file which does not is
never written."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

from dynadfq.api import quantize
from dynadfq.export import onnx_export
from dynadfq.export.conversion_report import unsafe
from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.onnx_export import check, export_onnx
from dynadfq.export.program import export_program
from dynadfq.graph.activations import ACTIVATIONS
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]
KINDS = {onnx.TensorProto.UINT4, onnx.TensorProto.UINT8, onnx.TensorProto.INT8}


def run(path: Path, images: Tensor, **inputs: object) -> tuple[Tensor, Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits, bits = session.run(["logits", "bits"], {"images": images.numpy(), **inputs})
    return torch.from_numpy(logits), torch.from_numpy(bits)


class Exported(NamedTuple):
    """A student and its file."""

    student: Student
    result: onnx_export.Export

    @property
    def path(self) -> Path:
        return self.result.path


@pytest.fixture(scope="module")
def dynamic(
    make_student: Build, images: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    student = make_student(3, 4, 5, placement="layer_input", ranges="per_width")
    student.multiplier = 0.7
    path = tmp_path_factory.mktemp("dynamic") / "model.onnx"
    return Exported(student, export_onnx(student, path, images[:40]))


@pytest.fixture(scope="module")
def static(
    make_student: Build, images: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    student, path = make_student(4), tmp_path_factory.mktemp("static") / "model.onnx"
    return Exported(student, export_onnx(student, path, images[:40]))


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_onnxruntime_computes_the_same_to_the_bit_in_any_batch(
    images: Tensor, kind: str, request: pytest.FixtureRequest
) -> None:
    student, export = request.getfixturevalue(kind)
    assert export.size == export.path.stat().st_size and export.images == 40
    assert export.worst == 0
    logits, widths = to_integer_form(student).run(images)
    for size in (256, 3, 1):
        parts = [run(export.path, batch) for batch in images[:12].split(size)]
        assert torch.equal(torch.cat([part for part, _ in parts]), logits[:12])
        assert torch.equal(torch.cat([used for _, used in parts]).float(), widths[:12])
    model = onnx.load(export.path)
    weights = {
        t.name: t.data_type
        for t in model.graph.initializer
        if t.name.endswith((".codes", ".weight"))
    }
    assert set(weights.values()) <= KINDS and onnx.TensorProto.UINT4 in weights.values()
    kinds = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in kinds


def test_the_multiplier_is_an_optional_input(
    dynamic: Exported, static: Exported, images: Tensor
) -> None:
    for multiplier in (None, 0.0, -3.0, 5.0):
        expected = to_integer_form(dynamic.student).run(images, multiplier=multiplier)
        given = {} if multiplier is None else {"multiplier": np.array(multiplier)}
        logits, bits = run(dynamic.path, images, **given)
        assert torch.equal(logits, expected[0]) and torch.equal(bits.float(), expected[1])
    assert [value.name for value in onnx.load(static.path).graph.input] == ["images"]


def test_a_file_says_what_it_is(dynamic: Exported) -> None:
    model = onnx.load(dynamic.path)
    onnx.checker.check_model(model)
    assert [opset.version for opset in model.opset_import] == [21] and not model.functions
    card = json.loads({entry.key: entry.value for entry in model.metadata_props}["dynadfq"])
    assert card["class_names"] == list("012345") and card["mean"] == [0.5, 0.4, 0.6]
    assert card["activation_bits"] == [3, 4, 5] and card["weight_bits"] == 4
    assert card["sites"] == list(dynamic.student.site_names)
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_a_file_that_disagrees_is_not_written(
    make_student: Build, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, student, other = tmp_path / "model.onnx", make_student(4), make_student(4)
    with torch.no_grad():
        other.layers[-1].bias.add_(2e-4)  # type: ignore[union-attr]
    content = onnx_export.onnx_model(to_integer_form(other), other)
    monkeypatch.setattr(onnx_export, "onnx_model", lambda *_: content)
    with pytest.raises(
        ArithmeticError, match=r"logits differ by up to 0\.000\d+, more than 0\.0001; not written"
    ):
        export_onnx(student, path, images[:4])
    assert not path.exists()


def test_other_bits_are_not_written(dynamic: Exported, images: Tensor) -> None:
    student = deepcopy(dynamic.student)
    student.multiplier = 3.0
    with pytest.raises(
        ArithmeticError, match=r"onnxruntime chooses other bits for .* of 4 images; not written"
    ):
        check(dynamic.path.read_bytes(), to_integer_form(student), images[:4])


def test_what_is_asked_for_wrongly(make_student: Build, images: Tensor, tmp_path: Path) -> None:
    for export in (export_onnx, export_program):
        with pytest.raises(ValueError, match="images: give at least one"):
            export(make_student(4), tmp_path / "model", images[:0])


def test_packages_that_are_missing_are_named(
    make_student: Build, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"ONNX export needs onnxscript: pip install onnxscript"):
        export_onnx(make_student(4), tmp_path / "model.onnx", images)


@pytest.mark.parametrize("bits", [(3, 4, 5), (4,)])
def test_a_program_computes_the_same_without_this_library(
    make_student: Build, images: Tensor, tmp_path: Path, bits: tuple[int, ...]
) -> None:
    student, path = make_student(*bits), tmp_path / "model.pt2"
    codes = export_program(student, path, images[:8])
    program = torch.export.load(path).module()
    budget = (torch.tensor(1.5, dtype=torch.float64),) if len(bits) > 1 else ()
    for batch in (images, images[:1]):
        logits, used = program(batch, *budget)
        expected, widths = codes.run(batch, multiplier=1.5 if budget else None)
        assert torch.equal(logits, expected) and torch.equal(used.float(), widths)


class Chain(nn.Module):
    """Layers with an activation behind each."""

    def __init__(self, activations: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 5, 1)
        self.blocks = nn.ModuleList(nn.Sequential(act, nn.Conv2d(4, 4, 1)) for act in activations)

    def forward(self, x: Tensor) -> Tensor:
        x = 4 * self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x.relu()).amax((2, 3))


SETTINGS = (nn.GELU("tanh"), nn.ELU(0.3), nn.CELU(0.7), nn.Softplus(3.0, 5.0), nn.RReLU())
MODULES = (*(kind() for kind in ACTIVATIONS), *SETTINGS)
GROUPS = [MODULES[start::6] for start in range(6)]  # an export takes seconds


@pytest.mark.parametrize("activations", GROUPS, ids=lambda group: "-".join(map(str, group)))
def test_every_activation_is_the_same_in_every_engine(
    activations: tuple[nn.Module, ...], images: Tensor, tmp_path: Path
) -> None:
    student = quantize(
        Teacher(Chain(activations), (3, 8, 8), 5, (0,) * 3, (1,) * 3), activation_bits=(3, 5)
    )
    calibrate(student, [images], extremes)
    export = export_onnx(student, tmp_path / "model.onnx", images[:40])
    assert export.worst <= 1e-6 and not unsafe(export.facts)
    codes = to_integer_form(student)
    assert (codes(images) - student(images)).abs().median() < 1e-5


def test_squeeze_and_excite_blocks_with_hard_activations(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks = [InvertedResidualConfig(8, 3, 16, 8, True, act, 1, 1, 1.0) for act in ("RE", "HS")]
    module, noise = MobileNetV3(blocks, 16, num_classes=5).eval(), torch.randn(8, 3, 32, 32)
    student = quantize(Teacher(module, (3, 32, 32), 5, (0,) * 3, (1,) * 3), activation_bits=(3, 5))
    calibrate(student, [noise], extremes)
    export = export_onnx(student, tmp_path / "model.onnx", noise)
    assert export.worst <= 1e-6 and not unsafe(export.facts)
