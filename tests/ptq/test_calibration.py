from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynadfq.ptq.calibration import (
    Observer,
    calibrate,
    ema_of_bounds,
    extremes,
    least_squared_error,
    legacy_ema_of_bounds,
    mean_of_bounds,
    median_of_extremes,
    observer,
    observing,
    quantiles,
    ranges_of_batch,
)
from dynadfq.quant.model import Student
from dynadfq.quant.quantize import choose_qparams, levels, quantize

X = torch.tensor([[-1.0, 0.0, 2.0, 5.0], [-3.0, 1.0, 1.0, 4.0], [-2.0, 0.5, 3.0, 100.0]])


def test_ranges_of_a_batch_by_hand() -> None:
    assert [v.item() for v in extremes(X)] == [-3.0, 100.0]
    assert [v.item() for v in median_of_extremes(X)] == [-2.0, 5.0]
    assert [v.item() for v in quantiles(X, 0.75)] == [
        -1.0,
        4.0,
    ]  # three of twelve values on each side
    assert [v.item() for v in quantiles(X, 1.0)] == [-3.0, 100.0]
    assert quantiles(X.relu(), 0.5)[0] == 0.0
    assert quantiles(X + 4, 0.75)[0] == 0.0  # zero stays in the range


@pytest.mark.parametrize("widths", [(2, 3), (3, 4, 5), (4,), (5, 6)])
def test_each_width_has_a_range(widths: tuple[int, ...]) -> None:
    low, high = ranges_of_batch(least_squared_error, X, 4, widths)
    assert low.shape == high.shape == (len(widths),)
    assert (low <= 0).all() and (high > 0).all() and (high.diff() >= 0).all()


NOISE = torch.randn(2000, generator=torch.Generator().manual_seed(0))


def squared_error(x: Tensor, low: Tensor, high: Tensor, bits: int) -> float:
    scale, quant_min = choose_qparams(low, high, bits)
    return float((quantize(x, scale, quant_min, levels(bits)) * scale - x).square().mean())


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("x", [NOISE.relu(), NOISE, NOISE + 4, NOISE - 9, 50 * NOISE**3])
def test_no_range_has_less_error_than_that_of_least_squared_error(x: Tensor, bits: int) -> None:
    low, high = least_squared_error(x, bits)
    least, most = x.amin().clamp(max=0), x.amax().clamp(min=0)
    assert least <= low <= 0 <= high <= most
    # The ranges tried are 3 % apart, which matters where none clips much.
    tolerance = 1.1 if bits == 8 else 1.01
    assert squared_error(x, low, high, bits) <= tolerance * min(
        squared_error(x, least * share, most * share, bits)
        for share in torch.linspace(0.05, 1, 400)
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_least_squared_error_beats_the_full_range(bits: int) -> None:
    x = NOISE.relu()

    low, high = least_squared_error(x, bits)
    assert low == 0 and 0 < high < x.max()
    assert squared_error(x, low, high, bits) < 0.9 * squared_error(x, *extremes(x), bits)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_constant_is_in_its_range(value: float) -> None:
    low, high = least_squared_error(torch.full((4, 5), value), 4)
    assert low == min(value, 0) and high == max(value, 0)


@pytest.mark.parametrize("name", ["max", "median_max", "quantile", "mse"])
def test_every_rule_has_a_name_and_includes_zero(name: str) -> None:
    low, high = observer(name, 0.9)(X.relu(), 4)
    assert low == 0 and 0 < high <= 100


def test_averages_of_a_constant_and_the_released_codes_defect() -> None:
    for batches in (1, 2, 20, 200):
        constant = torch.ones(batches, dtype=torch.float64)
        assert mean_of_bounds(constant) == 1
        assert ema_of_bounds(constant) == pytest.approx(1)
    overshoot = [float(legacy_ema_of_bounds(torch.ones(n))) for n in range(1, 201)]
    assert overshoot[:4] == pytest.approx([1.0, 5.2632, 17.848, 47.000], rel=1e-4)
    assert max(overshoot) == overshoot[20] == pytest.approx(3945.1, rel=1e-4)
    assert next(n for n, value in enumerate(overshoot, start=1) if n > 1 and value < 1.01) == 153
    late = torch.rand(300, generator=torch.Generator().manual_seed(0))
    assert float(legacy_ema_of_bounds(late)) == pytest.approx(float(ema_of_bounds(late)), rel=1e-4)
    assert float(ema_of_bounds(torch.tensor([0.0, 1.0]))) == pytest.approx(0.1 / 0.19)


def test_an_observer_averages_without_bias() -> None:
    constant = Observer(extremes)
    for _ in range(20):
        constant.update(torch.tensor([[-0.5, 1.0]]))
        assert [v.item() for v in constant.range()] == [-0.5, 1.0]
    both = Observer(extremes)
    both.update(torch.tensor([[-1.0, 1.0]]))
    both.update(torch.tensor([[0.0, 4.0]]))
    assert [v.item() for v in both.range()] == [-0.5, 2.5]


def test_sites_are_calibrated_on_float_activations(
    make_student: Callable[..., Student], images: Tensor
) -> None:
    student = make_student(placement="layer_input")
    seen: dict[int, list[Tensor]] = {}
    with student.unquantized():
        handles = [
            site.register_forward_pre_hook(
                lambda site, inputs: seen.setdefault(site.site, []).append(inputs[0])
            )
            for site in student.sites
        ]
        for batch in images.split(100):
            student(batch)
    for handle in handles:
        handle.remove()
    before = student(images)
    calibrate(student, images.split(100), median_of_extremes)
    for site in student.sites:
        batches = [median_of_extremes(x) for x in seen[site.site]]
        low, high = (torch.stack(values).mean() for values in zip(*batches, strict=True))
        torch.testing.assert_close(site.high.data, high)
        torch.testing.assert_close(site.low.data, low.clamp(max=0))
        assert site.low <= 0 <= site.high
    assert not torch.equal(student(images), before)


def test_watching_changes_nothing(make_student: Callable[..., Student], images: Tensor) -> None:
    student = make_student()
    before = student(images)
    with observing(student, extremes) as observers:
        student(images)
    assert all(len(watcher.ranges) == 1 for watcher in observers)
    assert torch.equal(student(images), before)
    assert all(len(watcher.ranges) == 1 for watcher in observers)
