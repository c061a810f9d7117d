"""Moments of clipped normal variables: hand numbers, samples, and quadrature against the closed
form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dynadfq.graph.gaussian import batch_norm_gaussian, clipped_moments, moments_after


@pytest.mark.parametrize(
    ("mean", "std", "bounds", "first", "second"),
    [
        (0.3, 1.2, (0.0, 6.0), 0.6436, 1.0552),
        (-0.5, 0.7, (0.0, math.inf), 0.0976, 0.0676),
        (5.0, 2.0, (0.0, 6.0), 4.6084, 23.409),
        (0.0, 1.0, (0.0, math.inf), 1 / math.sqrt(2 * math.pi), 0.5),
        (0.7, 0.4, (-math.inf, math.inf), 0.7, 0.7**2 + 0.4**2),
    ],
)
def test_by_hand(
    mean: float, std: float, bounds: tuple[float, float], first: float, second: float
) -> None:
    m1, variance = clipped_moments(torch.tensor(mean), torch.tensor(std**2), *bounds)
    assert m1.item() == pytest.approx(first, abs=1e-4)
    assert (variance + m1**2).item() == pytest.approx(second, rel=1e-3)


@pytest.mark.parametrize("bounds", [(0.0, math.inf), (0.0, 6.0), (-1.0, 1.0), (-math.inf, 0.5)])
def test_moments_are_those_of_samples(bounds: tuple[float, float]) -> None:
    rng = torch.Generator().manual_seed(0)
    mean, std = torch.tensor([-2.0, 0.0, 1.0, 5.0]), torch.tensor([1.0, 0.5, 2.0, 1.0])
    samples = (mean + std * torch.randn(400_000, 4, generator=rng)).clamp(*bounds)
    m1, variance = clipped_moments(mean, std**2, *bounds)
    torch.testing.assert_close(m1, samples.mean(dim=0), atol=0.01, rtol=0)
    torch.testing.assert_close(variance, samples.var(dim=0), atol=0.03, rtol=0)


def test_a_constant_and_the_far_tails_are_finite() -> None:
    mean, variance = torch.tensor([-1.0, 2.0, -1e4, 1e4]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    m1, spread = clipped_moments(mean, variance, low=0.0)
    torch.testing.assert_close(m1, torch.tensor([0.0, 2.0, 0.0, 1e4]))
    assert torch.isfinite(spread).all() and (spread >= 0).all()
    assert spread[3].item() == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("weight", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_batch_norm_may_lack_its_weight_or_bias(weight: bool, bias: bool) -> None:
    norm = nn.BatchNorm2d(3)
    norm.weight = nn.Parameter(torch.tensor([-0.1, 2.0, 5.0])) if weight else None
    norm.bias = nn.Parameter(torch.tensor([1.0, -2.0, 0.0])) if bias else None
    found = batch_norm_gaussian(norm)
    assert found is not None
    assert torch.equal(found.mean, torch.tensor([1.0, -2.0, 0.0] if bias else [0.0] * 3))
    assert torch.equal(found.std, torch.tensor([0.1, 2.0, 5.0] if weight else [1.0] * 3))


class Rectifier(nn.Module):
    """A ReLU that is not known as one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=0)


def test_other_activations_by_quadrature() -> None:
    mean = torch.linspace(-2, 2, 9)[None, :, None, None].expand(1, 9, 2, 2)
    closed = moments_after(nn.ReLU(), mean, torch.ones_like(mean))
    for ours, theirs in zip(
        moments_after(Rectifier(), mean, torch.ones_like(mean)), closed, strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=4e-4, rtol=0)
    x = mean + torch.randn(400_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    for kind in (nn.SiLU(), nn.GELU(), nn.LeakyReLU(0.1), nn.PReLU(9)):
        m1, variance = moments_after(kind, mean, torch.ones_like(mean))
        torch.testing.assert_close(m1, kind(x).mean(dim=0, keepdim=True), atol=0.01, rtol=0)
        torch.testing.assert_close(variance, kind(x).var(dim=0, keepdim=True), atol=0.02, rtol=0)


def test_what_a_batch_norm_says() -> None:
    norm = nn.BatchNorm2d(2)
    norm.weight.data, norm.bias.data = torch.tensor([-0.5, 2.0]), torch.tensor([0.1, -1.0])
    gaussian = batch_norm_gaussian(norm)
    assert gaussian is not None
    assert torch.equal(gaussian.mean, norm.bias) and gaussian.std.tolist() == [0.5, 2.0]
    plain = batch_norm_gaussian(nn.BatchNorm2d(2, affine=False))
    assert plain is not None and plain.mean.tolist() == [0, 0] and plain.std.tolist() == [1, 1]
    assert batch_norm_gaussian(nn.BatchNorm2d(2, track_running_stats=False)) is None
    assert batch_norm_gaussian(nn.ReLU()) is None
