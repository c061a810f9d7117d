"""Students whose candidate widths have clipping ranges of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dynadfq.evaluation.layer_report import inspect_student
from dynadfq.evaluation.tables import site_table
from dynadfq.export.integer_form import to_integer_form
from dynadfq.ptq.calibration import (
    Average,
    calibrate,
    ema_of_bounds,
    extremes,
    least_squared_error,
    legacy_ema_of_bounds,
    ranges_of_batch,
    relative_ranges,
)
from dynadfq.ptq.ranges import noise_range, setting_ranges
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.bits import BitAllocation, uniform
from dynadfq.quant.build import load_student
from dynadfq.quant.config import QuantizationConfig, Scheme
from dynadfq.quant.fake_quantize import FakeQuantize
from dynadfq.quant.model import Student
from dynadfq.quant.quantize import fake_quantize_reference, levels, quantize
from dynadfq.quant.range_config import RangeConfig
from dynadfq.quant.selector_config import CandidatesConfig

Build = Callable[..., Student]
WIDTHS = [3, 4, 5]
LOW = torch.tensor([-0.3, -0.5, -0.6], dtype=torch.float64)
HIGH = torch.tensor([0.7, 1.0, 1.1], dtype=torch.float64)


@pytest.fixture
def x() -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return 2 * torch.randn(6, 3, 5, 5, generator=rng, dtype=torch.float64)


def gradients(out: Tensor, upstream: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (out, *torch.autograd.grad((out * upstream).sum(), inputs))


def per_candidate(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The readable form at each candidate's own range, (B, M, …)."""
    return torch.stack(
        [fake_quantize_reference(x, low[m], high[m], bits) for m, bits in enumerate(WIDTHS)], dim=1
    )


def test_each_candidate_of_a_blend_has_its_own_range(x: Tensor) -> None:
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    p = torch.rand(6, 3, generator=torch.Generator().manual_seed(1), dtype=x.dtype).softmax(dim=1)
    inputs = tuple(v.clone().requires_grad_() for v in (x, LOW, HIGH, p))
    ours = gradients(FakeQuantize.apply(*inputs, torch.tensor([WIDTHS])), upstream, inputs)
    candidates = per_candidate(*inputs[:3])
    soft = (inputs[3].view(6, 3, 1, 1, 1) * candidates).sum(dim=1)
    hard = candidates[torch.arange(6), p.argmax(dim=1)].detach()
    expected = gradients(hard + (soft - soft.detach()), upstream, inputs)
    for value, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(value, reference, atol=1e-12, rtol=1e-12)


def test_an_image_at_one_width_moves_that_widths_range_alone(x: Tensor) -> None:
    site = ActivationFakeQuantize(0, 5, True, range_widths=WIDTHS).double().train()
    site.set_range(LOW, HIGH)
    bits = torch.tensor([[3.0], [4], [3], [3], [4], [3]])
    out, scale = site(x, BitAllocation(bits))
    assert scale is None
    expected = per_candidate(x, site.low, site.high)[torch.arange(6), bits[:, 0].long() - 3]
    inputs = (site.low, site.high)
    ours, reference = (gradients(form, torch.ones_like(x), inputs) for form in (out, expected))
    for value, by_hand in zip(ours, reference, strict=True):
        torch.testing.assert_close(value, by_hand, atol=1e-12, rtol=1e-12)
    assert (ours[2][:2] != 0).all() and ours[2][2] == 0


@pytest.mark.parametrize("bits", range(2, 9))
def test_another_width_takes_the_nearest_range_the_wider_of_two(bits: int) -> None:
    site = ActivationFakeQuantize(0, 6, False, range_widths=(3, 5, 6))
    site.set_range(torch.zeros(3), torch.tensor([3.0, 5.0, 6.0]))
    expected = {2: 3.0, 3: 3.0, 4: 5.0, 5: 5.0}.get(bits, 6.0)
    assert site.range_at(bits)[1] == site.range_at(torch.tensor([bits]))[1] == expected


@pytest.mark.parametrize("placement", ["relu_output", "layer_input"])
@pytest.mark.parametrize("training", [True, False])
def test_equal_ranges_are_the_shared_range(
    make_student: Build, images: Tensor, placement: str, training: bool
) -> None:
    shared = make_student(placement=placement).train(training)
    own = make_student(placement=placement, ranges="per_width")
    assert own.selector is not None and shared.selector is not None
    own.selector.load_state_dict(shared.selector.state_dict())
    own.selector.dropout.p = shared.selector.dropout.p = 0.0
    for site, other in zip(own.sites, shared.sites, strict=True):
        site.set_range(other.low.detach(), other.high.detach())
    own.train(training)
    logits, bits = own.run(images)
    expected, expected_bits = shared.run(images)
    assert torch.equal(logits, expected) and torch.equal(bits, expected_bits)
    if not training:
        forms = [to_integer_form(student) for student in (own, shared)]
        assert torch.equal(forms[0](images), forms[1](images))
        return
    logits.square().sum().backward()
    expected.square().sum().backward()
    for site, other in zip(own.sites, shared.sites, strict=True):
        if other.high.grad is not None:
            assert site.high.grad is not None
            torch.testing.assert_close(site.high.grad.sum(), other.high.grad, atol=0, rtol=1e-4)


def scaled(student: Student) -> Student:
    """Ranges that differ by width as calibration has them, more so."""
    for site in student.sites:
        site.set_range(
            site.low.detach() * torch.tensor([0.5, 0.8, 1.0]),
            site.high.detach() * torch.tensor([0.5, 0.8, 1.0]),
        )
    return student


@pytest.mark.parametrize("placement", ["relu_output", "layer_input"])
def test_every_form_uses_them_and_a_file_keeps_them(
    make_student: Build, make_net: Callable[[], nn.Module], images: Tensor, tmp_path: Path,
    placement: str,
) -> None:  # fmt: skip
    student = scaled(make_student(placement=placement, ranges="per_width"))
    form = to_integer_form(student, widest=8)
    student.save(tmp_path)
    loaded = load_student(tmp_path, make_net())
    for allocation in (None, uniform(2, 4), uniform(3, 4), uniform(5, 4), uniform(8, 4)):
        logits, bits = student.run(images, allocation)
        again, bits_again = loaded.run(images, allocation)
        assert torch.equal(logits, again) and torch.equal(bits, bits_again)
        codes, code_bits = form.run(images, allocation)
        assert ((codes - logits).abs().amax(dim=1) > 1e-5).double().mean() <= 0.02
        assert torch.equal(bits, code_bits.to(bits))
    for width, column in ((3, 0), (5, 2)):
        alone = make_student(width, placement=placement)
        for site, other in zip(alone.sites, student.sites, strict=True):
            site.set_range(other.low.detach()[column], other.high.detach()[column])
        assert torch.equal(alone(images), student.run(images, uniform(width, 4))[0])


def test_a_file_of_shared_ranges_does_not_mention_them(make_student: Build, tmp_path: Path) -> None:
    make_student().save(tmp_path)
    assert '"ranges"' not in (tmp_path / "student.json").read_text()


@pytest.mark.parametrize("saved", ["per_width", None])
def test_ranges_of_another_sharing_are_refused(
    make_student: Build, make_net: Callable[[], nn.Module], tmp_path: Path, saved: str | None
) -> None:
    make_student(ranges=saved).save(tmp_path)
    facts = tmp_path / "student.json"
    text = facts.read_text()
    changed = (
        text.replace('    "ranges": "per_width",\n', "")
        if saved
        else text.replace('    "scheme": ', '    "ranges": "per_width",\n    "scheme": ')
    )
    assert changed != text
    facts.write_text(changed)
    with pytest.raises(ValueError, match=r"sites\.low"):
        load_student(tmp_path, make_net())


def test_an_image_is_answered_alike_in_any_batch(make_student: Build, images: Tensor) -> None:
    form = to_integer_form(scaled(make_student(ranges="per_width")))
    logits, bits = form.run(images)
    assert len(bits.unique(dim=0)) > 5
    for size in (1, 7):
        parts = [form.run(batch) for batch in images.split(size)]
        assert torch.equal(torch.cat([part for part, _ in parts]), logits)
        assert torch.equal(torch.cat([used for _, used in parts]), bits)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_relative_ranges_are_those_of_least_squared_error(bits: int) -> None:
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).relu()
    (ratio,) = relative_ranges(x, 4, [bits])
    highs = torch.linspace(0.2, 1, 1000) * x.max()

    def best(bits: int) -> Tensor:
        errors = [
            (quantize(x, scale, torch.zeros(()), levels(bits)) * scale - x).square().mean()
            for scale in highs / levels(bits)
        ]
        return highs[torch.stack(errors).argmin()]

    # Errors are flat around the least one, and the library's ranges are 3 % apart.
    assert float(ratio) == pytest.approx(float(best(bits) / best(4)), rel=0.05)
    assert relative_ranges(x, bits, [bits]) == 1
    assert torch.equal(relative_ranges(5 * x, 4, [bits]), ratio[None])


def test_relative_ranges_of_nothing() -> None:
    assert relative_ranges(torch.zeros(2, 3), 4, WIDTHS).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("average", [None, ema_of_bounds, legacy_ema_of_bounds])
def test_calibration_keeps_the_targets_range(
    make_student: Build, images: Tensor, average: Average | None
) -> None:
    more = {} if average is None else {"average": average}
    students = [make_student(), make_student(ranges="per_width")]
    for student in students:
        calibrate(student, images.split(128), extremes, **more)
    for shared, own in zip(*(student.sites for student in students), strict=True):
        assert torch.equal(own.high[1], shared.high) and torch.equal(own.low[1], shared.low)
        assert own.high[0] < own.high[1] == own.high[2]


@pytest.mark.parametrize("widths", [(3, 4, 5), (4, 5), (2, 4), (2, 6)])
def test_narrower_widths_shrink_and_wider_ones_follow_the_rule(widths: tuple[int, ...]) -> None:
    x = torch.randn(4, 5_000, generator=torch.Generator().manual_seed(0))
    target = 4
    for rule in (extremes, least_squared_error):
        low, high = ranges_of_batch(rule, x, target, widths)
        assert low.shape == high.shape == (len(widths),)
        for column, width in enumerate(widths):
            expected = torch.stack(rule(x, max(width, target)))
            if width < target:
                expected = expected * relative_ranges(x, target, [width])
            assert torch.equal(torch.stack([low[column], high[column]]), expected)
    assert ranges_of_batch(extremes, x, target, ()) == extremes(x)


def test_ranges_that_are_set_in_a_pass_belong_to_a_width_too(
    make_student: Build, images: Tensor
) -> None:
    student = make_student(ranges="per_width")
    with setting_ranges(student, noise_range):
        student.run(images, student.uniform(4))
    site = student.sites[0]
    assert site.high[0] < site.high[1] <= site.high[2]


def test_limits_hold_at_every_width() -> None:
    site = ActivationFakeQuantize(0, 5, True, limits=(0.0, 6.0), range_widths=WIDTHS)
    site.set_range(torch.tensor([-1.0, -1.0, 1.0]), torch.tensor([5.0, 6.5, 7.0]))
    assert site.ranges == [(0.0, 5.0), (0.0, 6.0), (0.0, 6.0)]
    assert "[0, 5], [0, 6], [0, 6]" in repr(site)


def test_the_setting_reaches_the_scheme() -> None:
    own = QuantizationConfig(ranges=RangeConfig(per_width=True))
    assert Scheme.of(own, CandidatesConfig()).ranges == "per_width"
    assert Scheme.of(own, None).ranges is None
    assert Scheme.of(QuantizationConfig(), CandidatesConfig()).ranges is None
    with pytest.raises(ValueError, match=r"per_width needs several activation_bits; got \[4\]"):
        Scheme(activation_bits=(4,), target_bits=4, ranges="per_width")


def test_reports_show_the_ranges_of_all_widths(make_student: Build) -> None:
    student, fixed = scaled(make_student(ranges="per_width")), make_student(4)
    table = site_table(student, fixed, torch.full((2, 4), 4.0))
    assert (table["high"] == table["high_4"]).all() and (table["high_3"] < table["high_4"]).all()
    assert "high_4" not in site_table(make_student(), fixed, torch.full((2, 4), 4.0))
    conv2 = next(layer for layer in inspect_student(student) if layer.layer == "conv2")
    assert conv2.range == tuple(student.sites[0].ranges) and len(conv2.range) == 3
