"""Normal distributions of BatchNorm outputs, and the moments of activations of them.

A BatchNorm output has mean β and standard deviation |γ| in each channel, exactly so over the
training data; that it is normal is DFQ's assumption (Nagel et al., ICCV 2019, arXiv 1906.04721,
Sec. 4.2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

# Points of the quadrature: at an activation's kink its mean is off by at most 2e-4 standard
# deviations.
POINTS = 257
REACH = 8.0  # standard deviations on each side


class Gaussian(NamedTuple):
    """A normal distribution in each channel, (C,) each."""

    mean: Tensor
    std: Tensor


def batch_norm_gaussian(layer: nn.Module | None) -> Gaussian | None:
    """Return the output distribution of a BatchNorm with running statistics, else None."""
    if not isinstance(layer, nn.modules.batchnorm._BatchNorm) or layer.running_mean is None:
        return None
    mean, std = torch.zeros_like(layer.running_mean), torch.ones_like(layer.running_mean)
    if layer.bias is not None:
        mean = layer.bias.detach().clone()
    if layer.weight is not None:
        std = layer.weight.detach().abs()
    return Gaussian(mean, std)


def batch_norm_gaussians(network: fx.GraphModule) -> dict[str, Gaussian]:
    """Return the output distribution of every BatchNorm that a graph calls, by its name."""
    called = {str(node.target) for node in network.graph.nodes if node.op == "call_module"}
    found = {name: batch_norm_gaussian(network.get_submodule(name)) for name in sorted(called)}
    return {name: gaussian for name, gaussian in found.items() if gaussian is not None}


def clipped_moments(
    mean: Tensor, variance: Tensor, low: float = -math.inf, high: float = math.inf
) -> tuple[Tensor, Tensor]:
    """Return mean and variance of a normal variable clipped to [low, high] (DFQ, appendix C).

    With a = (low - μ)/σ, h = (high - μ)/σ and Z = Φ(h) - Φ(a), the first two moments are

        m₁ = σ(φ(a) - φ(h)) + μZ + low·Φ(a) + high·(1 - Φ(h)),
        m₂ = (μ² + σ²)Z + 2μσ(φ(a) - φ(h)) + σ²(aφ(a) - hφ(h)) + low²·Φ(a) + high²·(1 - Φ(h)).

    A ReLU has low 0.

    >>> moments = clipped_moments(torch.tensor(0.0), torch.tensor(1.0), low=0.0)
    >>> [round(moment.item(), 4) for moment in moments]
    [0.3989, 0.3408]
    """
    mu = mean.double()
    sigma = variance.double().clamp(min=1e-24).sqrt()
    zero = mu.new_zeros(())
    first, second = zero, zero
    below, density_low, edge_low = zero, zero, zero
    above, density_high, edge_high = zero, zero, zero
    if low > -math.inf:
        a = (low - mu) / sigma
        below = torch.special.ndtr(a)
        density_low = _density(a)
        edge_low = a * density_low
        first = first + low * below
        second = second + low**2 * below
    if high < math.inf:
        h = (high - mu) / sigma
        above = torch.special.ndtr(-h)
        density_high = _density(h)
        edge_high = h * density_high
        first = first + high * above
        second = second + high**2 * above
    inside = 1 - below - above
    slope = sigma * (density_low - density_high)
    first = first + slope + mu * inside
    second = (
        second + (mu**2 + sigma**2) * inside + 2 * mu * slope + sigma**2 * (edge_low - edge_high)
    )
    return first.to(mean), (second - first**2).clamp(min=0).to(mean)


def moments_after(activation: nn.Module, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of a pointwise activation of normal variables.

    Closed form for the ReLU family, else by quadrature over ±8 standard deviations.

    Args:
        activation: a pointwise module.
        mean, variance: of its input, (B, C, …).
    """
    clip = clipping(activation)
    if clip is not None:
        return clipped_moments(mean, variance, *clip)
    z = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64, device=mean.device)
    weights = _density(z)
    sigma = variance.sqrt()
    first = torch.zeros_like(mean)
    second = torch.zeros_like(mean)
    for point, weight in zip(z.to(mean), (weights / weights.sum()).to(mean), strict=True):
        value = activation(mean + point * sigma)
        first = first + weight * value
        second = second + weight * value.square()
    return first, (second - first.square()).clamp(min=0)


def clipping(activation: nn.Module) -> tuple[float, float] | None:
    """Return the bounds to which an activation clips its input; None for any other."""
    if isinstance(activation, nn.ReLU):
        return 0.0, math.inf
    if isinstance(activation, nn.Hardtanh):  # ReLU6 is one
        return float(activation.min_val), float(activation.max_val)
    return None


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)
