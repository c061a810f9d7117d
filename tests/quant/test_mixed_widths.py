"""Students whose layers and sites have widths of their own: cost, files, integer form, exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dynadfq.evaluation.evaluate import evaluate
from dynadfq.evaluation.layer_report import inspect_student
from dynadfq.export.integer_form import to_integer_form
from dynadfq.quant.build import load_student
from dynadfq.quant.config import Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.width_config import MixedWidths
from dynadfq.runtime.errors import InvalidArgument

WEIGHTS = {"conv1": 8, "conv2": 3, "conv3": 5, "conv4": 2, "fc": 6}


@pytest.fixture
def mixed(make_student: Callable[..., Student]) -> Student:
    sites = make_student(4).site_names
    activations = dict(zip(sites, (5, 3, 8, 2), strict=True))
    return make_student(4, mixed=MixedWidths(weights=WEIGHTS, activations=activations))


def test_the_cost_is_the_sum_over_layers(mixed: Student) -> None:
    macs = {layer.name: layer.macs for layer in mixed.cost.trace.layers}
    inputs = {"conv1": 32, "conv2": 5, "conv3": 3, "conv4": 8, "fc": 32}
    expected = sum(macs[name] * WEIGHTS[name] * inputs[name] for name in macs)
    total = expected + 1024 * mixed.cost.trace.elementwise_operations
    assert float(mixed.cost.total(mixed.own_allocation.bits[0])) == total
    table = mixed.cost.at(mixed.own_allocation.bits[0]).layers
    assert dict(zip(table["layer"], table["weight_bits"], strict=True)) == WEIGHTS
    assert table["bit_flops"].sum() == expected
    costs = mixed.cost_range()
    assert costs["lowest"] == costs["target"] == costs["highest"]


def test_every_part_has_its_width(mixed: Student, images: Tensor) -> None:
    _, bits = mixed.run(images[:3])
    assert bits.tolist() == [[5, 3, 8, 2]] * 3
    rows = {row.layer: row for row in inspect_student(mixed)}
    assert {name: rows[name].weight_bits for name in WEIGHTS} == WEIGHTS
    assert rows["conv3"].activation_bits == (3,) and rows["conv4"].activation_bits == (8,)
    for name, width in WEIGHTS.items():
        layer = mixed.network.get_submodule(name)
        codes, _ = layer.weight_codes()
        assert int((codes - layer.qparams[1]).max()) == 2**width - 1, name


def test_files_hold_it_bit_for_bit(
    mixed: Student, images: Tensor, make_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    mixed.save(tmp_path)
    loaded = load_student(tmp_path, make_net())
    assert loaded.scheme == mixed.scheme and loaded.cost_range() == mixed.cost_range()
    assert all(map(torch.equal, loaded.run(images), mixed.run(images)))
    card = (tmp_path / "card.md").read_text()
    assert "Weights: 2 … 8 bits by sensitivity" in card and "Activations: 2 … 8 bits" in card


def test_the_integer_form_has_its_widths(mixed: Student, images: Tensor) -> None:
    form = to_integer_form(mixed)
    logits, bits = form.run(images)
    expected, own = mixed.run(images)
    assert torch.equal(bits, own)
    assert (logits.argmax(dim=1) == expected.argmax(dim=1)).double().mean() > 0.97
    found = evaluate(mixed, [(images, None)])
    assert found.bit_flops_percent == pytest.approx(mixed.cost_range()["target"])
    assert found.mean_activation_bits == pytest.approx(4.5)


def test_a_uniform_student_is_as_before(make_student: Callable[..., Student]) -> None:
    student = make_student(4)
    assert "mixed" not in student.describe()["scheme"]
    assert torch.equal(student.own_allocation.bits, student.uniform(4).bits)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": {"conv9": 4}}, r"mixed\.weights: .* no layer 'conv9' .* did you mean conv\d"),
        ({"activations": {"nowhere": 4}}, r"mixed\.activations: .* no site 'nowhere'"),
    ],
)
def test_unknown_names_are_refused(
    make_student: Callable[..., Student], given: dict[str, dict[str, int]], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make_student(4, mixed=MixedWidths(**given))


def test_sites_have_one_width_or_images_choose() -> None:
    with pytest.raises(ValueError, match="mixed"):
        Scheme(activation_bits=(3, 4, 5), mixed=MixedWidths(activations={"relu": 4}))
