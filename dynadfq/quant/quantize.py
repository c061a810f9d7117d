"""Arithmetic of uniform quantization: integer codes, their values, and gradients through them.

A tensor with range [low, high] at b bits has ``levels = 2**b - 1`` steps of size ``scale = (high -
low) / levels``. Its codes are the integers ``quant_min … quant_min + levels`` with ``quant_min =
round(low / scale)``, so that 0.0 always has code 0 (the zero point is ``-quant_min``) and a value
is ``scale * code``. With low = 0, as after every ReLU, this is DynaDFQ, Eq. 2; otherwise the range
is shifted by less than half a step.

Symmetric weights (scheme ``integer``) have ``scale = max|w| / n`` and the codes ``-n … n`` with
``n = 2**(b - 1) - 1``: ``quant_min`` is constant, and the zero point of a signed integer is 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dynadfq.quant.config import Granularity

SMALLEST_RANGE = 1e-8

QParams = tuple[Tensor, Tensor]  # (scale, quant_min)


def levels(bits: Tensor | int) -> Tensor:
    """Return the number of steps between codes, ``2**bits - 1``, as a float tensor.

    >>> levels(torch.tensor([2, 8]))
    tensor([  3., 255.])
    """
    if isinstance(bits, int):
        return torch.tensor(2.0**bits - 1)
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
    """Return the nearest integer codes of x, in the float type of x, clipped to the range."""
    return torch.minimum(torch.maximum(torch.round(x / scale), quant_min), quant_min + levels)


def broadcast_first(values: Tensor, dimensions: int) -> Tensor:
    """Return (N,) values as (N, 1, …), to broadcast against a tensor of so many dimensions.

    >>> broadcast_first(torch.ones(2), 4).shape
    torch.Size([2, 1, 1, 1])
    """
    return values.view(-1, *[1] * (dimensions - 1))


def fake_quantize_reference(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Return the quantized values of x, with straight-through gradients to x, low and high.

    The tested reference of ``FakeQuantize`` (fake_quantize.py). Rounding has gradient 1;
    comparisons are strict and made on codes, so that the zeros of a ReLU, which lie exactly on the
    lower bound, pass their whole gradient to x (``clamp`` and ``maximum`` would share it).
    """

    def rounded(v: Tensor) -> Tensor:
        return v + (torch.round(v) - v).detach()

    n = levels(bits).to(x)
    scale = (high - low).clamp(min=SMALLEST_RANGE) / n
    quant_min = rounded(low / scale)
    quant_max = quant_min + n
    code = rounded(x / scale)
    code = torch.where(code > quant_max, quant_max, code)
    return torch.where(code < quant_min, quant_min, code) * scale


def weight_rows(weight: Tensor, granularity: Granularity) -> Tensor:
    """Return a weight with a row per pair of qparams, (out, …) or (1, …), without gradient."""
    weight = weight.detach()
    return weight.flatten(1) if granularity == "channel" else weight.reshape(1, -1)


def weight_levels(bits: int, symmetric: bool = False) -> Tensor:
    """Return a weight's largest code minus its smallest, as a float tensor.

    >>> weight_levels(8), weight_levels(8, symmetric=True)
    (tensor(255.), tensor(254.))
    """
    return levels(bits) - 1 if symmetric else levels(bits)


def choose_weight_qparams(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> QParams:
    """Return (scale, quant_min) of weights within [low, high]; shapes broadcast.

    >>> choose_weight_qparams(torch.tensor(-0.5), torch.tensor(1.27), 8, symmetric=True)
    (tensor(0.0100), tensor(-127.))
    """
    if not symmetric:
        return choose_qparams(low, high, bits)
    largest = (weight_levels(bits, symmetric) / 2).to(low)
    scale = torch.maximum(-low, high).clamp(min=SMALLEST_RANGE) / largest
    return scale, -largest.expand_as(scale)


def weight_qparams(
    weight: Tensor, bits: int, granularity: Granularity = "channel", symmetric: bool = False
) -> QParams:
    """Return (scale, quant_min) of a weight's smallest and largest values.

    Args:
        weight: (out, …).
        bits: bit-width.
        granularity: "channel" gives (out, 1, …) qparams, "tensor" (1, 1, …).
        symmetric: whether codes are symmetric around 0.
    """
    axes = tuple(range(granularity == "channel", weight.dim()))
    values = weight.detach()
    low, high = values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)
    return choose_weight_qparams(low, high, bits, symmetric)


def quantize_weight(
    weight: Tensor, bits: int, qparams: QParams | None = None, symmetric: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the codes of a weight, integers (out, …) in float, and their scale, (out, 1, …).

    Args:
        weight: (out, …).
        bits: bit-width.
        qparams: (scale, quant_min); left out, those of each output channel's extremes.
        symmetric: whether codes are symmetric around 0.
    """
    scale, quant_min = qparams or weight_qparams(weight, bits, symmetric=symmetric)
    n = weight_levels(bits, symmetric).to(weight)
    return quantize(weight.detach(), scale, quant_min, n), scale


def fake_quantize_weight(
    weight: Tensor, bits: int, qparams: QParams | None = None, symmetric: bool = False
) -> Tensor:
    """Return the quantized values of a weight, with a straight-through gradient to every weight."""
    values: Tensor = _FakeQuantizeWeight.apply(weight, bits, qparams, symmetric)
    return values


class _FakeQuantizeWeight(torch.autograd.Function):
    """Straight-through estimator without the extra passes of ``hard + (soft - soft.detach())``."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bits: int, qparams: QParams | None, symmetric: bool
    ) -> Tensor:
        codes, scale = quantize_weight(weight, bits, qparams, symmetric)
        return codes.mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return grad, None, None, None
