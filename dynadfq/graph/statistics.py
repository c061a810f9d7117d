"""Mean, variance and interval of each element of a tensor, and what operations make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dynadfq.graph.activations import is_activation
from dynadfq.graph.gaussian import clipping, moments_after

INTERVAL_POINTS = 257  # at which an activation is evaluated, to find its extremes on an interval
_GATES = (nn.Sigmoid, nn.Hardsigmoid)


@dataclass(frozen=True)
class Statistics:
    """What is known of a tensor of one image, element by element; all have its shape, (1, C, H, W)
    or (1, features).

    What is unknown is NaN.
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
    """Statistics of a tensor of which nothing is known; sizes and the like stay what they are."""
    if not isinstance(value, Tensor):
        return value
    nothing = torch.full_like(value, torch.nan, dtype=torch.float32)
    return Statistics(nothing, nothing, nothing, nothing)


def normal(mean: Tensor, variance: Tensor, sigmas: float) -> Statistics:
    """Normal variables, whose interval reaches ``sigmas`` standard deviations to both sides."""
    reach = sigmas * variance.sqrt()
    return Statistics(mean, variance, mean - reach, mean + reach)


def is_pointwise(module: nn.Module) -> bool:
    """Whether a module is an activation or a gate's squashing function, which ``activated`` can
    follow.
    """
    return is_activation(module) or isinstance(module, _GATES)


def activated(activation: nn.Module, x: Statistics) -> Statistics:
    """What a pointwise function makes of normal variables, and of their interval."""
    x, shape = _one_position(x), x.mean.shape
    mean, variance = moments_after(activation, x.mean, x.variance)
    low, high = _extremes(activation, x.low, x.high)
    return Statistics(*(part.expand(shape).contiguous() for part in (mean, variance, low, high)))


def _one_position(x: Statistics) -> Statistics:
    """A map that is the same everywhere, as behind a BatchNorm, as a map of 1 × 1; any other as it
    is.
    """
    if x.mean.dim() != 4 or not all(bool((part == part[..., :1, :1]).all()) for part in x.parts):
        return x
    return Statistics(*(part[..., :1, :1] for part in x.parts))


def _extremes(activation: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of a pointwise function on each interval."""
    clip = clipping(activation)
    if clip is not None:
        return low.clamp(*clip), high.clamp(*clip)
    least = most = activation(low)
    for share in torch.linspace(0, 1, INTERVAL_POINTS).tolist():
        value = activation(low + share * (high - low))
        least, most = least.minimum(value), most.maximum(value)
    return least, most


def added(a: Any, b: Any, sigmas: float) -> Statistics:
    """Sum of independent variables, taken to be normal, or of one and a constant."""
    if isinstance(a, Statistics) and isinstance(b, Statistics):
        return normal(a.mean + b.mean, a.variance + b.variance, sigmas)
    x, constant = (a, b) if isinstance(a, Statistics) else (b, a)
    mean = x.mean + constant
    return Statistics(mean, x.variance.expand_as(mean), x.low + constant, x.high + constant)


def multiplied(a: Statistics, b: Statistics) -> Statistics:
    """Product of independent variables, as of a feature map and its gate."""
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    low, high = torch.stack(corners).amin(dim=0), torch.stack(corners).amax(dim=0)
    variance = a.variance * b.variance + a.variance * b.mean.square() + b.variance * a.mean.square()
    return Statistics(a.mean * b.mean, variance, low, high)


def variance_after(layer: nn.Module, variance: Tensor) -> Tensor:
    """Variance of a layer's outputs where its inputs are independent."""
    squared = {"weight": layer.weight.square()}  # type: ignore[operator]
    if isinstance(layer.bias, Tensor):
        squared["bias"] = torch.zeros_like(layer.bias)
    result: Tensor = functional_call(layer, squared, (variance,))
    return result
