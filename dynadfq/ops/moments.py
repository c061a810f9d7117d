"""Mean and variance, differentiable, at the cost of two passes over the values.

``torch.var_mean`` takes six times as long on a CPU in the channels-last format
(docs/performance.md). Deviations are taken from the mean before they are squared, so that a mean
far from zero loses no precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK = 2**18  # elements: six float32 tensors of this size take 6 MiB of a shared cache


def chunks(x: torch.Tensor) -> Iterator[slice]:
    """Yield slices of consecutive images that fit a CPU's cache; on a GPU one slice of all.

    Several elementwise operations in a row then find their operands in the cache.

    >>> list(chunks(torch.zeros(3, 200_000)))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    images = len(x)
    if x.device.type == "cpu":
        images = CHUNK * len(x) // max(1, x.numel())
    images = max(1, images)
    for start in range(0, len(x), images):
        yield slice(start, min(start + images, len(x)))


def moments(x: Tensor, dims: tuple[int, ...], correction: int = 1) -> tuple[Tensor, Tensor]:
    """Return mean and variance of x over ``dims``, differentiable.

    Args:
        x: values.
        dims: axes to reduce.
        correction: subtracted from the count that the variance divides by.

    Returns:
        Mean and variance without the reduced axes, at least in float32.

    >>> [m.tolist() for m in moments(torch.tensor([[0.0, 2.0]]), (1,))]
    [[1.0], [2.0]]
    """
    mean, variance = _Moments.apply(x, dims, correction)
    return mean, variance


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dims: tuple[int, ...], correction: int
    ) -> tuple[Tensor, Tensor]:
        mean, variance = _biased(x, dims)
        count = x.numel() // max(1, mean.numel())
        ctx.save_for_backward(x, mean)
        ctx.count = count
        ctx.freedom = count - correction
        return mean.squeeze(dims), variance.squeeze(dims) * (count / ctx.freedom)

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_variance: Tensor) -> tuple[Tensor, None, None]:
        x, mean = ctx.saved_tensors
        slope = grad_variance.reshape(mean.shape) * (2 / ctx.freedom)
        grad = torch.addcmul(grad_mean.reshape(mean.shape) / ctx.count - slope * mean, x, slope)
        return grad.to(x.dtype), None, None


def _biased(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and mean squared deviation over ``dims``, which are kept as axes of length 1."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if dims == (0, *range(2, x.dim())):  # as BatchNorm itself does in training
        mean, variance = torch.batch_norm_update_stats(x.to(wide), None, None, 0.0)
        shape = (1, -1, *[1] * (x.dim() - 2))
        return mean.view(shape), variance.view(shape)
    mean = x.mean(dims, keepdim=True, dtype=wide)
    if 0 in dims:
        return mean, (x - mean).square_().mean(dims, keepdim=True)
    parts = [(x[part] - mean[part]).square_().mean(dims, keepdim=True) for part in chunks(x)]
    return mean, torch.cat(parts)
