"""Mean, variance and interval of each element of a tensor, and how operations change them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dynadfq.graph.activations import is_activation
from dynadfq.graph.gaussian import clipping, moments_after

INTERVAL_POINTS = 257  # at which an activation is evaluated to find its extremes on an interval
_GATES = (nn.Sigmoid, nn.Hardsigmoid)


@dataclass(frozen=True)
class Statistics:
    """Mean, variance and interval of each element of a tensor of one image; NaN if unknown.

    Each part has the tensor's shape, (1, C, H, W) or (1, features).
    """

    mean: Tensor
    variance: Tensor
    low: Tensor
    high: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, variance, low, high."""
        return self.mean, self.variance, self.low, self.high


def unknown(value: Any) -> Any:
    """Return unknown statistics of a tensor's shape; anything but a tensor as it is."""
    if not isinstance(value, Tensor):
        return value
    nan = torch.full_like(value, torch.nan, dtype=torch.float32)
    return Statistics(nan, nan, nan, nan)


def normal(mean: Tensor, variance: Tensor, sigmas: float) -> Statistics:
    """Return normal variables whose interval is mean ± ``sigmas`` standard deviations."""
    reach = sigmas * variance.sqrt()
    return Statistics(mean, variance, mean - reach, mean + reach)


def is_pointwise(module: nn.Module) -> bool:
    """Return whether ``activated`` can follow a module: an activation, or a gate's sigmoid."""
    return is_activation(module) or isinstance(module, _GATES)


def activated(activation: nn.Module, x: Statistics) -> Statistics:
    """Return the statistics of a pointwise function of normal variables."""
    shape = x.mean.shape
    x = _one_position(x)
    mean, variance = moments_after(activation, x.mean, x.variance)
    low, high = _extremes(activation, x.low, x.high)
    return Statistics(*(part.expand(shape).contiguous() for part in (mean, variance, low, high)))


def _one_position(x: Statistics) -> Statistics:
    """Reduce a map that is the same at all positions, as after a BatchNorm, to 1 × 1."""
    if x.mean.dim() != 4 or not all(bool((part == part[..., :1, :1]).all()) for part in x.parts):
        return x
    return Statistics(*(part[..., :1, :1] for part in x.parts))


def _extremes(activation: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of a pointwise function on each interval."""
    clip = clipping(activation)
    if clip is not None:
        return low.clamp(*clip), high.clamp(*clip)
    least = activation(low)
    most = least
    for fraction in torch.linspace(0, 1, INTERVAL_POINTS).tolist():
        value = activation(low + fraction * (high - low))
        least = least.minimum(value)
        most = most.maximum(value)
    return least, most


def added(a: Any, b: Any, sigmas: float) -> Statistics:
    """Return the sum of independent normal variables, or of one and a constant."""
    if isinstance(a, Statistics) and isinstance(b, Statistics):
        return normal(a.mean + b.mean, a.variance + b.variance, sigmas)
    x, constant = (a, b) if isinstance(a, Statistics) else (b, a)
    mean = x.mean + constant
    return Statistics(mean, x.variance.expand_as(mean), x.low + constant, x.high + constant)


def multiplied(a: Statistics, b: Statistics) -> Statistics:
    """Return the product of independent variables, as of a feature map and its gate."""
    products = torch.stack([x * y for x in (a.low, a.high) for y in (b.low, b.high)])
    variance = a.variance * b.variance + a.variance * b.mean.square() + b.variance * a.mean.square()
    return Statistics(a.mean * b.mean, variance, products.amin(dim=0), products.amax(dim=0))


def variance_after(layer: nn.Module, variance: Tensor) -> Tensor:
    """Return the variance of a layer's outputs if its inputs are independent."""
    squared = {"weight": layer.weight.square()}  # type: ignore[operator]
    if isinstance(layer.bias, Tensor):
        squared["bias"] = torch.zeros_like(layer.bias)
    result: Tensor = functional_call(layer, squared, (variance,))
    return result
