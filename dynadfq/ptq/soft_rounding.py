"""Learned rounding: each weight lies between its two neighbouring codes until it is rounded.

Equations are numbered as in AdaRound (Nagel et al., ICML 2020, arXiv 2004.10568).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynadfq.quant.config import Granularity
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.quantize import (
    QParams,
    broadcast_first,
    choose_weight_qparams,
    quantize,
    weight_levels,
    weight_rows,
)

ZETA = 1.1  # upper end of the stretched sigmoid
GAMMA = -0.1  # lower end
SHRINKS = 80  # candidates of the scale search, one percent apart
NORM = 2.4  # exponent of its error


def rectified_sigmoid(v: Tensor) -> Tensor:
    """Return how far a weight is rounded up, 0 … 1: a sigmoid that reaches both (Eq. 23).

    >>> rectified_sigmoid(torch.tensor([-3.0, 0.0, 3.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return (torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def inverse_rectified_sigmoid(share: Tensor) -> Tensor:
    """Return the v at which ``rectified_sigmoid`` is ``share``, of 0 … 1."""
    return -torch.log((ZETA - GAMMA) / (share - GAMMA) - 1)


def rounding_regularizer(share: Tensor, beta: float) -> Tensor:
    """Return Σ (1 - |2h - 1|^β) over all weights (Eq. 24): 0 where each h is 0 or 1.

    >>> rounding_regularizer(torch.tensor([0.0, 0.5, 1.0]), 2.0)
    tensor(1.)
    """
    return (1 - (2 * share - 1).abs().pow(beta)).sum()


@torch.no_grad()
def least_error_qparams(
    weight: Tensor, bits: int, granularity: Granularity = "channel", symmetric: bool = False
) -> QParams:
    """Return (scale, quant_min) of a weight with the least mean |w - ŵ|^2.4 of shrunk ranges.

    The ranges are (1 - i/100) · (smallest, largest weight) for i = 0 … 79, with an i per channel or
    per tensor (the search of BRECQ's released code).

    Args:
        weight: (out, …).
        bits: bit-width.
        granularity: "channel" gives (out, 1, …) qparams, "tensor" (1, 1, …).
        symmetric: whether codes are symmetric around 0.
    """
    rows = weight_rows(weight, granularity)
    low = rows.amin(dim=1, keepdim=True)
    high = rows.amax(dim=1, keepdim=True)
    n = weight_levels(bits, symmetric).to(rows)
    best_scale, best_min = choose_weight_qparams(low, high, bits, symmetric)
    least = torch.full_like(low, math.inf)
    for i in range(SHRINKS):
        shrunk = (low * (1 - i / 100), high * (1 - i / 100))
        scale, quant_min = choose_weight_qparams(*shrunk, bits, symmetric)
        values = quantize(rows, scale, quant_min, n) * scale
        error = (values - rows).abs().pow(NORM).mean(dim=1, keepdim=True)
        better = error < least
        least = torch.where(better, error, least)
        best_scale = torch.where(better, scale, best_scale)
        best_min = torch.where(better, quant_min, best_min)
    return broadcast_first(best_scale, weight.dim()), broadcast_first(best_min, weight.dim())


class SoftRounding:
    """A weight whose codes lie between floor and ceiling; at first it is the float weight.

    Learned are ``v``, of which the rounding follows, and ``log_growth``, the logarithm of the scale
    relative to the initial one: scales of channels and of widths differ by orders of magnitude.

    Args:
        weight: (out, …) float weight.
        bits: bit-width.
        qparams: (scale, quant_min), (out or 1, 1, …) each.
        symmetric: whether codes are symmetric around 0.
    """

    def __init__(
        self, weight: Tensor, bits: int, qparams: QParams, symmetric: bool = False
    ) -> None:
        self.initial_scale, self.quant_min = qparams
        self.log_growth = torch.zeros_like(self.initial_scale)
        position = weight.detach() / self.initial_scale
        self.floor = torch.floor(position)
        self.levels = weight_levels(bits, symmetric).to(position)
        self.v = inverse_rectified_sigmoid(position - self.floor).requires_grad_()

    @classmethod
    def of(cls, layer: QuantizedLayer) -> SoftRounding:
        """Return a layer's weight with the qparams of least error, not yet rounded."""
        qparams = least_error_qparams(
            layer.weight, layer.weight_bits, layer.granularity, layer.symmetric
        )
        return cls(layer.weight, layer.weight_bits, qparams, layer.symmetric)

    @property
    def scale(self) -> Tensor:
        """The scale, (out or 1, 1, …): above 0, however far its logarithm is moved."""
        return self.initial_scale * self.log_growth.exp()

    @property
    def share(self) -> Tensor:
        """h, how far each weight is rounded up."""
        return rectified_sigmoid(self.v)

    def weight(self) -> Tensor:
        """Return the soft weight, differentiable in ``v`` (Eq. 22)."""
        return self._clipped(self.floor + self.share) * self.scale

    def codes(self) -> Tensor:
        """Return the codes, rounded up where h ≥ 0.5."""
        return self._clipped(self.floor + (self.v.detach() >= 0))

    def _clipped(self, code: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(code, self.quant_min), self.quant_min + self.levels)
