"""Mean and variance, differentiable, at the multiplier of two looks at the values
(docs/performance.md).

``torch.var_mean`` costs six times as much on a CPU in the channels-last layout. Deviations are
taken from the mean before they are squared, so that a mean far from zero costs no digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK = 2**16  # elements: six float32 tensors of this size fit a second-level cache of 2 MB


def chunks(x: torch.Tensor) -> Iterator[slice]:
    """Slices of consecutive images that cover (B, …) values; all at once where there is no such
    cache, as on a GPU.

    >>> list(chunks(torch.zeros(3, 40_000)))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    images = (
        max(1, CHUNK * len(x) // max(1, x.numel())) if x.device.type == "cpu" else max(1, len(x))
    )
    for start in range(0, len(x), images):
        yield slice(start, min(start + images, len(x)))


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dims: tuple[int, ...], correction: int
    ) -> tuple[Tensor, Tensor]:
        mean, variance = _biased(x, dims)
        count = x.numel() // max(1, mean.numel())
        ctx.save_for_backward(x, mean)
        ctx.count, ctx.freedom = count, count - correction
        return mean.squeeze(dims), variance.squeeze(dims) * (count / (count - correction))

    @staticmethod
    def backward(ctx: Any, to_mean: Tensor, to_variance: Tensor) -> tuple[Tensor, None, None]:
        x, mean = ctx.saved_tensors
        slope = to_variance.reshape(mean.shape) * (2 / ctx.freedom)
        to_x = torch.addcmul(to_mean.reshape(mean.shape) / ctx.count - slope * mean, x, slope)
        return to_x.to(x.dtype), None, None


def moments(x: Tensor, dims: tuple[int, ...], correction: int = 1) -> tuple[Tensor, Tensor]:
    """Mean and variance of x over ``dims``, differentiable; the variance divides by the count less
    ``correction``.

    Both are float32 of a narrower x.

    >>> [m.tolist() for m in moments(torch.tensor([[0.0, 2.0]]), (1,))]
    [[1.0], [2.0]]
    """
    mean, variance = _Moments.apply(x, dims, correction)
    return mean, variance


def _biased(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and mean squared deviation over ``dims``, which are kept as axes of length 1."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if dims == (0, *range(2, x.dim())):  # what BatchNorm itself does in training
        mean, variance = torch.batch_norm_update_stats(x.to(wide), None, None, 0.0)
        shape = (1, -1, *[1] * (x.dim() - 2))
        return mean.view(shape), variance.view(shape)
    mean = x.mean(dims, keepdim=True, dtype=wide)
    if 0 in dims:
        return mean, (x - mean).square_().mean(dims, keepdim=True)
    return mean, torch.cat(
        [(x[part] - mean[part]).square_().mean(dims, keepdim=True) for part in chunks(x)]
    )
