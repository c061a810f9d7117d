"""QDQ files: their numbers are those of the integer form, and engines run them with integers."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import torch
from everything import MEAN, SHAPE, STD, integer_student, pixels
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.export import qdq, qdq_checks
from dynadfq.export.engines import unquantized_onnx
from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.onnx_export import onnx_session
from dynadfq.export.qdq import export_qdq
from dynadfq.export.qdq_checks import PRODUCTS, Agreement, EngineCheck, Failure
from dynadfq.export.qdq_graph import Grid
from dynadfq.export.qdq_model import qdq_model
from dynadfq.quant.integer import SiteConstants
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.teacher import Teacher


def run(path: Path, images: Tensor) -> Tensor:
    session = onnx_session(path.read_bytes(), exact=sums_overflow())
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@lru_cache
def sums_overflow() -> bool:
    """Whether onnxruntime, as it is by default, adds products in 16 bits on this processor."""
    x = numpy.full((1, 2), 255, numpy.uint8)
    weights = numpy.full((2, 1), 127, numpy.int8)
    node = onnx.helper.make_node("MatMulInteger", ["x", "weights"], ["sums"])
    graph = onnx.helper.make_graph(
        [node],
        "sums",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [1, 2])],
        [onnx.helper.make_tensor_value_info("sums", onnx.TensorProto.INT32, [1, 1])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    opset = [onnx.helper.make_opsetid("", 21)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    [sums] = onnx_session(model.SerializeToString()).run(None, {"x": x})
    return int(sums.item()) != 2 * 255 * 127


def student_of(module: nn.Module, bits: int = 8) -> Student:
    return integer_student(bits, bits, Teacher(module.eval(), SHAPE, 6, MEAN, STD))


@pytest.mark.parametrize(
    ("weights", "activations", "input"),
    [(8, 8, "float32"), (7, 8, "float32"), (4, 8, "uint8"), (4, 4, "float32")],
)
def test_the_file_has_the_numbers_of_the_integer_form(
    tmp_path: Path, weights: int, activations: int, input: Any
) -> None:
    if weights == 8 and sums_overflow():
        pytest.skip("sums of 8-bit weights overflow here, and layers share a weight")
    student, path = integer_student(weights, activations), tmp_path / "model.onnx"
    export = export_qdq(student, path, pixels(), input, timed=False)
    exact = student.preprocessing.denormalize(pixels()).round().clamp(0, 255)
    read = exact.byte() if input == "uint8" else pixels()
    expected = to_integer_form(student)(pixels())
    logits = torch.cat([run(path, part) for part in read.split(7)])
    # SiLU and sigmoid are floats, whose last bit may put a value on the other side of a boundary.
    assert (logits == expected).all(dim=1).float().mean() > 0.9
    assert torch.equal(torch.cat([run(path, image[None]) for image in read[:5]]), logits[:5])
    assert export.agreement.images == 64 and export.agreement.same_class == 64
    assert not PRODUCTS & export.kernels.counts.keys()
    assert not {node.operator for node in export.kernels.floats if "QLinear" in node.operator}
    assert export.kernels.counts["QLinearConv"] == 8 and export.kernels.counts["QGemm"] == 1
    assert {"QLinearAdd", "QLinearMul", "QLinearConcat"} <= export.kernels.counts.keys()
    model = onnx.load(path)
    kinds = Counter(t.data_type for t in model.graph.initializer if t.name.endswith(".codes"))
    assert kinds == {onnx.TensorProto.INT4 if weights == 4 else onnx.TensorProto.INT8: 9}
    clips = [node for node in model.graph.node if node.op_type == "Clip"]
    assert bool(clips) == (activations == 4)


class Resnet(nn.Module):
    """Convolutions with BatchNorm around a shortcut, without any function of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.next, self.pool = nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.MaxPool2d(2)
        self.fc = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        x = F.relu(self.next(x) + self.pool(x))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Student, qdq.QdqExport]:
    torch.manual_seed(0)
    student = student_of(Resnet())
    student.description["class_names"] = ["ä", *"bcdef"]
    path = tmp_path_factory.mktemp("qdq") / "model.onnx"
    return student, export_qdq(student, path, pixels())


def test_without_functions_of_floats_all_bits_of_all_logits_are_equal(
    exported: tuple[Student, qdq.QdqExport],
) -> None:
    student, export = exported
    assert export.agreement == Agreement(64, 64, 0.0) and not export.kernels.floats
    assert not export.kernels.in_words()
    assert torch.equal(run(export.path, pixels()), to_integer_form(student)(pixels()))
    assert "DequantizeLinear" not in export.kernels.counts


def test_layers_that_may_overflow_without_vnni_are_named(
    exported: tuple[Student, qdq.QdqExport], tmp_path: Path
) -> None:
    export = exported[1]
    may = "x86 processors without VNNI may overflow in conv and 2 more; weights of 7 bits never do"
    exact = Agreement(64, 64, 0.0)
    export = replace(export, openvino=None, check=EngineCheck(exact, True, None))
    assert export.remarks() == [may]
    overflown = EngineCheck(exact, True, Agreement(64, 46, 0.5))
    assert replace(export, check=overflown).remarks() == [
        "on this processor sums overflow (it probably has no VNNI): 46 of 64 check images have the "
        "student's class, 64 with onnxruntime's session option session.x64quantprecision=1; "
        "weights of 7 bits never overflow"
    ]
    notes = json.loads(export.path.with_suffix(".json").read_text(encoding="utf-8"))
    assert notes["saturating"] == ["conv", "next", "fc"]
    assert notes["session_options"] == {"session.x64quantprecision": "1"}
    teacher = Teacher(Resnet().eval(), SHAPE, 6, MEAN, STD)
    seven = export_qdq(integer_student(7, 8, teacher), tmp_path / "7.onnx", pixels(), timed=False)
    assert seven.saturating == () and seven.check == EngineCheck(seven.agreement, False, None)
    assert replace(seven, openvino=None).remarks() == []
    in_openvino = replace(export, openvino=Agreement(64, 63, 0.5))
    assert in_openvino.remarks()[0] == "OpenVINO gives 63 of 64 check images the student's class"


def test_a_network_whose_channels_are_last_has_the_same_files(
    exported: tuple[Student, qdq.QdqExport],
) -> None:
    student = exported[0]
    last = deepcopy(student).to(memory_format=torch.channels_last)
    assert qdq_model(last) == qdq_model(student)
    floats = [onnx.load_from_string(unquantized_onnx(each)) for each in (last, student)]
    operators = [[node.op_type for node in model.graph.node] for model in floats]
    assert operators[0] == operators[1]


def test_the_file_is_as_engines_read_it(exported: tuple[Student, qdq.QdqExport]) -> None:
    model = onnx.load(exported[1].path)
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import] == [21] and not model.functions
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = (
                (constants[name] for name in (*node.input[1:], "")[:2] if name)
                if len(node.input) == 3
                else (constants[node.input[1]], None)
            )
            per_channel = node.input[0] in constants
            assert len(scale.dims) == per_channel
            assert zero is None or len(zero.dims) == per_channel
    names = [node.name for node in model.graph.node]
    assert {"conv/Conv", "next/Conv", "fc/Gemm"} <= set(names) and len(set(names)) == len(names)
    assert [value.name for value in model.graph.output] == ["logits"] and "quantized" in (
        model.doc_string
    )
    card = json.loads({entry.key: entry.value for entry in model.metadata_props}["dynadfq"])
    assert card["mean"] == list(MEAN) and card["class_names"][0] == "ä"


def test_the_json_file_beside_it(exported: tuple[Student, qdq.QdqExport]) -> None:
    student, export = exported
    notes = json.loads(export.path.with_suffix(".json").read_text(encoding="utf-8"))
    content = export.path.read_bytes()
    assert notes["sha256"] == sha256(content).hexdigest() and notes["bytes"] == len(content)
    assert notes["class_names"][0] == "ä" and notes["input_shape"] == list(SHAPE)
    assert notes["input"] == {"name": "images", "type": "float32", "layout": "NCHW"}
    assert notes["made_from"]["scheme"] == student.scheme.model_dump(mode="json")
    assert notes["onnxruntime"]["same_class"] == notes["onnxruntime"]["images"] == 64
    convolution, norm, second, linear = 3 * 8 * 9, 2 * 8, 8 * 8 * 9 + 8, 8 * 6 + 6
    assert notes["float_bytes"] == 4 * (convolution + norm + second + linear)
    assert [row["batch"] for row in notes["times"]] == [1, 32]
    for row in notes["times"]:
        assert row["ratio"] == pytest.approx(row["file_ms"] / row["float_ms"])


def test_without_times_both_files_have_the_same_bytes_again(
    exported: tuple[Student, qdq.QdqExport], tmp_path: Path
) -> None:
    student, export = exported
    for name in "ab":
        export_qdq(student, tmp_path / name / "model.onnx", pixels()[:9], timed=False)
    for file in ("model.onnx", "model.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert (tmp_path / "a/model.onnx").read_bytes() == export.path.read_bytes()


class Structures(nn.Module):
    """What the network with everything lacks: other padding, tokens, a layer on a constant, a
    BatchNorm before its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, 1, 1, padding_mode="reflect")
        self.uneven = nn.Conv2d(8, 8, 2, padding="same")
        self.tokens, self.position = nn.Linear(8, 8), nn.Parameter(torch.randn(1, 8, 1, 1))
        self.of_constant, self.fc = nn.Conv2d(8, 8, 1), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(F.relu(self.norm(x))))
        x = self.uneven(F.pad(x, (0, 1, 1, 0))) + self.of_constant(self.position)
        x = self.tokens(x.flatten(2).transpose(1, 2)).relu()
        logits: Tensor = self.fc(x.mean(1))
        return logits


def test_padding_tokens_constants_and_a_norm_before_its_layer(tmp_path: Path) -> None:
    torch.manual_seed(1)
    student = student_of(Structures())
    export = export_qdq(student, tmp_path / "model.onnx", pixels(), timed=False)
    assert export.agreement.same_class == 64 and export.agreement.worst < 1e-3
    floats = {node.name for node in export.kernels.floats if node.operator in PRODUCTS}
    assert floats <= {"of_constant"}
    assert export.kernels.counts["QLinearConv"] == 2


@pytest.mark.parametrize(
    ("bits", "scheme", "problem"),
    [
        ((3, 4, 5), "paper", r"chooses among \[3, 4, 5\] bits for every image, which a QDQ file"),
        ((4,), "paper", "has scheme paper, which integer engines cannot run; quantize with scheme"),
    ],
)
def test_students_that_no_integer_engine_can_run(
    make_student: Callable[..., Student],
    images: Tensor,
    tmp_path: Path,
    bits: Any,
    scheme: str,
    problem: str,
) -> None:
    with pytest.raises(InvalidArgument, match=f"student: {problem}"):
        export_qdq(make_student(*bits), tmp_path / "model.onnx", images)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["student.onnx", "notes.onnx", "model.json"])
def test_the_json_file_beside_it_replaces_none_of_another_kind(
    exported: tuple[Student, qdq.QdqExport], tmp_path: Path, name: str
) -> None:
    student, _ = exported
    student.save(tmp_path)
    (tmp_path / "notes.json").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InvalidArgument, match=r"^path: "):
        export_qdq(student, tmp_path / name, pixels(), timed=False)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_disagrees_is_not_written(
    exported: tuple[Student, qdq.QdqExport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(7)
    content = qdq.qdq_model(student_of(Resnet()))
    monkeypatch.setattr(qdq, "qdq_model", lambda *_: content)
    with pytest.raises(ArithmeticError, match=r"onnxruntime gives \d+ of 64 images the student's"):
        export_qdq(exported[0], tmp_path / "model.onnx", pixels())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("images", "same", "enough"), [(1000, 998, True), (1000, 997, False)])
def test_the_share_of_images_with_the_students_class(images: int, same: int, enough: bool) -> None:
    assert Agreement(images, same, 0.5).sufficient == enough


@pytest.mark.parametrize(
    ("zero_point", "scale", "limits", "redundant"),
    [
        (0, 6 / 255, (0.0, 6.0), True),
        (0, 5 / 255, (0.0, 6.0), True),
        (0, 7 / 255, (0.0, 6.0), False),
        (9, 6 / 255, (0.0, float("inf")), False),
        (128, 2 / 255, (-1.0, 1.0), False),
        (127, 1.9 / 255, (-1.0, 1.0), True),
    ],
)
def test_a_clip_is_left_out_only_where_codes_end_within_it(
    zero_point: int, scale: float, limits: tuple[float, float], redundant: bool
) -> None:
    grid = Grid(SiteConstants(torch.tensor(scale), zero_point, 8))
    assert grid.clips_to(*limits) == redundant
    x = torch.linspace(-9, 9, 1001)
    assert torch.equal(grid(x.clamp(*limits)), grid(x)) or not redundant


OPENVINO = """
import os, signal
import numpy


class Core:
    def read_model(self, content):
        return content

    def compile_model(self, model, device):
        return answer


def answer(images):
    {body}
"""
CRASH = "os.kill(os.getpid(), signal.SIGSEGV)"
NOT_FINITE = 'return {"logits": numpy.full((len(images), 6), numpy.nan, dtype=numpy.float32)}'
REFUSAL = 'raise RuntimeError("Operation QLinear is not supported\\nat src/core.cpp:12")'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (REFUSAL, "RuntimeError: Operation QLinear is not supported"),
        (NOT_FINITE, "its logits are not finite"),
        (CRASH, "it crashed (SIGSEGV)"),
    ],
)
def test_a_file_that_openvino_does_not_run_is_written_with_the_reason(
    exported: tuple[Student, qdq.QdqExport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    reason: str,
) -> None:
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "openvino.py").write_text(OPENVINO.format(body=body))
    monkeypatch.syspath_prepend(stub)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    export = export_qdq(exported[0], tmp_path / "model.onnx", pixels()[:9], timed=False)
    assert isinstance(export.openvino, Failure) and export.openvino.reason.startswith(reason)
    notes = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert notes["openvino"] == {"reason": export.openvino.reason}
    assert f"OpenVINO does not run the file: {export.openvino.reason}" in export.remarks()
    assert (tmp_path / "model.onnx").read_bytes() == exported[1].path.read_bytes()


def test_openvino_runs_it(exported: tuple[Student, qdq.QdqExport]) -> None:
    pytest.importorskip("openvino")
    found = exported[1].openvino
    assert isinstance(found, Agreement) and found.same_class >= 60


@pytest.mark.parametrize(
    ("default", "exact", "may_overflow", "found"),
    [
        (60, 64, True, EngineCheck(Agreement(64, 64, 0.0), True, Agreement(64, 60, 0.0))),
        (64, 64, True, EngineCheck(Agreement(64, 64, 0.0), True, None)),
        (64, None, True, EngineCheck(Agreement(64, 64, 0.0), False, None)),  # it has no exact sums
        (64, 0, False, EngineCheck(Agreement(64, 64, 0.0), False, None)),
        (60, None, True, r"60 of 64 .* not written; on .* without VNNI, sums .* use 7-bit weights"),
        (60, 60, True, r"60 of 64 .* not written$"),
        (60, 64, False, r"60 of 64 .* not written$"),
    ],
)
def test_a_processor_that_overflows_is_told_from_a_file_that_is_wrong(
    default: int,
    exact: int | None,
    may_overflow: bool,
    found: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def runner(*_: Any, threads: int, exact: bool) -> bool:
        return exact

    def compared(answer: bool, *_: Any) -> Agreement:
        same = exact if answer else default
        if same is None:
            raise RuntimeError("FAIL : Attempt to replace the existing tensor")
        return Agreement(64, same, 0.0)

    monkeypatch.setattr(qdq_checks, "onnx_runner", runner)
    monkeypatch.setattr(qdq_checks, "compare", compared)

    def check() -> EngineCheck:
        return qdq_checks.checked_in_onnxruntime(b"", torch.zeros(0), pixels(), may_overflow)

    if isinstance(found, str):
        with pytest.raises(ArithmeticError, match=found):
            check()
    else:
        assert check() == found
