"""Arithmetic of uniform quantization: integer codes, their values, and gradients through them.

A tensor with range [low, high] at b bits has ``levels = 2**b - 1`` steps of size ``scale = (high -
low) / levels``. Its codes are the integers ``quant_min … quant_min + levels`` with ``quant_min =
round(low / scale)``, so that 0.0 is always code 0 (the zero point is ``-quant_min``) and a value is
``scale * code``. With low = 0, as after every ReLU, this is DynaDFQ, Eq. 2; else the grid is
shifted by less than half a step.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

SMALLEST_RANGE = 1e-8

QParams = tuple[Tensor, Tensor]  # (scale, quant_min)
Granularity = Literal[
    "channel", "tensor"
]  # what shares a weight grid: an output channel, or the whole weight


def levels(bits: Tensor | int) -> Tensor:
    """Number of steps of a grid, ``2**bits - 1``, as a float tensor.

    >>> levels(torch.tensor([2, 8]))
    tensor([  3., 255.])
    """
    bits = torch.as_tensor(bits)
    return torch.exp2(bits if bits.is_floating_point() else bits.float()).round() - 1


def choose_qparams(low: Tensor, high: Tensor, bits: Tensor | int) -> QParams:
    """Return (scale, quant_min) of the range [low, high]; shapes broadcast.

    >>> scale, quant_min = choose_qparams(torch.tensor(-0.5), torch.tensor(1.0), 3)
    >>> scale.item(), quant_min.item()
    (0.2142857164144516, -2.0)
    """
    scale = (high - low).clamp(min=SMALLEST_RANGE) / levels(bits).to(low.device)
    return scale, torch.round(low / scale)


def quantize(x: Tensor, scale: Tensor, quant_min: Tensor, levels: Tensor) -> Tensor:
    """Nearest integer codes of x on a grid, in the float type of x; values outside take the
    outermost code.
    """
    return torch.minimum(torch.maximum(torch.round(x / scale), quant_min), quant_min + levels)


def fake_quantize_reference(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Values of x on its grid, with straight-through gradients to x, low and high, written to be
    read.

    The tested reference of ``FakeQuantize`` (fake_quantize.py). Rounding has gradient 1;
    comparisons are strict and made on codes, so that the zeros of a ReLU, which lie exactly on the
    lower bound, pass their whole gradient to x (``clamp`` and ``maximum`` would share it).
    """

    def rounded(v: Tensor) -> Tensor:
        return v + (torch.round(v) - v).detach()

    n = levels(bits).to(x)
    scale = (high - low).clamp(min=SMALLEST_RANGE) / n
    quant_min = rounded(low / scale)
    code = rounded(x / scale)
    code = torch.where(
        code < quant_min, quant_min, torch.where(code > quant_min + n, quant_min + n, code)
    )
    return code * scale


def weight_qparams(weight: Tensor, bits: int, granularity: Granularity = "channel") -> QParams:
    """Return (scale, quant_min) from the smallest and largest weight: of each output channel, or of
    all.

    Both are (out, 1, …) for a grid an output channel, (1, 1, …) for one grid.
    """
    flat = (
        weight.detach().flatten(1) if granularity == "channel" else weight.detach().reshape(1, -1)
    )
    shape = (-1, *[1] * (weight.dim() - 1))
    return choose_qparams(flat.amin(dim=1).view(shape), flat.amax(dim=1).view(shape), bits)


def quantize_weight(
    weight: Tensor, bits: int, grid: QParams | None = None
) -> tuple[Tensor, Tensor]:
    """Return (codes, scale) of a weight, one grid an output channel: integers (out, …) in float,
    and (out, 1, …).

    Without a ``grid``, it is that of the weight's own extremes.
    """
    scale, quant_min = weight_qparams(weight, bits) if grid is None else grid
    return quantize(weight.detach(), scale, quant_min, levels(bits).to(weight)), scale


def fake_quantize_weight(weight: Tensor, bits: int, grid: QParams | None = None) -> Tensor:
    """Weight values on the grid of ``quantize_weight``; every weight passes its gradient on
    unchanged.
    """
    values: Tensor = _FakeQuantizeWeight.apply(weight, bits, grid)
    return values


class _FakeQuantizeWeight(torch.autograd.Function):
    """Straight-through, without the two passes over the weight of ``hard + (soft -
    soft.detach())``.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int, grid: QParams | None) -> Tensor:
        codes, scale = quantize_weight(weight, bits, grid)
        return codes.mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None
