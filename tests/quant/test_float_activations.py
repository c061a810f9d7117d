"""Students whose weights alone are quantized: `target_bits` is 32, and activations stay float32."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dynadfq
from dynadfq.data.labelled import LabelledSet
from dynadfq.evaluation.comparison import compare
from dynadfq.evaluation.config import EvaluationConfig
from dynadfq.evaluation.evaluate import evaluate
from dynadfq.evaluation.layer_report import inspect_student
from dynadfq.evaluation.record import Metrics
from dynadfq.export.conversion_report import in_floats
from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.onnx_export import check, export_onnx, onnx_session
from dynadfq.export.program import export_program
from dynadfq.export.qdq import export_qdq
from dynadfq.methods import METHODS
from dynadfq.methods.adaround import Student as AdaRound
from dynadfq.quant.artifact import FACTS, StudentRecord, read_facts
from dynadfq.quant.build import build_student, load_student
from dynadfq.quant.config import QuantizationConfig, Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.model_card import model_card
from dynadfq.quant.packing import to_tensors
from dynadfq.quant.rounding_config import BlockReconstructionConfig
from dynadfq.quant.selector_config import CandidatesConfig
from dynadfq.quant.width_config import MixedWidths
from dynadfq.runtime.artifact import record_bytes
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import fold_batch_norms
from dynadfq.training.prepare import new_student, prepare_student
from dynadfq.training.recipe import StudentRecipe

Build = Callable[..., Student]


@pytest.fixture
def student(make_student: Build) -> Student:
    return make_student(32)


def with_its_weights(module: nn.Module, student: Student) -> nn.Module:
    """A float network with the quantized weights of a student of it."""
    network = deepcopy(module)
    for name, layer in student.network.named_modules():
        if hasattr(layer, "quantized_weight"):
            network.get_submodule(name).weight.data.copy_(layer.quantized_weight)
    return network


def widths_of(student: Student) -> set[int]:
    """The numbers of different weights in each output channel."""
    return {
        len(channel.unique())
        for layer in student.layers
        for channel in layer.quantized_weight.flatten(1)
    }


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("folded", [False, True])
def test_it_is_the_float_network_with_its_weights_bit_for_bit(
    teacher: Teacher, images: Tensor, training: bool, granularity: str, folded: bool
) -> None:
    network = fold_batch_norms(teacher) if folded else teacher
    scheme = Scheme(
        weight_bits=3, activation_bits=(32,), target_bits=32, weight_granularity=granularity
    )
    student = build_student(network, scheme)
    expected = with_its_weights(network.module, student)(images)
    student.train(training)
    assert torch.equal(student(images), expected)
    assert not torch.allclose(expected, teacher(images), atol=1e-3)
    with student.unquantized():
        assert torch.equal(student(images), network(images))
    assert max(widths_of(student)) <= 2**3


def test_an_image_does_not_depend_on_its_batch(student: Student, images: Tensor) -> None:
    form = to_integer_form(student)
    for network in (student, form):
        whole = network(images)
        alone = torch.cat([network(image[None]) for image in images[:16]])
        torch.testing.assert_close(alone, whole[:16], rtol=1e-5, atol=1e-5)


def test_the_cost_is_that_of_float_inputs(
    student: Student, teacher: Teacher, images: Tensor
) -> None:
    trace = student.cost.trace
    products = 4 * 32 * sum(layer.macs for layer in trace.layers)
    total = products + 1024 * trace.elementwise_operations
    assert float(student.cost.total(student.own_allocation.bits[0])) == total
    percent = 100 * total / student.cost.float_total
    assert list(student.cost_range().values()) == pytest.approx([percent] * 3)
    logits, bits = student.run(images[:3])
    assert bits.shape == (3, 0) and logits.shape == (3, 6)
    same = dynadfq.bit_flops(teacher, None, 4, 32)
    assert same.percent == pytest.approx(percent)
    assert student.cost.float_input_macs_percent == 100


def test_a_saved_student_is_the_same(
    student: Student, images: Tensor, make_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    student.save(tmp_path / "first")
    loaded = load_student(tmp_path / "first", make_net())
    assert torch.equal(loaded(images), student(images))
    loaded.save(tmp_path / "second")
    for name in ("model.safetensors", FACTS, "card.md"):
        first, second = (tmp_path / folder / name for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    assert not [n for n in to_tensors(student.network, (32,)) if n.startswith("sites.")]
    card = (tmp_path / "first/card.md").read_text()
    assert (
        "W4, A{32}" in card
        and "An image classifier with quantized weights; activations are float32. `" in card
    )
    assert "- Activations: float32\n" in card


def test_a_record_without_sites_is_of_float_activations(student: Student, tmp_path: Path) -> None:
    student.save(tmp_path)
    facts = read_facts(tmp_path).model_dump(mode="json", exclude_unset=True)
    facts["scheme"] |= {"activation_bits": [4], "target_bits": 4}
    with pytest.raises(InvalidArgument, match=r"sites: must be one or more, since activations"):
        record_bytes(facts, StudentRecord)


def test_it_is_evaluated_and_reported_with_32_bits(
    student: Student, teacher: Teacher, synthetic: SyntheticSet, images: Tensor
) -> None:
    found = evaluate(student, [(images, None)], teacher)
    assert found.mean_activation_bits == 32
    assert found.per_image["mean_bits"].eq(32).all() and found.bits.shape == (256, 0)
    assert torch.equal(found.predictions, student(images).argmax(dim=1))
    config = EvaluationConfig(batch_size=10, control_repeats=2, budgets=3)
    pixels = torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8)
    test = LabelledSet(student.preprocessing, pixels, torch.arange(24) % 6)
    metrics, tables = compare(student, student, teacher, synthetic, test, "some", config, 0)
    assert record_bytes(metrics, Metrics)
    assert metrics["fixed"]["bits"] == metrics["student"]["mean_activation_bits"] == 32
    assert metrics["control"]["difference"] == metrics["fixed"]["difference"] == 0
    assert "lowest_bits" not in tables["per_image"] and tables["sites"].empty
    rows = inspect_student(student)
    assert {(row.status, row.activation_bits, row.weight_bits) for row in rows} == {
        ("weights", (32,), 4)
    }
    assert {row.reason for row in rows} == {""}
    card = model_card(student.describe() | {"bytes": 7}, metrics)
    table = [line for line in card.splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[0] for line in table] == ["| float", "| this student"]


def test_exports_compute_the_same_in_float32(
    make_student: Build, images: Tensor, tmp_path: Path
) -> None:
    student = make_student(32, mixed=MixedWidths(weights={"conv1": 8, "conv2": 3, "fc": 5}))
    form = to_integer_form(student)
    torch.testing.assert_close(form(images), student(images), rtol=1e-5, atol=1e-5)
    assert {fact.form for fact in form.facts} == {"float32"}
    assert {tensor.dtype for tensor in form.network.buffers() if tensor.is_floating_point()} == {
        torch.float32
    }
    [line] = in_floats(form.facts)
    assert "pool" in line and line.endswith(": float32, as all activations")
    export = export_onnx(student, tmp_path / "student.onnx", images[:40])
    assert export.worst < 1e-5
    session = onnx_session((tmp_path / "student.onnx").read_bytes())
    logits, bits = session.run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), student(images), rtol=1e-5, atol=1e-5)
    assert bits.shape == (256, 0)
    export_program(student, tmp_path / "student.pt2", images[:5])
    program = torch.export.load(tmp_path / "student.pt2").module()
    torch.testing.assert_close(program(images)[0], student(images), rtol=1e-5, atol=1e-5)
    with pytest.raises(InvalidArgument, match="scheme"):
        export_qdq(student, tmp_path / "qdq.onnx", images[:2])


def test_an_export_is_refused_beyond_the_precision_of_its_logits(
    teacher: Teacher, images: Tensor, tmp_path: Path
) -> None:
    torch.nn.init.normal_(teacher.module.fc.weight, std=1e5)
    student = dynadfq.quantize(teacher, 4, 32)
    export = export_onnx(student, tmp_path / "student.onnx", images[:40])
    assert 1e-4 < export.worst < 1e-5 * student(images).abs().max()
    other = to_integer_form(dynadfq.quantize(teacher, 5, 32))
    with pytest.raises(ArithmeticError, match=r"logits differ by up to .*; not written"):
        check((tmp_path / "student.onnx").read_bytes(), other, images[:4])


@pytest.mark.parametrize(
    ("recipe", "rounding"),
    [
        (StudentRecipe(), "nearest"),
        (StudentRecipe(), "squant"),
        (StudentRecipe(), "block"),
        (METHODS["squant"]().student.recipe(), "nearest"),
        (METHODS["dfq"]().student.recipe(), "nearest"),
        (AdaRound(iterations=20, num_images=16).recipe(), "nearest"),
    ],
    ids=["nearest", "squant", "block", "method-squant", "method-dfq", "method-adaround"],
)
def test_every_rounding_serves_it(
    teacher: Teacher, synthetic: SyntheticSet, images: Tensor, recipe: StudentRecipe, rounding: str
) -> None:
    scheme = Scheme(weight_bits=3, activation_bits=(32,), target_bits=32)
    student = new_student(teacher, recipe, scheme, seed=0)
    before = student(images)
    reconstruction = BlockReconstructionConfig(iterations=10, num_images=16, learning_rate=0.1)
    quantization = QuantizationConfig(rounding=rounding, reconstruction=reconstruction)
    prepare_student(student, teacher, synthetic, recipe, 0, quantization)
    assert torch.equal(student(images), before) is (
        rounding == "nearest" and recipe == StudentRecipe()
    )
    assert max(widths_of(student)) <= 2**3


def test_fine_tuning_moves_its_weights_alone(teacher: Teacher, synthetic: SyntheticSet) -> None:
    student = dynadfq.quantize(teacher, 3, 32)
    before = {name: p.detach().clone() for name, p in student.network.named_parameters()}
    tune = partial(dynadfq.finetune, student, teacher, synthetic, batch_size=8)
    history = tune(steps=3, learning_rate=0.01, method="zeroq")
    assert history["mean_bits"].eq(32).all()
    assert history["bit_flops_percent"].eq(student.cost_range()["target"]).all()
    moved = [n for n, p in student.network.named_parameters() if not torch.equal(p, before[n])]
    assert {"conv1.weight", "fc.weight"} <= set(moved)
    with pytest.raises(InvalidArgument, match="any_width: the student has one width, 32 bits"):
        tune(any_width=True)


def test_sensitivity_gives_layers_widths_of_equal_cost(
    teacher: Teacher, synthetic: SyntheticSet
) -> None:
    uniform = dynadfq.quantize(teacher, 4, 32)
    mixed = dynadfq.quantize(teacher, 4, 32, sensitivity_images=synthetic)
    found = mixed.scheme.mixed
    assert found is not None and not found.activations
    assert len(set(found.weights.values())) > 1
    assert mixed.cost_range()["target"] <= uniform.cost_range()["target"] * (1 + 1e-6)


def test_the_selector_is_left_out() -> None:
    scheme = Scheme.of(QuantizationConfig(target_bits=32), CandidatesConfig())
    assert scheme == Scheme.of(QuantizationConfig(target_bits=32), None)
    assert scheme.float_activations and not scheme.dynamic and scheme.activation_bits == (32,)
    assert not Scheme.of(QuantizationConfig(), None).float_activations


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"activation_bits": (4, 32)}, r"activation_bits: must be 32 alone for float activations"),
        ({"activation_bits": (16,)}, r"in 2 … 8, or 32 for activations that stay float32; got 16"),
        ({"activation_bits": (32,), "scheme": "integer"}, r"in 2 … 8 with scheme integer"),
        ({"activation_bits": (32,), "ranges": "per_width"}, r"ranges: per_width needs several"),
        ({"target_bits": 33}, r"in 2 … 8, or 32 for activations that stay float32; got 33"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Scheme(**{"target_bits": 32} | values)  # type: ignore[arg-type]


def test_it_has_no_widths_to_choose(
    student: Student, teacher: Teacher, synthetic: SyntheticSet, images: Tensor
) -> None:
    wrong: Any
    for wrong in (4, [], torch.tensor([32, 32])):
        with pytest.raises(InvalidArgument, match=r"bits: .* this student's activations are float"):
            evaluate(student, [(images, None)], bits=wrong)
    own = evaluate(student, [(images, None)])
    given = evaluate(student, [(images, None)], bits=32)
    assert given.per_image.equals(own.per_image) and torch.equal(given.bits, own.bits)
    logits, bits = student.run(images[:3], student.allocation(32))
    assert torch.equal(logits, student(images[:3])) and bits.shape == (3, 0)
    with pytest.raises(ValueError, match="fixed width, 32 bits, and no bit selector"):
        student.set_budget(5.0, synthetic)
    some = student.cost.trace.activations[0].name
    mixed = MixedWidths(activations={some: 4})
    scheme = Scheme(activation_bits=(32,), target_bits=32, mixed=mixed)
    with pytest.raises(InvalidArgument, match=r"mixed.activations: .* whose width can be chosen"):
        build_student(teacher, scheme)
