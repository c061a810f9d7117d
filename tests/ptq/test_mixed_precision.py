"""Static mixed precision: sensitivities by definition, and the best widths of all."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import get_args

import pytest
import torch

import dynadfq
from dynadfq.graph.bit_flops import CostModel
from dynadfq.ptq import mixed_precision
from dynadfq.ptq.calibration import calibrate, observer
from dynadfq.ptq.mixed_precision import best_widths, sensitivities, sensitivity_widths
from dynadfq.quant.build import build_student
from dynadfq.quant.config import QuantizationConfig, Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.quantize import choose_qparams, fake_quantize_weight, levels, quantize
from dynadfq.quant.range_config import RangeConfig, RangeRule
from dynadfq.quant.sensitivity import divergence
from dynadfq.quant.width_config import AllocationConfig
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

LAYERS = ("conv1", "conv2", "conv3", "conv4", "fc")
FOUR = Scheme(weight_bits=4, activation_bits=(4,), target_bits=4)


def config(*widths: int, keep_size: bool = False) -> QuantizationConfig:
    allocation = AllocationConfig(rule="sensitivity", widths=widths, images=24, keep_size=keep_size)
    return QuantizationConfig(allocation=allocation)


@pytest.fixture
def probe(teacher: Teacher) -> Student:
    return build_student(teacher, FOUR)


@torch.no_grad()
def test_a_sensitivity_is_the_divergence_with_one_part_quantized(
    probe: Student, teacher: Teacher, synthetic: SyntheticSet
) -> None:
    table = sensitivities(probe, teacher, synthetic, config(2, 6), Scratch(None))
    assert table.shape == (5 + 4, 2) and (table[:, 0] > table[:, 1]).sum() >= 8
    images = synthetic.take(torch.arange(24)).images
    expected = teacher(images)
    layer = probe.network.get_submodule("conv4")
    float_weight = layer.weight.clone()
    layer.weight.copy_(fake_quantize_weight(float_weight, 2, None, False))
    with probe.unquantized():
        assert table[3, 0] == pytest.approx(
            float(divergence(expected, probe(images)).mean()), rel=1e-4
        )
    layer.weight.copy_(float_weight)
    site = probe.sites[1]
    low, high = site.low.clone(), site.high.clone()  # left behind at the last width

    def quantized(module: object, given: object, out: tuple[torch.Tensor, None]) -> object:
        scale, smallest = choose_qparams(low, high, torch.tensor(6.0))
        return quantize(out[0], scale, smallest, levels(torch.tensor(6.0))) * scale, None

    hook = site.register_forward_hook(quantized)
    with probe.unquantized():
        assert table[6, 1] == pytest.approx(
            float(divergence(expected, probe(images)).mean()), rel=1e-4
        )
    hook.remove()


def test_nothing_but_ranges_is_left_behind(
    probe: Student, teacher: Teacher, synthetic: SyntheticSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [(layer.weight_bits, layer.quantizing) for layer in probe.layers]
    before += [(site.bits, site.quantizing) for site in probe.sites]
    calls = iter([torch.tensor([0.1])] * 13)  # in the middle of the second site
    monkeypatch.setattr(mixed_precision, "divergence", lambda *_: next(calls))
    with pytest.raises(StopIteration):
        sensitivities(probe, teacher, synthetic, config(2, 6), Scratch(None))
    after = [(layer.weight_bits, layer.quantizing) for layer in probe.layers]
    assert before == after + [(site.bits, site.quantizing) for site in probe.sites]


def test_an_interrupted_measurement_goes_on(
    teacher: Teacher, synthetic: SyntheticSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sensitivity_widths(teacher, FOUR, synthetic, config(2, 4, 8), Scratch(None))
    count = iter(range(20))
    real = mixed_precision.divergence

    def fails(*given: torch.Tensor) -> torch.Tensor:
        if next(count) == 10:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(mixed_precision, "divergence", fails)
    with pytest.raises(KeyboardInterrupt):
        sensitivity_widths(teacher, FOUR, synthetic, config(2, 4, 8), Scratch(tmp_path))
    monkeypatch.setattr(mixed_precision, "divergence", real)
    assert len(Scratch(tmp_path).load()["rows"]) == 3  # type: ignore[index]
    assert whole == sensitivity_widths(teacher, FOUR, synthetic, config(2, 4, 8), Scratch(tmp_path))


@pytest.mark.parametrize("keep_size", [False, True])
def test_the_widths_are_the_best_within_the_budget(probe: Student, keep_size: bool) -> None:
    widths = (3, 6)
    rng = torch.Generator().manual_seed(2)
    table = torch.rand(9, 2, generator=rng, dtype=torch.float64).sort(descending=True).values
    found = best_widths(probe, table, config(*widths, keep_size=keep_size).allocation)
    budget = float(probe.cost.total(torch.full((4,), 4.0)))
    weights = [layer.weight.numel() for layer in probe.layers]
    possible = {}
    for bits in product(widths, repeat=9):
        named = dict(zip(LAYERS, bits, strict=False))
        cost = CostModel(probe.cost.trace, probe.site_names, 4, named)
        size = sum(b * n for b, n in zip(bits, weights, strict=False))
        if keep_size and size > 4 * sum(weights):
            continue
        if float(cost.total(torch.tensor(bits[5:]))) <= budget:
            possible[bits] = sum(float(table[i, widths.index(b)]) for i, b in enumerate(bits))
    chosen = (*found.weights.values(), *found.activations.values())
    assert list(found.weights) == list(LAYERS)
    assert possible[chosen] == pytest.approx(min(possible.values()), rel=2e-4)


def test_widths_that_images_choose_stay(teacher: Teacher, synthetic: SyntheticSet) -> None:
    dynamic = Scheme(weight_bits=4, activation_bits=(3, 4, 5), target_bits=4)
    found = sensitivity_widths(teacher, dynamic, synthetic, config(2, 4, 8), Scratch(None))
    assert found.activations == {} and set(found.weights) == set(LAYERS)


def test_quantize_takes_the_images(teacher: Teacher, synthetic: SyntheticSet) -> None:
    student = dynadfq.quantize(teacher, 4, 4, sensitivity_images=synthetic)
    by_default = QuantizationConfig(allocation=AllocationConfig(rule="sensitivity"))
    found = sensitivity_widths(teacher, FOUR, synthetic, by_default, Scratch(None))
    assert student.scheme.mixed == found and set(found.weights.values()) != {4}
    assert [layer.weight_bits for layer in student.layers] == list(found.weights.values())
    assert [site.bits for site in student.sites] == list(found.activations.values())


def test_sites_of_eight_bits_stay(teacher: Teacher, synthetic: SyntheticSet) -> None:
    scheme = FOUR.model_copy(update={"scheme": "integer"})
    found = sensitivity_widths(teacher, scheme, synthetic, config(2, 4, 8), Scratch(None))
    student = build_student(teacher, scheme.model_copy(update={"mixed": found}))
    wide = {name for name, s in zip(student.site_names, student.sites, strict=True) if s.wide}
    assert wide and set(found.activations) == set(student.site_names) - wide
    uniform = build_student(teacher, scheme)
    assert student.cost_range()["target"] <= uniform.cost_range()["target"] * (1 + 1e-9)


@pytest.mark.parametrize("rule", get_args(RangeRule))
def test_sensitivities_are_measured_in_the_ranges_that_calibration_gives(
    teacher: Teacher, synthetic: SyntheticSet, rule: RangeRule
) -> None:
    probe = build_student(teacher, FOUR)
    quantization = QuantizationConfig(
        allocation=AllocationConfig(rule="sensitivity", widths=(2,), images=24),
        ranges=RangeConfig(observer=rule),
    )
    sensitivities(probe, teacher, synthetic, quantization, Scratch(None))
    student = build_student(teacher, FOUR.model_copy(update={"activation_bits": (2,)}))
    images = [synthetic.take(torch.arange(24)).images]
    calibrate(student, images, observer(rule, quantization.ranges.quantile))
    for measured, calibrated in zip(probe.sites, student.sites, strict=True):
        torch.testing.assert_close((measured.low, measured.high), (calibrated.low, calibrated.high))


def test_sites_of_eight_bits_are_not_measured(
    teacher: Teacher, synthetic: SyntheticSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = build_student(teacher, FOUR.model_copy(update={"scheme": "integer"}))
    calls: list[int] = []
    monkeypatch.setattr(
        mixed_precision, "divergence", lambda *_: calls.append(0) or torch.tensor([0.1])
    )
    table = sensitivities(probe, teacher, synthetic, config(2, 6), Scratch(None))
    wide = torch.tensor([False] * 5 + [site.wide for site in probe.sites])
    assert wide.any() and len(calls) == 2 * int((~wide).sum())
    assert (table[wide] == 0).all() and (table[~wide] > 0).all()
