"""Normal distributions that BatchNorm layers leave behind, and what an activation makes of their
moments.

A BatchNorm output has mean β and standard deviation |γ| in each channel, exactly so over the
training data; that it is normal is DFQ's assumption (Nagel et al., ICCV 2019, arXiv 1906.04721,
Sec. 4.2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

NODES = 257  # of the quadrature: where an activation has a kink, its mean is off by at most 2e-4 standard deviations
REACH = 8.0  # standard deviations on each side


class Gaussian(NamedTuple):
    """A normal distribution in each channel, (C,) each."""

    mean: Tensor
    std: Tensor


def batch_norm_gaussian(layer: nn.Module) -> Gaussian | None:
    """Distribution of a BatchNorm's output under its running statistics; None for any other
    module.
    """
    if not isinstance(layer, nn.modules.batchnorm._BatchNorm) or layer.running_mean is None:
        return None
    if layer.weight is None or layer.bias is None:
        return Gaussian(torch.zeros_like(layer.running_mean), torch.ones_like(layer.running_mean))
    return Gaussian(layer.bias.detach().clone(), layer.weight.detach().abs())


def batch_norm_gaussians(network: fx.GraphModule) -> dict[str, Gaussian]:
    """Distribution of the output of every BatchNorm that a graph calls, by its name."""
    called = {str(node.target) for node in network.graph.nodes if node.op == "call_module"}
    found = {name: batch_norm_gaussian(network.get_submodule(name)) for name in sorted(called)}
    return {name: gaussian for name, gaussian in found.items() if gaussian is not None}


def clipped_moments(
    mean: Tensor, variance: Tensor, low: float = -math.inf, high: float = math.inf
) -> tuple[Tensor, Tensor]:
    """Mean and variance of a normal variable clipped to [low, high], which a ReLU does with low 0
    (DFQ, appendix C).

    With a = (low - μ)/σ and h = (high - μ)/σ, the first two moments are

        m₁ = σ(φ(a) - φ(h)) + μZ + low·Φ(a) + high·(1 - Φ(h)),                                    Z
        = Φ(h) - Φ(a) m₂ = (μ² + σ²)Z + 2μσ(φ(a) - φ(h)) + σ²(aφ(a) - hφ(h)) + low²·Φ(a) + high²·(1
        - Φ(h))

    >>> [round(moment.item(), 4) for moment in clipped_moments(torch.tensor(0.0), torch.tensor(1.0), low=0.0)]
    [0.3989, 0.3408]
    """
    mu, sigma = mean.double(), variance.double().clamp(min=1e-24).sqrt()
    first, second = mu.new_zeros(()), mu.new_zeros(())
    below, density_low, edge_low = first, first, first
    above, density_high, edge_high = first, first, first
    if low > -math.inf:
        a = (low - mu) / sigma
        below, density_low = torch.special.ndtr(a), _density(a)
        edge_low = a * density_low
        first, second = first + low * below, second + low**2 * below
    if high < math.inf:
        h = (high - mu) / sigma
        above, density_high = torch.special.ndtr(-h), _density(h)
        edge_high = h * density_high
        first, second = first + high * above, second + high**2 * above
    inside, slope = 1 - below - above, sigma * (density_low - density_high)
    first = first + slope + mu * inside
    second = (
        second + (mu**2 + sigma**2) * inside + 2 * mu * slope + sigma**2 * (edge_low - edge_high)
    )
    return first.to(mean), (second - first**2).clamp(min=0).to(mean)


def moments_after(activation: nn.Module, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of a pointwise activation of normal variables: (B, C, …) each to the same.

    Closed form for the ReLU family, else by quadrature over ±8 standard deviations.
    """
    clip = clipping(activation)
    if clip is not None:
        return clipped_moments(mean, variance, *clip)
    z = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64, device=mean.device)
    weights = _density(z)
    sigma, first, second = variance.sqrt(), torch.zeros_like(mean), torch.zeros_like(mean)
    for point, share in zip(z.to(mean), (weights / weights.sum()).to(mean), strict=True):
        value = activation(mean + point * sigma)
        first, second = first + share * value, second + share * value.square()
    return first, (second - first.square()).clamp(min=0)


def clipping(activation: nn.Module) -> tuple[float, float] | None:
    """The bounds to which an activation clips its input; None for one that does something else."""
    if isinstance(activation, nn.ReLU):
        return 0.0, math.inf
    if isinstance(activation, nn.Hardtanh):  # ReLU6 is one
        return float(activation.min_val), float(activation.max_val)
    return None


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)
